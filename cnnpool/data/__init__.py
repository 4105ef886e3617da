"""Data sets, one a file; `build` picks one by the name in a config."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict

from cnnpool.data import arrays, cifar10, scale1d, scale2d
from cnnpool.data.images import ImageData, Split
from cnnpool.errors import refuse_unknown

_BUILDERS: dict[str, Callable[[ConfigDict], scale1d.Scale1D | ImageData]] = {
    "arrays": arrays.build,
    "cifar10": cifar10.build,
    "scale1d": scale1d.build,
    "scale2d": scale2d.build,
}


_DESCRIBED: dict[str, Callable[[ConfigDict], ImageData]] = {"cifar10": cifar10.described}


def described(config: ConfigDict) -> ImageData:
    """The data set of images that `config.name` asks for, with shapes in place of its arrays.

    What lies in files that every user has alike is not read; other data is made.

    Args:
      config: the `data` section of a config.

    Raises:
      ValueError, DataError: as `build`.
    """
    if config.name in _DESCRIBED:
        return _DESCRIBED[config.name](config)
    data: Any = build(config)
    return dataclasses.replace(
        data, train=Split(*shapes(data.train)), test=Split(*shapes(data.test))
    )


def shapes(arrays: Any) -> Any:
    """A tree of arrays as their shapes and types."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)


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
