"""A user's preprocessed images, `images.npy` in a folder, on which to measure a network.

Shape (n, h, w, c), channels last; pixels are uint8, or floating point from 0 to 1. They are
normalized with the network's mean and standard deviation. With `labels.npy` in the same folder,
the network's class numbers, there is a test error, provided that the network's last class occurs:
labels with fewer classes may belong to other classes.
"""

import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from cnnpool.data import arrays
from cnnpool.data.images import DataError, MeasuredImages, Split, cure_for_too_few
from cnnpool.files import storage

IMAGES, LABELS = "images.npy", "labels.npy"
RGB = 3
_ROUNDING = 1e-3  # of pixel values from 0 to 1


def build(config: ConfigDict, *, count: int, seed: int) -> MeasuredImages:
    """The images of a folder on which to measure a network.

    Args:
      config: fields `data_dir`, `mean`, `std`.
      count: number of images.
      seed: seed of the choice; a smaller count takes the first images of a larger one.

    Raises:
      DataError: if a file is missing or damaged, has too few images, or does not hold pixels.
    """
    images, labels, digest = _read(config)
    if count > len(images):
        raise DataError(
            f"{config.data_dir} has {len(images)} images; expected at least --num_images={count}: "
            f"{cure_for_too_few(len(images), 'images')}"
        )
    order = np.asarray(jax.random.permutation(jax.random.key(seed), len(images)))[:count]
    chosen = arrays.check_images(images[order], storage.on_disk(config.data_dir) / IMAGES)
    return MeasuredImages(
        test=Split(jnp.asarray(as_rgb(chosen)), jnp.asarray(labels[order])),
        mean=tuple(config.mean),
        std=tuple(config.std),
        source=f"arrays ({digest})",
        classes=int(labels.max()) + 1 if labels.min() >= 0 else None,
    )


def fingerprint(config: ConfigDict) -> str:
    """A checksum of images and labels.

    Raises:
      DataError: if a file is missing or damaged, or does not hold pixels.
    """
    return _read(config).digest


def open_stored(path: Path, channels: tuple[int, ...] = (1, RGB)) -> arrays.Images:
    """The images of an .npy file, which stay on disk until they are used.

    Args:
      path: path of the file.
      channels: allowed numbers of channels.

    Raises:
      DataError: if the file is missing or damaged, or holds something else.
    """
    images = arrays.read_npy(path, mapped=True)
    expected = f"(images, height, width, channels), channels last, {_either(channels)} of them"
    if images.ndim == 3 and images.shape[-1] in (RGB, RGB + 1):
        raise DataError(
            f"{path} has shape {images.shape}, which is one picture; expected {expected}: save "
            "images[None]"
        )
    images = arrays.check_stored(images, path)
    if images.shape[-1] not in channels:
        hint = ""
        if images.shape[1] in channels:
            hint = "; channels come first: save images.transpose(0, 2, 3, 1)"
        raise DataError(f"{path} has shape {images.shape}; expected {expected}{hint}")
    return images


def as_rgb(images: np.ndarray) -> np.ndarray:
    """Grey images repeated to three equal channels; other images unchanged."""
    return np.repeat(images, RGB, axis=-1) if images.shape[-1] == 1 else images


class _Read(NamedTuple):
    images: np.ndarray
    labels: np.ndarray
    digest: str


def _read(config: ConfigDict) -> _Read:
    if not config.data_dir:
        raise ValueError(f"--data_dir must name the folder of {IMAGES}")
    folder = storage.on_disk(config.data_dir)
    files = [folder / name for name in (IMAGES, LABELS) if (folder / name).is_file()]
    return _once(folder, tuple((path, path.stat().st_mtime_ns) for path in files))


@functools.lru_cache(maxsize=1)
def _once(folder: Path, files: tuple[tuple[Path, int], ...]) -> _Read:
    """Reads a folder; reads it again only if a file has changed."""
    images = open_stored(folder / IMAGES)
    check_units(images, folder / IMAGES)
    labels = np.full(len(images), -1, np.int32)
    if (folder / LABELS).exists():
        found = arrays.read_npy(folder / LABELS)
        labels = arrays.check_labels(found, folder / LABELS)
        arrays.check_same_count(images, folder / IMAGES, labels, folder / LABELS)
    digest = hashlib.sha256()
    for part in (*arrays.parts(images), labels):
        digest.update(np.ascontiguousarray(part).data)
    return _Read(images, labels, f"{IMAGES}, with labels sha256 {digest.hexdigest()[:12]}")


def check_units(images: np.ndarray, path: Path) -> None:
    """Raises DataError if floats are not pixels from 0 to 1."""
    if images.dtype == np.uint8:
        return
    bounds = [(float(part.min()), float(part.max())) for part in arrays.parts(images)]
    least, most = min(low for low, _ in bounds), max(high for _, high in bounds)
    if least < -_ROUNDING or most > 1 + _ROUNDING:
        is_of_bytes = least >= 0 and 1.5 < most <= 255
        cure = "divide them by 255" if is_of_bytes else "save them without normalization"
        raise DataError(
            f"{path} holds floats from {least:.4g} to {most:.4g}; expected pixels from 0 to 1, or "
            f"uint8: {cure}"
        )


def _either(numbers: tuple[int, ...]) -> str:
    return " or ".join(map(str, numbers))
