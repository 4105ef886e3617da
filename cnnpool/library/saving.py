"""Result files of measured datasets."""

from pathlib import Path

import xarray as xr

from cnnpool.files import results, storage


def save(data: xr.Dataset, path: str | Path) -> None:
    """Writes measured data as a result file, which figures, export and `load` read.

    Args:
      data: a dataset from `measure` or `load`, or a part of one selected by sel or isel with lists.
      path: NAME.nc; also gs:// and s3://.

    Raises:
      ValueError: if the name does not end in .nc.
      cnnpool.files.results.ResultsError: if the data does not follow the schema.
      OSError: if the file cannot be written.
    """
    place = storage.path(str(path))
    if place.suffix != ".nc":
        raise ValueError(f"expected a file NAME.nc, netCDF, got {path}; cnnpool.export writes csv")
    results.write(place, data)


def load(path: str | Path) -> xr.Dataset:
    """Reads a result file of one network.

    Raises:
      FileNotFoundError: if there is no such file.
      cnnpool.files.results.ResultsError: if it is no result file, or holds several networks.
    """
    return results.read(storage.path(str(path)))
