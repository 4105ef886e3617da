"""Makes the figures of deep networks: trains what is missing, measures, draws."""

from collections.abc import Sequence
import dataclasses
import json
from pathlib import Path

from ml_collections import ConfigDict

from cnnpool.data.images import DataError
from cnnpool.devices import runtime
from cnnpool.eval import evaluate
from cnnpool.figures import __main__ as figures
from cnnpool.files import results
from cnnpool.files.atomic_write import write_text
from cnnpool.measuring.stages import ALL, INIT, TRAINED
from cnnpool.runs import run_config
from cnnpool.runs.run_config import ConfigMismatchError
from cnnpool.training import fit, packed
from cnnpool.training.checkpoints import CheckpointStore, checkpoint_directory
from cnnpool.training.fit import TrainingDivergedError
from cnnpool.training.image_progress import ImageProgress
from launch.deep_runs import CIFAR10, ITEMS, Run
from launch.measurement import THREE_SHUFFLES, Measurement

LEAST_EPOCHS = 5  # kept by a run, where all that are kept are to be measured
LEFT_OUT = (DataError, TrainingDivergedError)


@dataclasses.dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
      runs: working directories of trainings.
      measurements: a result file a network, shared by all items.
      checkpoints: packed networks.
      data_dir: TFDS's folder; None: TFDS_DATA_DIR.
    """

    runs: Path
    measurements: Path
    checkpoints: Path = Path("results/checkpoints")
    data_dir: str | None = None


def measured(
    run: Run,
    presets: Sequence[str],
    places: Places,
    *,
    measurement: Measurement = THREE_SHUFFLES,
    overwrite: bool,
) -> Path:
    """The file of a network's measurement; trains and measures what is missing.

    Taken is, by the first preset for which there is one: a measurement that is there, whether or
    not its networks are; a finished run; packed networks. Else the last preset is trained.

    Args:
      run: which networks.
      presets: "paper", "cpu", or both, the better first.
      places: where to look.
      measurement: how.
      overwrite: measure again.

    Raises:
      ConfigMismatchError: if what is there comes from another config.
      DataError: if the data is absent or damaged.
      TrainingDivergedError: if the training ends without a network.
    """
    exact = presets[-1] == "paper"
    for preset in presets:
        name, config = run.name(preset), run.config(preset)
        file = _file(name, measurement, places)
        if file.is_file() and not overwrite:
            _refuse_other_measurement(file, config, measurement, exact=exact)
            return file
        for folder in (places.runs / name, places.checkpoints / name):
            if _has_trained_networks(folder, measurement):
                found = run_config.load(folder).to_dict()
                _refuse_other_config(folder, found, config, exact=exact)
                return _measure(folder, file, run, measurement, places)
    workdir = places.runs / run.name(presets[-1])
    _train(run, run.config(presets[-1]), workdir, places)
    return _measure(workdir, _file(workdir.name, measurement, places), run, measurement, places)


def _file(name: str, measurement: Measurement, places: Places) -> Path:
    parts = [name, measurement.name] if measurement.name else [name]
    return places.measurements / f"{'-'.join(parts)}.nc"


def _train(run: Run, config: ConfigDict, workdir: Path, places: Places) -> None:
    if run.data == CIFAR10:
        config = run_config.with_data_dir(config, places.data_dir).lock()
    print(f"training {len(config.seeds)} x {run.model} on {run.data} in {workdir}")
    runtime.use_compilation_cache()
    fit.train(config, workdir)


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


def _has_trained_networks(folder: Path, measurement: Measurement) -> bool:
    if packed.is_packed(folder):
        return {INIT, TRAINED}.issuperset(measurement.stages)
    directory = checkpoint_directory(folder)
    if not directory.exists():
        return False
    epochs = run_config.load(folder).training.epochs
    with CheckpointStore(directory, read_only=True, progress_type=ImageProgress) as store:
        kept = LEAST_EPOCHS if ALL in measurement.stages else 1
        return epochs in store.epochs and len(store.epochs) >= kept


def _refuse_other_config(where: Path, found: dict, wanted: ConfigDict, *, exact: bool) -> None:
    """Raises ConfigMismatchError if networks are not those of a run.

    Any number of initializations will do, unless `exact`.
    """
    theirs = run_config.defining_fields(run_config.from_dict(found))
    ours = run_config.defining_fields(wanted)
    if not exact:
        ours["seeds"] = theirs["seeds"]
    changed = run_config.differences(theirs, ours)
    if changed:
        raise ConfigMismatchError(
            f"{where} holds networks of another config; there -> asked for:\n  "
            + "\n  ".join(changed)
            + "\nRename it, or give another --runs or --measurements."
        )


def _refuse_other_measurement(
    file: Path, wanted: ConfigDict, measurement: Measurement, *, exact: bool
) -> None:
    attributes = results.read(file).attrs
    _refuse_other_config(file, json.loads(attributes["config"]), wanted, exact=exact)
    record = json.loads(attributes["measurement"])
    asked = json.loads(json.dumps(measurement.record()))
    changed = run_config.differences({key: record.get(key) for key in asked}, asked)
    if changed:
        raise FileExistsError(
            f"{file} exists, with another measurement; there -> asked for: {', '.join(changed)}; "
            "give --overwrite to replace it"
        )


def reproduce(
    item: str, preset: str, places: Places, *, picture: Path, overwrite: bool
) -> Sequence[Path]:
    """One figure, and what it says as text in ITEM.md beside it.

    Networks whose data is not there, or whose training diverges, are left out and named.

    Args:
      item: a key of `launch.deep_runs.ITEMS`.
      preset: "paper" or "cpu".
      places: where to look and to write.
      picture: to draw.
      overwrite: measure again.

    Returns:
      The files that the figure was drawn from.

    Raises:
      DataError: if there is no network.
    """
    files, missing = [], []
    presets = ITEMS[item].presets(preset)
    for run, measurement in ITEMS[item].chosen(preset):
        try:
            files.append(
                measured(run, presets, places, measurement=measurement, overwrite=overwrite)
            )
        except LEFT_OUT as error:
            missing.append(f"left out {run.name(preset)}: {error}")
    if not files:
        raise DataError("\n".join(missing))
    text = "\n\n".join([figures.make(item, files, picture), *missing])
    write_text(picture.with_suffix(".md"), f"{text}\n")
    print(text)
    return files
