"""The images that a user gives, checked, as arrays (images, rows, columns, channels)."""

import sys
from typing import Any
import warnings

import jax.numpy as jnp
import numpy as np

from cnnpool.instruments.sensitivity import few_images

_CHANNELS = (1, 3, 4)


def checked(images: Any) -> np.ndarray:
    """Images of float32, channels last.

    Args:
      images: (images, rows, columns, channels) of numpy, JAX or anything that numpy reads; a
        torch.Tensor is (images, channels, rows, columns), as its owner means it.

    Raises:
      ValueError: naming the axis, if they are not square, or their channels are not where they
        should be.
      TypeError: if pixels are not floats.
    """
    torch = sys.modules.get("torch")
    is_torch = torch is not None and isinstance(images, torch.Tensor)
    array = _numpy(images) if is_torch else np.asarray(images)
    if array.ndim != 4:
        hint = "; give gray images a last axis, images[..., None]" if array.ndim == 3 else ""
        raise ValueError(f"expected {_layout(is_torch)}, got shape {array.shape}{hint}")
    _check_layout(array.shape, is_torch=is_torch)
    if not (np.issubdtype(array.dtype, np.floating) or array.dtype == jnp.bfloat16):
        raise TypeError(
            f"expected images of floats, normalized as the network takes them, got {array.dtype}; "
            "e.g. (images / 255 - mean) / std"
        )
    array = np.moveaxis(array, 1, -1) if is_torch else array
    _, rows, columns, _ = array.shape
    if rows != columns:
        raise ValueError(
            f"diffeomorphisms are of square images, got {rows} x {columns} pixels; crop the images"
        )
    if note := few_images(len(array)):
        warnings.warn(note, stacklevel=4)  # the caller of cp.measure and its decorator
    return np.ascontiguousarray(array, np.float32)


def _numpy(images: Any) -> np.ndarray:
    """A torch.Tensor as an array; numpy has no bfloat16."""
    images = images.detach().cpu()
    return (images.float() if images.is_floating_point() else images).numpy()


def _layout(is_torch: bool) -> str:
    axes = "channels, rows, columns" if is_torch else "rows, columns, channels"
    return f"{'a torch.Tensor' if is_torch else 'an array'} of images (images, {axes})"


def _check_layout(shape: tuple[int, ...], *, is_torch: bool) -> None:
    """Raises ValueError where another axis than the one expected looks like channels."""
    expected, other = (1, 3) if is_torch else (3, 1)
    rows, columns = (axis for axis in (1, 2, 3) if axis != other)
    looks_so = shape[other] in _CHANNELS and shape[expected] not in _CHANNELS
    if looks_so and shape[rows] == shape[columns]:
        mend = "images.permute(0, 3, 1, 2)" if is_torch else "np.moveaxis(images, 1, -1)"
        raise ValueError(
            f"expected {_layout(is_torch)}, got shape {shape}: axis {other}, of length "
            f"{shape[other]}, looks like channels; give {mend}"
        )
