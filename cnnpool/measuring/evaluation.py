"""Measures the networks of a run into a file, skipping what is there already."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from cnnpool import command_line
from cnnpool.devices import distributed, numerics
from cnnpool.files import results
from cnnpool.measuring import measure as measuring
from cnnpool.measuring import runs
from cnnpool.measuring.journal import Journal, of_parts
from cnnpool.measuring.run import Run


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
      workdir: a run's working directory, or a folder made by cnnpool.pack or
        cnnpool.import_weights.
      out: the netCDF file.
      stages: "init", "trained", "last", epochs, or "all".
      transforms: names of transforms.
      overwrite: whether to replace a file that holds something else.
      settings: fields of `Settings` that differ from its defaults; for simple CNNs only `draws`,
        instead of the config's `measurement.draws`.
      data: source of the images for an imported network, a name in
        `cnnpool.measuring.measured_data`; other networks are measured on their own data.
      data_dir: replaces the config's `data.data_dir`.

    Raises:
      ValueError: if these networks, or drawn data, do not have what is requested, or JAX settings
        would change the numbers.
      FileExistsError: if `out` holds something else.
      CheckpointError: if a checkpoint is missing, damaged or not trained to the end.
      NetworkFolderError: if such a folder is damaged.
      DataError: if the images are missing or damaged.
    """
    numerics.check_settings()  # opening may draw images already
    run = runs.open(workdir, data=data, data_dir=data_dir, settings=settings)
    return evaluate_run(run, out, stages=stages, transforms=transforms, overwrite=overwrite)


def evaluate_run(
    run: Run,
    out: Path,
    *,
    stages: Sequence[str],
    transforms: Sequence[str],
    overwrite: bool = False,
) -> xr.Dataset:
    """`evaluate` of networks from anywhere, opened already."""
    numerics.check_settings()
    record = measuring.record(run, stages, transforms)
    if out.is_file() and not overwrite:
        try:
            there = results.read(out)
            same = there.attrs["measurement"] == record
        except results.ResultsError:
            same = False
        if same:
            return there
        command_line.check_replaceable(out, overwrite=False, because="with another measurement")
    command_line.check_writable(out)
    journal = Journal(out, of_parts(record))
    dataset = measuring.measure(run, stages, transforms, journal)

    def write() -> None:
        results.write(out, dataset)
        journal.remove()

    distributed.on_first(write)
    return dataset
