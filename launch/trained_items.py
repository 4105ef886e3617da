"""Results of the networks that an item shows: existing ones, or from jobs on this machine.

Networks are trained and measured by the same jobs as with `launch.sweep`, in the same folders.
Their results are collected in one file per network, which all items share.
"""

from collections.abc import Callable, Sequence
import dataclasses
from functools import partial
import json
from pathlib import Path

from ml_collections import ConfigDict
import xarray as xr

from cnnpool.data.images import DataError
from cnnpool.figures import items as figures
from cnnpool.files import results
from cnnpool.files.atomic_write import write_text
from cnnpool.launch import engine_choice
from cnnpool.launch.collected import collected
from cnnpool.launch.engines.engine import Engine, JobsFailedError
from cnnpool.launch.items import CIFAR10, ITEMS, SCALE1D, Run
from cnnpool.launch.job_states import FINISHED, JobState
from cnnpool.launch.jobs import Job, SweepError, unique
from cnnpool.launch.measurement import Measurement
from cnnpool.launch.submitting import submitting
from cnnpool.measuring.evaluation import evaluate
from cnnpool.measuring.names import INIT, TRAINED
from cnnpool.runs import run_config
from cnnpool.runs.run_config import ConfigMismatchError
from cnnpool.training import network_folder

OLD_RUNS = Path("runs")  # where earlier versions of launch.reproduce trained


@dataclasses.dataclass(frozen=True)
class Places:
    """The folders that are read and written.

    Attributes:
      jobs: root folder of all jobs, with a subfolder for each.
      measurements: folder of one result file per network, shared by all items.
      checkpoints: folder of packed networks.
      data_dir: TFDS's folder; None: TFDS_DATA_DIR.
    """

    jobs: Path
    measurements: Path
    checkpoints: Path = Path("results/checkpoints")
    data_dir: str | None = None


def job_of(run: Run, preset: str, measurement: Measurement, places: Places) -> Job:
    """The job that trains and measures a network."""
    return Job(run.config(preset), (measurement,)).with_data_dir(places.data_dir)


def source_of(
    run: Run,
    presets: Sequence[str],
    places: Places,
    *,
    measurement: Measurement,
    overwrite: bool,
) -> Callable[[], Path] | None:
    """How to obtain a network's result file; None if the network has to be trained first.

    For each preset in turn, looks for an existing result file, then for a finished job, then for
    packed networks, which are then measured.

    Args:
      run: the networks.
      presets: "paper", "cpu", or both, the better one first.
      places: where to look.
      measurement: what is measured.
      overwrite: whether to replace an existing result file.

    Returns:
      A function that creates the file if necessary and returns its path; the function raises
      DataError if the data of packed networks is absent or damaged.

    Raises:
      ConfigMismatchError: if an existing file or folder has another config.
      FileExistsError: if an existing file has another measurement.
    """
    exact = presets[-1] == "paper"
    for preset in presets:
        name, config = run.name(preset), run.config(preset)
        file = _file(name, measurement, places)
        if file.is_file() and not overwrite:
            _check_measurement(file, config, measurement, exact=exact)
            return partial(Path, file)
        job = job_of(run, preset, measurement, places)
        if job.is_finished(places.jobs / job.name):
            return partial(_collect, job, file, places)
        folder = places.checkpoints / name
        if network_folder.holds_networks(folder) and {INIT, TRAINED}.issuperset(measurement.stages):
            there = run_config.load(folder).to_dict()
            _check_config(folder, there, config, exact=exact)
            return partial(_measure, folder, file, run, measurement, places)
        check_old_folder(run, preset, job, places)
    return None


def _collect(job: Job, file: Path, places: Places) -> Path:
    results.write(file, measured_by(job, places.jobs))
    return file


def _file(name: str, measurement: Measurement, places: Places) -> Path:
    parts = [name, measurement.name] if measurement.name else [name]
    return places.measurements / f"{'-'.join(parts)}.nc"


def measured_by(job: Job, root: Path) -> xr.Dataset:
    """The result of a finished job with a single measurement.

    Raises:
      SweepError: if its file is damaged.
    """
    networks, _, damaged = collected([job], root)
    if damaged:
        raise SweepError(f"damaged; delete it and run the command again: {damaged[0]}")
    (dataset,) = networks.values()
    return dataset


def _measure(folder: Path, file: Path, run: Run, measurement: Measurement, places: Places) -> Path:
    print(f"measuring {folder} into {file}")
    evaluate(
        folder,
        file,
        stages=measurement.stages,
        transforms=measurement.transforms,
        settings=dict(measurement.settings),
        overwrite=True,
        data_dir=places.data_dir if run.data == CIFAR10 else None,
    )
    return file


