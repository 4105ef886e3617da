"""A user's own images: `images.npy` and `labels.npy` in a folder.

The test images are `test_images.npy` and `test_labels.npy` if they exist, else a random part
of the others. Images are normalized with the mean and standard deviation of each channel over
the training images, like CIFAR-10 (docs/protocol.md, "CIFAR-10"), and not augmented.
"""

from collections.abc import Iterator, Sequence
import contextlib
import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Int, Shaped
from ml_collections import ConfigDict
import numpy as np

from cnnpool.data.images import DataError, Split, StandardizedImages, as_stored
from cnnpool.files import storage

Images = Shaped[np.ndarray, "images height width channels"]
Labels = Int[np.ndarray, " images"]

_CHUNK = 1000  # images converted at once
_CHANNELS = (1, 3, 4)  # of images in files


class Arrays(NamedTuple):
    """Images (n, h, w, c), uint8 or float32, and labels (n,), int32, of one part."""

    images: np.ndarray
    labels: np.ndarray


def build(config: ConfigDict) -> StandardizedImages:
    """The data set of a config's `data` section.

    Args:
      config: fields `data_dir`, `test_fraction` (fraction of test images; None or 0 if
        there are test files), `seed` (for drawing the test images), `mean` and `std` (per
        channel, uint8 scaled to 0..1; None: computed), `image_noise`.

    Raises:
      DataError: if a file is missing or damaged, or its contents are not images or labels.
      ValueError: if a field is missing or out of range.
    """
    if not config.data_dir:
        raise ValueError(
            "data.data_dir must name the folder of images.npy and labels.npy (--data_dir of "
            "commands that open trained networks)"
        )
    folder = storage.on_disk(config.data_dir)
    everything = load_part(folder / "images.npy", folder / "labels.npy")
    classes = number_of_classes(everything.labels, folder / "labels.npy")
    train, test = _train_and_test(config, folder, everything, classes)
    mean, std = channel_moments(train.images)
    return StandardizedImages(
        train=_on_device(train),
        test=_on_device(test),
        classes=classes,
        source=_source(everything.images, train, test),
        mean=mean if config.mean is None else tuple(map(float, config.mean)),
        std=std if config.std is None else tuple(map(float, config.std)),
        image_noise=float(config.image_noise),
        random_view=as_stored,
    )


def load_part(images_path: Path, labels_path: Path) -> Arrays:
    """Reads and checks images and their labels.

    Raises:
      DataError: if one is missing or damaged, or they do not match.
    """
    images = check_images(read_npy(images_path), images_path)
    labels = check_labels(read_npy(labels_path), labels_path)
    check_same_count(images, images_path, labels, labels_path)
    return Arrays(images, labels)


def check_same_count(
    images: np.ndarray, images_path: Path, labels: np.ndarray, labels_path: Path
) -> None:
    """Raises DataError unless there is a label for each image."""
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images and {labels_path} {len(labels)} labels; "
            "expected one label for each image"
        )


def read_npy(path: Path, *, mapped: bool = False) -> np.ndarray:
    """The array in an .npy file; pickled objects are refused, as they can run arbitrary code.

    Args:
      path: path of the file.
      mapped: whether to memory-map the file; a file in a bucket is read all the same.

    Raises:
      DataError: if the file is missing, damaged or holds pickled objects.
    """
    try:
        if mapped and not storage.is_remote(path):
            with contextlib.suppress(
                OSError
            ):  # some network file systems do not support memory mapping
                return np.lib.format.open_memmap(path, mode="r")
        with path.open("rb") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{path} does not exist; write it with numpy.save") from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}. Expected one array of numbers written by "
            "numpy.save; it may be truncated, in another format, or an array of objects"
        ) from error
    return array


def check_images(images: np.ndarray, path: Path) -> Images:
    """Images as (n, h, w, c), uint8 or float32.

    Raises:
      DataError: if shape or type is unexpected, channels seem to come first, there are no images,
        or a value is not finite.
    """
    checked = check_stored(images, path)
    _check_channels_last(checked.shape, path)
    return checked if checked.dtype == np.uint8 else checked.astype(np.float32, copy=False)


def _check_channels_last(shape: tuple[int, ...], path: Path) -> None:
    """Raises DataError if another axis than the last looks like channels."""
    _, first, height, last = shape
    if first in _CHANNELS and height == last > max(_CHANNELS):
        raise DataError(
            f"{path} has shape {shape}; expected (images, height, width, channels), but channels "
            "seem to come first: save images.transpose(0, 2, 3, 1)"
        )


def check_stored(images: np.ndarray, path: Path) -> Images:
    """Images as (n, h, w, c), uint8 or floats of their own type; nothing is copied.

    Raises:
      DataError: if shape or type is unexpected, there are no images, or a value is not finite
        in float32.
    """
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise DataError(
            f"{path} has shape {images.shape}; expected (images, height, width) or "
            "(images, height, width, channels), none of them 0"
        )
    images = images if images.ndim == 4 else images[..., None]
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"{path} has type {images.dtype}; expected uint8 or floating point: save "
            "images.astype(numpy.uint8) if all pixels are from 0 to 255, else pixels as floats"
        )
    finite = np.concatenate([np.isfinite(part).all((1, 2, 3)) for part in parts(images)])
    if not finite.all():
        raise DataError(
            f"{path} has values that are not finite (NaN, or beyond float32) in "
            f"{(~finite).sum()} images, the first at index {np.argmin(finite)}"
        )
    return images


def parts(images: Images) -> Iterator[Images]:
    """The images in chunks of a thousand, with floats converted to float32."""
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK]
        with np.errstate(over="ignore"):  # overflow gives infinity, which the caller rejects
            yield part if part.dtype == np.uint8 else part.astype(np.float32, copy=False)


