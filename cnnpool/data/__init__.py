"""Data sets, one a file; `build` picks one by the name in a config."""

from collections.abc import Callable
import difflib

from ml_collections import ConfigDict

from cnnpool.data import arrays, cifar10, scale1d, scale2d
from cnnpool.data.images import ImageData

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
    if config.name not in _BUILDERS:
        near = difflib.get_close_matches(str(config.name), _BUILDERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"config.data.name is {config.name!r}; expected one of {sorted(_BUILDERS)}{hint}"
        )
    return _BUILDERS[config.name](config)
