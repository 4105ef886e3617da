"""Data sets, one a file; `build` picks one by the name in a config."""

from collections.abc import Callable

from ml_collections import ConfigDict

from cnnpool.data import arrays, cifar10, scale1d, scale2d
from cnnpool.data.images import ImageData
from cnnpool.errors import refuse_unknown

_BUILDERS: dict[str, Callable[[ConfigDict], scale1d.Scale1D | ImageData]] = {
    "arrays": arrays.build,
    "cifar10": cifar10.build,
    "scale1d": scale1d.build,
    "scale2d": scale2d.build,
}


def build(config: ConfigDict) -> scale1d.Scale1D | ImageData:
    """The data set that `config.name` asks for.

    Args:
      config: the `data` section of a config.

    Raises:
      ValueError: if no data set has that name, or its parameters are impossible.
      DataError: if its files are not there or damaged.
    """
    refuse_unknown(config.name, _BUILDERS, "config.data.name")
    return _BUILDERS[config.name](config)
