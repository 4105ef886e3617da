"""CIFAR-10, read with TensorFlow Datasets (TFDS) but without TensorFlow.

See docs/protocol.md, "CIFAR-10". TFDS prepares the data once, as array_record files (for this, TFDS
4.9 requires TensorFlow; use any environment that has both):

    python -c "import tensorflow_datasets as tfds; tfds.builder('cifar10',
        file_format='array_record').download_and_prepare()"

Reading never downloads. All 60,000 images take about 8 s on one core; threads make it
slower, as decoding such small images is dominated by Python.
"""

import functools
import io
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict
import numpy as np
from PIL import Image

from cnnpool.data import tfds_files
from cnnpool.data.images import Split, StandardizedImages, as_stored, crop_and_flip
from cnnpool.data.tfds_records import Records
from cnnpool.devices.progress_bar import ProgressBar

NAME = "cifar10"
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
CLASSES = 10
PADDING = 4
SHAPE = (32, 32, 3)
IMAGES = {"train": 50_000, "test": 10_000}

_CHUNK = 1000  # records read at once: few calls, and a progress bar that moves
JPEG_MAGIC = b"\xff\xd8"


def build(config: ConfigDict) -> StandardizedImages:
    """The data set of a config's `data` section.

    Args:
      config: fields `data_dir` (TFDS's folder; None: the environment variable
        TFDS_DATA_DIR, else ~/tensorflow_datasets), `image_noise`, `augmentation`,
        `train_size` and `test_size` (numbers of images; None or 0: all).

    Raises:
      DataError: if the data is missing, damaged or in another file format.
      ValueError: if a size or the noise is out of range.
    """
    root = tfds_files.data_root(config.data_dir)
    builder = tfds_files.open_builder(root, NAME, about=" (160 MB)")
    train, train_is_jpeg = _read_split(builder, "train", config.train_size)
    test, test_is_jpeg = _read_split(builder, "test", config.test_size)
    return _of(config, train, test, _source(builder, jpeg=train_is_jpeg or test_is_jpeg))


def described(config: ConfigDict) -> StandardizedImages:
    """Like `build`, with shapes in place of images and labels; reads no files.

    Raises:
      ValueError: if a size or the noise is out of range.
    """

    def split(name: str) -> Split:
        count = len(subset(IMAGES[name], config[f"{name}_size"], f"data.{name}_size"))
        images: Any = jax.ShapeDtypeStruct((count, *SHAPE), np.uint8)
        labels: Any = jax.ShapeDtypeStruct((count,), np.int32)
        return Split(images, labels)

    return _of(config, split("train"), split("test"), f"shapes of {NAME}")


def _of(config: ConfigDict, train: Split, test: Split, source: str) -> StandardizedImages:
    view = functools.partial(crop_and_flip, padding=PADDING) if config.augmentation else as_stored
    return StandardizedImages(
        train=train,
        test=test,
        classes=CLASSES,
        source=source,
        mean=MEAN,
        std=STD,
        image_noise=float(config.image_noise),
        random_view=view,
    )


def subset(count: int, size: int | None, field: str) -> Int[np.ndarray, " size"]:
    """The indices of a subset of images: all in order, or the first of a fixed permutation.

    Smaller subsets are the beginnings of larger ones.

    Args:
      count: number of available images.
      size: number of images to take; None or 0: all.
      field: the name of the size in the config, for the error message.

    Raises:
      ValueError: if `size` is negative or larger than `count`.
    """
    if not size:
        return np.arange(count)
    if not 0 < size <= count:
        raise ValueError(f"{field} must be between 1 and {count}, or None for all; got {size}")
    return np.asarray(jax.random.permutation(jax.random.key(0), count))[:size].astype(np.int64)


def _read_split(builder: Any, split: str, size: int | None) -> tuple[Split, bool]:
    """Images and labels of one split, and whether their compression is lossy."""
    with tfds_files.reading(builder, split):
        records = Records(builder, split, ["image", "label"])
    chosen = subset(len(records), size, f"data.{split}_size")
    images, labels = np.empty((len(chosen), *SHAPE), np.uint8), np.empty(len(chosen), np.int32)
    jpeg = False
    with (
        ProgressBar(len(chosen), f"reading CIFAR-10 {split}", "image") as bar,
        tfds_files.reading(builder, split),
    ):
        for start in range(0, len(chosen), _CHUNK):
            rows = chosen[start : start + _CHUNK].tolist()
            for row, record in enumerate(records.read(rows), start):
                images[row], labels[row] = _decode(record["image"]), record["label"]
                jpeg |= record["image"].startswith(JPEG_MAGIC)
            bar.update(len(rows))
    return Split(jnp.asarray(images), jnp.asarray(labels)), jpeg


def _decode(encoded: bytes) -> UInt8[np.ndarray, "32 32 3"]:
    """Pixels of one PNG or JPEG image."""
    pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    if pixels.shape != SHAPE:
        raise ValueError(f"an image has shape {pixels.shape}, expected {SHAPE}")
    return pixels


def _source(builder: Any, *, jpeg: bool) -> str:
    """Data set and version, with a note if the images are JPEG copies."""
    lossy = jpeg or "jpeg" in builder.info.description.lower()
    note = "; JPEG copies of the images, not the originals" if lossy else ""
    return f"{NAME} {builder.info.version} (TFDS{note})"
