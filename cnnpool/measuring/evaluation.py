"""Measures the networks of a run into a file; what is there already is not measured again."""

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
      DataError: if the images are absent or damaged.
    """
    numerics.refuse_others()
    run = runs.open(workdir, data=data, data_dir=data_dir, settings=settings)
    record = measuring.record(run, stages, transforms)
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
    dataset = measuring.measure(run, stages, transforms, journal)

    def write() -> None:
        results.write(out, dataset)
        journal.remove()

    distributed.on_first(write)
    return dataset
