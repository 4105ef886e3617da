"""CIFAR-10, read with TensorFlow Datasets (TFDS) and without TensorFlow.

Protocol, section 7. TFDS prepares the data once, as array_record files (TFDS 4.9 needs
TensorFlow for that; any environment that has both will do):

    python -c "import tensorflow_datasets as tfds; tfds.builder('cifar10',
        file_format='array_record').download_and_prepare()"

Reading never downloads. All 60,000 images take about 8 s on one core; threads make it
slower, as images this small spend their time in Python.
"""

from collections.abc import Iterator
import contextlib
import functools
import io
import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict
import numpy as np
from PIL import Image
from tqdm import tqdm

from cnnpool.data.images import DataError, Split, StandardizedImages, as_stored, crop_and_flip

NAME = "cifar10"
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
CLASSES = 10
PADDING = 4
SHAPE = (32, 32, 3)

_CHUNK = 1000  # records read at once: fewer calls, and a bar that moves
_JPEG_MAGIC = b"\xff\xd8"


def build(config: ConfigDict) -> StandardizedImages:
    """The data set of a config's `data` section.

    Args:
      config: fields `data_dir` (TFDS's folder; None is the environment variable
        TFDS_DATA_DIR, then ~/tensorflow_datasets), `image_noise`, `augmentation`,
        `train_size` and `test_size` (images; None or 0 is all).

    Raises:
      DataError: if the data is not there, damaged or in another file format.
      ValueError: if a size or the noise is impossible.
    """
    builder = _open(data_root(config.data_dir))
    train, train_is_jpeg = _read_split(builder, "train", config.train_size)
    test, test_is_jpeg = _read_split(builder, "test", config.test_size)
    view = functools.partial(crop_and_flip, padding=PADDING) if config.augmentation else as_stored
    return StandardizedImages(
        train=train,
        test=test,
        classes=CLASSES,
        source=_source(builder, jpeg=train_is_jpeg or test_is_jpeg),
        mean=MEAN,
        std=STD,
        image_noise=float(config.image_noise),
        random_view=view,
    )


def data_root(data_dir: str | None) -> str:
    """TFDS's folder: the one given, else of TFDS_DATA_DIR, else TFDS's default."""
    return data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def subset(count: int, size: int | None, field: str) -> Int[np.ndarray, " size"]:
    """Which of `count` images to take: all in order, or the first of a fixed permutation.

    A smaller subset is the beginning of a larger one.

    Args:
      count: images there are.
      size: images wanted; None or 0 is all.
      field: what the size is called in the config, for the error.

    Raises:
      ValueError: if `size` is negative or more than there are.
    """
    if not size:
        return np.arange(count)
    if not 0 < size <= count:
        raise ValueError(f"{field} must be between 1 and {count}, or None for all; got {size}")
    return np.asarray(jax.random.permutation(jax.random.key(0), count))[:size].astype(np.int64)


def _open(root: str) -> Any:
    """TFDS's builder of the newest version under `root`, from its files alone."""
    import tensorflow_datasets as tfds  # here: 0.3 s that other data sets need not spend

    folder = tfds.core.Path(root).expanduser() / NAME
    versions = [
        path.parent
        for path in folder.glob("*/dataset_info.json")
        if tfds.core.Version.is_valid(path.parent.name)
    ]
    if not versions:
        raise DataError(
            f"no CIFAR-10: looked for {folder}/VERSION/dataset_info.json and found none. If it "
            "is elsewhere, set data.data_dir or TFDS_DATA_DIR to the folder that holds "
            f"{NAME}/. To download and prepare it (160 MB), in any environment that has "
            f"tensorflow_datasets and tensorflow too:\n  {_prepare(root)}"
        )
    newest = max(versions, key=lambda path: tfds.core.Version(path.name))
    try:
        builder = tfds.builder_from_directory(newest)
        formats = {fmt.value for fmt in builder.info.available_file_formats()}
    except Exception as error:  # TFDS lets protobuf's, json's and its own errors through
        raise DataError(
            f"TFDS cannot read the description of the data in {newest}: {error}. Delete the "
            f"folder and prepare it again:\n  {_prepare(root)}"
        ) from error
    if "array_record" not in formats:
        raise DataError(
            f"{newest} holds CIFAR-10 as {', '.join(sorted(formats))}; expected array_record, "
            "which is read without TensorFlow. Where TensorFlow is installed, convert it:\n"
            f"  tfds convert_format --dataset_version_dir={newest} "
            "--out_file_format=array_record\nor prepare it again in another folder:\n"
            f"  {_prepare('OTHER_FOLDER')}"
        )
    return builder


def _prepare(root: str) -> str:
    """The command that downloads and prepares the data."""
    return (
        'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{NAME}', data_dir='{root}', file_format='array_record')"
        '.download_and_prepare()"'
    )


@contextlib.contextmanager
def _reading(builder: Any, split: str) -> Iterator[None]:
    """Turns what the readers raise into an error that names the split and its files."""
    try:
        yield
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        known = builder.info.splits
        files = ", ".join(str(path) for path in known[split].filepaths) if split in known else "-"
        raise DataError(
            f"cannot read the {split} split of CIFAR-10 from {builder.data_path}: {error}. A "
            f"file may be truncated or damaged ({files}): delete {builder.data_path} and "
            "prepare or copy it again"
        ) from error


def _read_split(builder: Any, split: str, size: int | None) -> tuple[Split, bool]:
    """Images and labels of one split, and whether they were compressed with loss."""
    import tensorflow_datasets as tfds

    with _reading(builder, split):
        records = builder.as_data_source(
            split=split,
            file_format="array_record",
            decoders={"image": tfds.decode.SkipDecoding()},
        )
    chosen = subset(len(records), size, f"data.{split}_size")
    images, labels = np.empty((len(chosen), *SHAPE), np.uint8), np.empty(len(chosen), np.int32)
    jpeg = False
    with (
        tqdm(total=len(chosen), desc=f"reading CIFAR-10 {split}", disable=_quiet()) as bar,
        _reading(builder, split),
    ):
        for start in range(0, len(chosen), _CHUNK):
            rows = chosen[start : start + _CHUNK].tolist()
            for row, record in enumerate(records.__getitems__(rows), start):
                images[row], labels[row] = _decode(record["image"]), record["label"]
                jpeg |= record["image"].startswith(_JPEG_MAGIC)
            bar.update(len(rows))
    return Split(jnp.asarray(images), jnp.asarray(labels)), jpeg


def _quiet() -> bool:
    return not sys.stderr.isatty()


def _decode(encoded: bytes) -> UInt8[np.ndarray, "32 32 3"]:
    """Pixels of one PNG or JPEG."""
    pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    if pixels.shape != SHAPE:
        raise ValueError(f"an image has shape {pixels.shape}, expected {SHAPE}")
    return pixels


def _source(builder: Any, *, jpeg: bool) -> str:
    """Data set and version, and that the images are JPEG copies where they are."""
    lossy = jpeg or "jpeg" in builder.info.description.lower()
    note = "; JPEG copies of the images, not the originals" if lossy else ""
    return f"{NAME} {builder.info.version} (TFDS{note})"