def check_labels(labels: np.ndarray, path: Path) -> Labels:
    """Labels as (n,), int32.

    Raises:
      DataError: if the shape is unexpected or a label is not a whole number.
    """
    if labels.ndim != 1:
        raise DataError(
            f"{path} has shape {labels.shape}; expected (images,): save labels[:, 0], or "
            "labels.argmax(1) if they are one-hot"
        )
    if not (np.issubdtype(labels.dtype, np.integer) or np.issubdtype(labels.dtype, np.floating)):
        raise DataError(
            f"{path} has type {labels.dtype}; expected whole numbers: save "
            "numpy.unique(labels, return_inverse=True)[1], which numbers the classes in their order"
        )
    bounds = np.iinfo(np.int32)
    if labels.dtype == np.float16:  # cannot represent the bounds
        labels = labels.astype(np.float32)
    whole = (labels == np.floor(labels)) & (labels >= bounds.min) & (labels <= bounds.max)
    if not whole.all():
        first = np.argmin(whole)
        raise DataError(
            f"{path} holds {labels[first]} at index {first}; expected whole numbers: classes "
            "0..C-1, or +1 and -1"
        )
    return labels.astype(np.int32)


def number_of_classes(labels: Labels, path: Path) -> int | None:
    """C if the labels are 0..C-1, None if they are +1 and -1.

    Raises:
      DataError: if they are neither, or all the same.
    """
    present = np.unique(labels).tolist()
    if present == [-1, 1]:
        return None
    if present == list(range(len(present))) and len(present) > 1:
        return len(present)
    shown = ", ".join(map(str, present[:10])) + (", ..." if len(present) > 10 else "")
    raise DataError(
        f"{path} holds the labels {shown}; expected at least two classes numbered 0..C-1 "
        "without gaps, or +1 and -1; numpy.unique(labels, return_inverse=True)[1] numbers them so"
    )


def channel_moments(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, uint8 scaled to 0..1.

    Computed in two passes in float64, a chunk of images at a time.
    """
    unit = 255.0 if images.dtype == np.uint8 else 1.0
    count = images[..., 0].size
    mean = sum(part.sum((0, 1, 2), dtype=np.float64) for part in parts(images)) / count
    variance = sum(((part - mean) ** 2).sum((0, 1, 2)) for part in parts(images)) / count
    return tuple((mean / unit).tolist()), tuple((np.sqrt(variance) / unit).tolist())


def _train_and_test(
    config: ConfigDict, folder: Path, everything: Arrays, classes: int | None
) -> tuple[Arrays, Arrays]:
    """Test images from the test files if these exist, else a random part of all images."""
    paths = folder / "test_images.npy", folder / "test_labels.npy"
    if not any(path.exists() for path in paths):
        return draw_test(everything, fraction=config.test_fraction, seed=config.seed)
    if config.test_fraction:
        raise ValueError(
            f"data.test_fraction is {config.test_fraction}, but {folder} has its own test files; "
            "set it to 0, or remove test_images.npy and test_labels.npy"
        )
    test = load_part(*paths)
    _check_test(everything, test, paths, classes)
    return everything, test


def _check_test(train: Arrays, test: Arrays, paths: Sequence[Path], classes: int | None) -> None:
    """Raises DataError unless test images have the shape, type and labels of training images."""
    kinds = [(part.images.shape[1:], part.images.dtype.name) for part in (train, test)]
    if kinds[0] != kinds[1]:
        raise DataError(
            f"{paths[0]} has images of shape {kinds[1][0]}, {kinds[1][1]}; expected "
            f"{kinds[0][0]}, {kinds[0][1]}, as in images.npy"
        )
    unknown = np.setdiff1d(test.labels, train.labels)
    if unknown.size:
        expected = "+1 and -1" if classes is None else f"0..{classes - 1}"
        raise DataError(
            f"{paths[1]} has the label {unknown[0]}; expected {expected}, as in labels.npy"
        )


def draw_test(
    everything: Arrays, *, fraction: int | float | None, seed: int
) -> tuple[Arrays, Arrays]:
    """Splits images at random into training and test images.

    Args:
      everything: images and labels.
      fraction: fraction of test images, rounded to whole images.
      seed: seed of the random split.

    Raises:
      ValueError: if either part would be empty.
    """
    count = len(everything.labels)
    size = round((fraction or 0) * count) if math.isfinite(fraction or 0) else 0
    if not 0 < size < count:
        raise ValueError(
            f"data.test_fraction {fraction} of {count} images gives {size} test images; expected "
            "at least one for testing and one for training (or provide test_images.npy and "
            "test_labels.npy)"
        )
    order = np.asarray(jax.random.permutation(jax.random.key(seed), count))
    test, train = np.sort(order[:size]), np.sort(order[size:])
    return (
        Arrays(everything.images[train], everything.labels[train]),
        Arrays(everything.images[test], everything.labels[test]),
    )


def _on_device(part: Arrays) -> Split:
    return Split(jnp.asarray(part.images), jnp.asarray(part.labels))


def _source(images: Images, *splits: Arrays) -> str:
    """Identifies the data set; earlier versions wrote the part in front of the semicolon alone."""
    everything = hashlib.sha256()
    for array in (array for split in splits for array in split):
        everything.update(f"{array.dtype.name} {array.shape}".encode())
        everything.update(np.ascontiguousarray(array).data)
    first = hashlib.sha256(np.ascontiguousarray(images).data)
    return (
        f"arrays (images.npy, sha256 {first.hexdigest()[:12]}; "
        f"with labels and test images {everything.hexdigest()[:12]})"
    )
