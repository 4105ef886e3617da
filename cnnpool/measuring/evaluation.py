"""Measures the networks of a run into a file; what is there already is not measured again."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
import xarray as xr

from cnnpool import command_line
from cnnpool.devices import distributed, numerics
from cnnpool.files import results
from cnnpool.importing.folder import is_imported
from cnnpool.measuring import image_run, imported_run
from cnnpool.measuring import run as measuring
from cnnpool.measuring.image_settings import Settings
from cnnpool.measuring.journal import Journal, of_parts
from cnnpool.measuring.transforms import parse_transforms
from cnnpool.runs import run_config


def evaluate(
    workdir: Path,
    out: Path,
    *,
    stages: Sequence[str],
    transforms: Sequence[str],
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    data: str | None = None,
    data_dir: str | None = None,
) -> xr.Dataset:
    """Measures a run into a file; a file that holds this measurement is read instead.

    Args:
      workdir: of the run, or a folder that cnnpool.pack or cnnpool.import_weights made.
      out: the netCDF file.
      stages: "init", "trained", "last", epochs, or "all".
      transforms: names of transforms.
      overwrite: replace a file that holds something else.
      settings: fields of `Settings` that differ from its defaults; of simple CNNs `draws` alone,
        instead of the config's `measurement.draws`.
      data: where the images of an imported network come from, a name of
        `cnnpool.measuring.measured_data`; other networks have data of their own.
      data_dir: instead of the config's `data.data_dir`.

    Raises:
      ValueError: if something is asked for that these networks, or drawn data, do not have, or JAX
        is set so that other numbers would come out.
      FileExistsError: if `out` holds something else.
      CheckpointError: if a checkpoint is absent, damaged or not trained to the end.
      PackedError, ImportedError: if such a folder is damaged.
      DataError: if the data of a deep run is absent or damaged.
    """
    numerics.refuse_others()
    config = run_config.load(workdir, data_dir=data_dir)
    given = dict(settings or {})
    measure: Callable[[Journal], xr.Dataset]
    if run_config.is_deep(config):
        config = _with_data(config, data, imported=is_imported(workdir))
        run = imported_run if is_imported(workdir) else image_run
        deep = (workdir, config, stages, transforms, Settings(**given))
        record = run.measurement_record(*deep)
        measure = partial(run.measure_run, *deep)
    else:
        _with_data(config, data, imported=False)
        _set_draws(config, given)
        names = parse_transforms(",".join(transforms))
        record = measuring.measurement_record(workdir, config, stages, names)
        options = {"config": config, "stages": stages, "transforms": names}

        def measure(_: Journal) -> xr.Dataset:
            return measuring.measure_run(workdir, **options)

    if out.exists() and not (overwrite or out.is_dir()):
        try:
            there = results.read(out)
            same = there.attrs["measurement"] == record
        except results.ResultsError:
            same = False
        if same:
            return there
        command_line.refuse_existing(out, overwrite=False, because="with another measurement")
    command_line.refuse_unwritable(out)
    journal = Journal(out, of_parts(record))
    dataset = measure(journal)

    def write() -> None:
        results.write(out, dataset)
        journal.remove()

    distributed.on_first(write)
    return dataset


def _with_data(config: ConfigDict, data: str | None, *, imported: bool) -> ConfigDict:
    """The config with images from elsewhere; ValueError for networks with data of their own."""
    if data is None:
        return config
    if not imported:
        raise ValueError(
            f"--data={data}: these networks are measured on the data that they were trained on, "
            f"{config.data.name}; an imported network is measured on any images"
        )
    copy = config.copy_and_resolve_references()
    copy.data.name = data
    return copy


def _set_draws(config: ConfigDict, given: dict[str, Any]) -> None:
    others = given.keys() - {"draws"}
    if others:
        raise ValueError(
            f"{', '.join(f'--{name}' for name in sorted(others))}: only deep networks on images "
            "are measured with these; simple CNNs on a ring take --draws alone"
        )
    if "draws" in given:
        config.measurement.draws = given["draws"]
