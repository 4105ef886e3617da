"""The library that reads and writes netCDF, imported with a workaround."""

from typing import Any

from cnnpool import extras


def h5netcdf() -> Any:
    """The library h5netcdf.

    Raises:
      MissingExtraError: if it is not installed.
    """
    with extras.needed("netcdf"):
        import h5netcdf as library
    # Without this, h5netcdf 1.8 prints a traceback for a damaged file: its destructor reads
    # `_writable`, which is not set when opening fails.
    library.File._writable = False
    return library
