"""The images that a user's own network is measured on: their size, mean and standard deviation.

Networks of gray images have one mean and one standard deviation. What no flag says is taken from
the constants MEAN, STD and IMAGE_SIZE of the user's file, and then as ImageNet's networks have it.
"""

from collections.abc import Mapping
import dataclasses
from types import ModuleType
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from cnnpool.data import image_folder, preparation
from cnnpool.data.images import DataError, MeasuredImages
from cnnpool.library.user_file import FunctionError
from cnnpool.measuring.measured_data import source

ARRAYS = "arrays"
_DEFAULTS = {
    "mean": preparation.MEAN,
    "std": preparation.STD,
    "image_size": (preparation.CROP, preparation.RESIZE),
}


def data_config(
    name: str, data_dir: str | None, flags: Mapping[str, Any], file: ModuleType
) -> ConfigDict:
    """The `data` section of a config, as that of an imported network.

    Args:
      name: of `cnnpool.measuring.measured_data`.
      data_dir: where the images lie.
      flags: mean, std, image_size; None where not given.
      file: of the user.

    Raises:
      ValueError: if a number is impossible, or the size of arrays is asked for.
      FunctionError: if a constant of the file is no number, and no sequence of numbers.
    """
    source(name)  # refuses an unknown one
    if name == ARRAYS and flags.get("image_size") is not None:
        raise ValueError(
            "--image_size is of pictures, which are resized; images.npy is measured as it is"
        )
    chosen = {field: _chosen(field, flags, file) for field in _DEFAULTS}
    mean, std = chosen["mean"], chosen["std"]
    is_gray = len(mean) == len(std) == 1
    config = image_folder.default_config(*((mean * 3, std * 3) if is_gray else (mean, std)))
    config.mean, config.std = mean, std
    config.name, config.data_dir = name, data_dir
    config.crop, config.resize = _sizes(chosen["image_size"])
    return config


def build(config: ConfigDict, *, count: int, seed: int) -> MeasuredImages:
    """The images, with as many channels as there are means.

    Args:
      config: that `data_config` returned.
      count: images wanted.
      seed: of the choice.

    Raises:
      DataError: if they are absent, damaged or too few, or one channel of colored ones is wanted.
    """
    found = source(config.name).build(config, count=count, seed=seed)
    images = found.test.images
    if len(config.mean) == images.shape[-1]:
        return found
    if not bool(jnp.all(images == images[..., :1])):
        raise DataError(
            f"one mean and one std, {config.mean[0]:g} and {config.std[0]:g}, are of gray images, "
            f"and those of {config.data_dir} have colors; expected three of each"
        )
    return dataclasses.replace(found, test=found.test._replace(images=images[..., :1]))


def told(config: ConfigDict, flags: Mapping[str, Any], file: ModuleType) -> str:
    """What is done to the images, and who says so, as one line."""
    size = "" if config.name == ARRAYS else f"{config.crop} x {config.crop} pixels, "
    if size and config.resize != config.crop:
        size = f"{size}the center of {config.resize}, "
    fields = [f for f in _DEFAULTS if not (f == "image_size" and config.name == ARRAYS)]
    unsaid = [f for f in fields if flags.get(f) is None and not hasattr(file, f.upper())]
    whose = f" ({', '.join(unsaid)}: ImageNet's, as nothing else is said)" if unsaid else ""
    mean, std = (" ".join(f"{v:g}" for v in config[name]) for name in ("mean", "std"))
    return f"images: {size}(x - mean) / std, mean {mean}, std {std}{whose}"


def _chosen(field: str, flags: Mapping[str, Any], file: ModuleType) -> tuple[Any, ...]:
    if flags.get(field) is not None:
        return tuple(flags[field])
    found = getattr(file, field.upper(), _DEFAULTS[field])
    kind = int if field == "image_size" else float
    try:
        return tuple(map(kind, found if hasattr(found, "__iter__") else (found,)))
    except (TypeError, ValueError) as error:
        raise FunctionError(
            f"{file.__file__}: {field.upper()} is {found!r}; expected numbers, as in "
            f"{field.upper()} = {_DEFAULTS[field]}"
        ) from error


def _sizes(given: tuple[int, ...]) -> tuple[int, int]:
    """Pixels of a side of what is cut out, and of the shorter side before: the same for one."""
    crop, resize = (*given, *given) if len(given) == 1 else given if len(given) == 2 else (0, 0)
    if not 0 < crop <= resize:
        raise ValueError(
            f"--image_size={','.join(map(str, given))}: expected pixels a side, 224, or of the "
            "central square and of the shorter side that it is cut out of, 224,256"
        )
    return crop, resize
