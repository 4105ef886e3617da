"""Data sets, one per file; `build` chooses one by its name in a config."""

from collections.abc import Callable
import dataclasses
import importlib
from typing import Any

from cnnpool.errors import check_known


def _in_module(name: str) -> Callable[[Any], Any]:
    """The `build` function of a data set's file, which is imported only when it is used."""
    return lambda config: importlib.import_module(f"cnnpool.data.{name}").build(config)


_BUILDERS = {name: _in_module(name) for name in ("arrays", "cifar10", "scale1d", "scale2d")}
_BUILDERS["tfds"] = _in_module("tfds_images")


def described(config: Any) -> Any:
    """Like `build`, with `jax.ShapeDtypeStruct`s in place of arrays.

    CIFAR-10's files are not read, since its shapes are known; other data sets are built.

    Args:
      config: the `data` section of a config.

    Raises:
      ValueError, DataError: as `build` does.
    """
    if config.name == "cifar10":
        return importlib.import_module("cnnpool.data.cifar10").described(config)
    data = build(config)
    train, test = (type(split)(*_shapes(split)) for split in (data.train, data.test))
    return dataclasses.replace(data, train=train, test=test)


def _shapes(arrays: Any) -> Any:
    import jax

    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)


def build(config: Any) -> Any:
    """Builds the data set named `config.name`: an `ImageData`, or a `scale1d.Scale1D`.

    Args:
      config: the `data` section of a config.

    Raises:
      ValueError: if no data set has that name, or its parameters are out of range.
      DataError: if its files are missing or damaged.
    """
    check_known(config.name, _BUILDERS, "config.data.name")
    return _BUILDERS[config.name](config)


def completed(config: Any) -> Any:
    """The config with a `model.outputs` of None replaced by the data set's number of classes.

    Args:
      config: the complete config of a run.

    Raises:
      ValueError, DataError: as `build` does.
    """
    if "outputs" not in config.model or config.model.outputs is not None:
        return config
    if config.data.name != "tfds":
        raise ValueError(
            "model.outputs is None, which requires data.name 'tfds'; set the number of classes"
        )
    from cnnpool.data import tfds_images

    copy = config.copy_and_resolve_references().unlock()
    copy.model.outputs = tfds_images.number_of_classes(config.data)
    return copy.lock()
