"""The library that reads and writes netCDF, with what it needs to be told."""

from typing import Any

from cnnpool import extras


def h5netcdf() -> Any:
    """The library h5netcdf.

    Raises:
      MissingExtraError: if it is not installed.
    """
    with extras.needed("netcdf"):
        import h5netcdf as library
    # Else h5netcdf 1.8 prints a traceback for a damaged file: its destructor misses what was
    # never set.
    library.File._writable = False
    return library