def check_old_folder(run: Run, preset: str, job: Job, places: Places) -> None:
    """Raises ConfigMismatchError if there is a working directory with a name of old versions."""
    name = f"fig4-{preset}" if run.data == SCALE1D else run.name(preset)
    folder = places.jobs / job.name
    for old in (OLD_RUNS / name, places.jobs / name):
        if run_config.config_path(old).is_file() and not folder.exists():
            raise ConfigMismatchError(
                f"{old} is a working directory of an earlier version. Move it to the folder of its "
                f"job: mkdir -p {places.jobs} && mv {old} {folder} (or delete it)"
            )


def _check_config(where: Path, found: dict, wanted: ConfigDict, *, exact: bool) -> None:
    """Raises ConfigMismatchError if networks have another config than a run.

    Their seeds may differ unless `exact`.
    """
    theirs = run_config.defining_fields(run_config.from_dict(found))
    ours = run_config.defining_fields(wanted)
    if not exact:
        ours["seeds"] = theirs["seeds"]
    changed = run_config.differences(theirs, ours)
    if changed:
        raise ConfigMismatchError(
            f"{where} holds networks of another config; stored -> requested:\n  "
            + "\n  ".join(changed)
            + "\nRename it, or choose another --measurements."
        )


def _check_measurement(
    file: Path, wanted: ConfigDict, measurement: Measurement, *, exact: bool
) -> None:
    attributes = results.read(file).attrs
    _check_config(file, json.loads(attributes["config"]), wanted, exact=exact)
    record = json.loads(attributes["measurement"])
    asked = json.loads(json.dumps(measurement.record()))
    changed = run_config.differences({key: record.get(key) for key in asked}, asked)
    if changed:
        raise FileExistsError(
            f"{file} exists, with another measurement; stored -> requested: {', '.join(changed)}; "
            "use --overwrite to replace it"
        )


def run_here(jobs: Sequence[Job], root: Path, engine: Engine) -> dict[str, JobState]:
    """Runs all unfinished jobs, including those that failed before, until they end.

    Args:
      jobs: the jobs.
      root: the folder that contains their folders.
      engine: the engine for this machine.

    Returns:
      {job's name: its state afterwards}.
    """
    for job in jobs:
        job.check_names()
    with submitting(root) as noted:
        states = engine_choice.states(jobs, root)
        given = [one for one in states if one.state != FINISHED and not one.queued]
        try:
            if given:
                print(f"{len(given)} jobs in {root}; each writes its output to log.txt there")
                engine.start(given, root, noted)
        except JobsFailedError as error:
            print(error)
    return {one.job.name: one for one in engine_choice.states(jobs, root)}


def files_of(
    item: str, preset: str, places: Places, engine: Engine, *, overwrite: bool
) -> tuple[list[Path], list[str]]:
    """The result files of an item's networks; trains and measures those that are missing.

    Networks whose data is missing, or whose training fails, are skipped.

    Args:
      item: a key of `launch.items.TRAINED`.
      preset: "paper" or "cpu".
      places: the folders that are read and written.
      engine: trains what is missing.
      overwrite: whether to replace existing measurements.

    Returns:
      The files, and one line for each network that was skipped.
    """
    presets, pairs = ITEMS[item].presets(preset), ITEMS[item].chosen(preset)
    sources = [
        source_of(run, presets, places, measurement=measurement, overwrite=overwrite)
        for run, measurement in pairs
    ]
    jobs = [job_of(run, preset, measurement, places) for run, measurement in pairs]
    lacking = [job for job, source in zip(jobs, sources, strict=True) if source is None]
    # Before anything is measured here, since this process would then hold an accelerator's memory.
    states = run_here(unique(lacking), places.jobs, engine) if lacking else {}
    files, left_out = [], []
    for (run, measurement), job, source in zip(pairs, jobs, sources, strict=True):
        name = run.name(preset)
        try:
            if source is not None:
                files.append(source())
            elif job.is_finished(places.jobs / job.name):
                files.append(_collect(job, _file(name, measurement, places), places))
            else:
                state = states[job.name]
                left_out.append(f"skipped {name}: {state.detail or state.state}")
        except DataError as error:
            left_out.append(f"skipped {name}: {error}")
    return files, left_out


def reproduce(
    item: str, preset: str, places: Places, engine: Engine, *, picture: Path, overwrite: bool
) -> Sequence[Path]:
    """Draws one figure, and writes its text to ITEM.md beside it.

    Args:
      item: a key of `launch.items.TRAINED`.
      preset: "paper" or "cpu".
      places: the folders that are read and written.
      engine: trains what is missing.
      picture: the file of the figure.
      overwrite: whether to replace existing measurements.

    Returns:
      The result files that the figure was drawn from.

    Raises:
      DataError: if all networks were skipped.
    """
    files, missing = files_of(item, preset, places, engine, overwrite=overwrite)
    if not files:
        raise DataError("\n".join(missing))
    text = "\n\n".join([figures.make(item, files, picture), *missing])
    write_text(picture.with_suffix(".md"), f"{text}\n")
    print(text)
    return files
