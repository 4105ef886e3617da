"""Any image classification set of TensorFlow Datasets (TFDS), read without TensorFlow.

Sizes, channels, classes, mean and standard deviation come from the data. TFDS prepares a set once,
as array_record or tfrecord files, in any environment that has tensorflow_datasets and TensorFlow.
Reading never downloads.
"""

from collections import Counter
from collections.abc import Iterator
import functools
import io
import itertools
import os
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import UInt8
from ml_collections import ConfigDict
import numpy as np
from PIL import Image

from cnnpool.data import arrays, tfds_files
from cnnpool.data.arrays import Arrays
from cnnpool.data.cifar10 import subset
from cnnpool.data.images import DataError, Split, StandardizedImages, as_stored, crop_and_flip
from cnnpool.data.tfds_records import Records
from cnnpool.devices.progress_bar import ProgressBar
from cnnpool.errors import check_known

_CHUNK = 500  # records read at once
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_DEEP_MODES = ("I", "F")  # more than eight bits per channel


class _Features(NamedTuple):
    image: str
    label: str
    channels: int | None  # None: that of the first image
    classes: int | None  # None: determined from the labels


def build(config: ConfigDict) -> StandardizedImages:
    """The data set of a config's `data` section.

    Args:
      config: fields `dataset`, `data_dir`, `train_split`, `test_split`, `image_feature`,
        `label_feature`, `image_size`, `augmentation`, `padding`, `train_size`, `test_size`,
        `mean`, `std`, `image_noise`, as configs/tfds.py describes them.

    Raises:
      DataError: if the data is missing, damaged, or not labelled images of one size.
      ValueError: if a field is out of range, or required but not set.
    """
    builder = _open(config)
    features = _features(builder, config)
    train_split, test_split = _splits(builder, config)
    if config.image_size is not None and config.image_size < 1:
        raise ValueError(f"data.image_size must be at least 1, got {config.image_size}")
    train = _read(builder, train_split, features, config, config.train_size, "data.train_size")
    test = _read(builder, test_split, features, config, config.test_size, "data.test_size")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"images of {train_split} are {_size(train.images.shape[1:])}, those of {test_split} "
            f"{_size(test.images.shape[1:])}; set data.image_size"
        )
    classes = _classes(builder, features, train.labels)
    _check_labels(test.labels, classes, test_split)
    mean, std = arrays.channel_moments(train.images)
    padding = config.padding
    if padding < 0:
        raise ValueError(f"data.padding must be 0 or positive, got {padding}")
    view = functools.partial(crop_and_flip, padding=padding) if config.augmentation else as_stored
    return StandardizedImages(
        train=Split(jnp.asarray(train.images), jnp.asarray(train.labels)),
        test=Split(jnp.asarray(test.images), jnp.asarray(test.labels)),
        classes=classes,
        source=f"{builder.info.full_name} (TFDS)",
        mean=mean if config.mean is None else tuple(map(float, config.mean)),
        std=std if config.std is None else tuple(map(float, config.std)),
        image_noise=float(config.image_noise),
        random_view=view,
    )


def number_of_classes(config: ConfigDict) -> int:
    """The number of classes of a config's data set, without reading its images.

    Raises:
      DataError, ValueError: as `build` does.
    """
    builder = _open(config)
    features = _features(builder, config)
    if features.classes is not None:
        return _classes(builder, features, np.zeros(0, np.int32))
    split, _ = _splits(builder, config)
    with tfds_files.reading(builder, split):
        records = Records(builder, split, [features.label])
        labels = [record[features.label] for record in records.read(range(len(records)))]
    return _classes(builder, features, np.array(labels, np.int64))


def _open(config: ConfigDict) -> Any:
    if not config.dataset:
        raise ValueError(
            "data.dataset must name a data set of TFDS: --config.data.dataset=cifar100, mnist, "
            "NAME/CONFIG or NAME:VERSION"
        )
    return tfds_files.open_builder(tfds_files.data_root(config.data_dir), config.dataset)


def _features(builder: Any, config: ConfigDict) -> _Features:
    """The features that hold the image and its class.

    Raises:
      DataError: if there is none.
      ValueError: if there are several and the config does not choose one.
    """
    import tensorflow_datasets as tfds

    known = dict(builder.info.features.items())
    images = [name for name, one in known.items() if type(one) is tfds.features.Image]
    labels = [name for name, one in known.items() if isinstance(one, tfds.features.ClassLabel)]
    labels = labels or [name for name, one in known.items() if _is_whole_number(one)]
    supervised = builder.info.supervised_keys or (None, None)
    image = _chosen(builder, images, config.image_feature, supervised[0], "image")
    label = _chosen(builder, labels, config.label_feature, supervised[-1], "label")
    if np.dtype(known[image].np_dtype) != np.uint8:
        raise DataError(
            f"{builder.name}: pixels of {image!r} are {np.dtype(known[image].np_dtype)}; expected "
            "uint8. Save images of other types as arrays: configs/arrays.py"
        )
    channels = known[image].shape[-1]
    if channels not in (None, *_MODES):
        raise DataError(f"{builder.name}: {image!r} has {channels} channels; expected 1, 3 or 4")
    return _Features(image, label, channels, getattr(known[label], "num_classes", None))


def _is_whole_number(feature: Any) -> bool:
    kind = getattr(feature, "np_dtype", None)
    if isinstance(kind, dict) or getattr(feature, "shape", None) != ():
        return False
    return np.issubdtype(kind, np.integer) or kind in (bool, np.bool_)


def _chosen(builder: Any, names: list[str], wanted: str | None, supervised: Any, kind: str) -> str:
    field = f"data.{kind}_feature"
    if wanted is not None:
        check_known(wanted, names, field)
        return wanted
    if supervised in names:
        return supervised
    if not names:
        listed = ", ".join(
            f"{name} ({type(one).__name__})" for name, one in builder.info.features.items()
        )
        raise DataError(
            f"{builder.name} has no {kind} to train on; expected an image and its class, got the "
            f"features {listed}"
        )
    if len(names) > 1:
        raise ValueError(
            f"{builder.name} has several: set {field} to one of {', '.join(sorted(names))}"
        )
    return names[0]


def _splits(builder: Any, config: ConfigDict) -> tuple[str, str]:
    """The splits, or parts of splits, to train and to test on.

    Raises:
      ValueError: if one is missing or empty, or both contain the same images.
    """
    known = list(builder.info.splits)
    test = config.test_split or next((one for one in ("test", "validation") if one in known), None)
    train = config.train_split
    if test is None:
        raise ValueError(
            f"{builder.name} has no test images, its splits are {', '.join(known)}; test on part "
            f"of one: --config.data.train_split='{train}[:80%]' "
            f"--config.data.test_split='{train}[80%:]'"
        )
    for field, split in (("train_split", train), ("test_split", test)):
        try:
            count = builder.info.splits[split].num_examples
        except (ValueError, KeyError, AssertionError) as error:
            raise ValueError(
                f"data.{field} is {split!r}; expected one of {builder.name}'s splits, "
                f"{', '.join(known)}, or part of one, such as {known[0]}[:80%]"
            ) from error
        if not count:
            raise ValueError(f"data.{field} is {split!r}, which has no images")
    if common := _in_both(builder.info.splits[train], builder.info.splits[test]):
        raise ValueError(
            f"data.train_split {train!r} and data.test_split {test!r} have {common} images in "
            "common; expected different ones, such as 'train[:80%]' and 'train[80%:]'"
        )
    return train, test


def _in_both(train: Any, test: Any) -> int:
    """The number of records that are in two splits, or parts of splits."""
    pairs = itertools.product(train.file_instructions, test.file_instructions)
    return sum(
        max(0, min(a.skip + a.take, b.skip + b.take) - max(a.skip, b.skip))
        for a, b in pairs
        if a.filename == b.filename
    )


def _classes(builder: Any, features: _Features, labels: np.ndarray) -> int:
    """The number of classes; checks the labels.

    Raises:
      DataError: if there is only one class, or a label is not a class.
    """
    classes = features.classes
    if classes is None:
        classes = int(labels.max(initial=-1)) + 1
    if classes < 2:
        raise DataError(f"{builder.name} has one class by {features.label!r}; expected two or more")
    _check_labels(labels, classes, "training")
    return classes


def _check_labels(labels: np.ndarray, classes: int, split: str) -> None:
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        what = "have no label" if (labels[wrong] < 0).all() else "have a label out of range"
        raise DataError(
            f"{wrong.sum()} of {len(labels)} images of {split} {what}, such as "
            f"{labels[wrong][0]}; expected 0 to {classes - 1}. Choose another data.train_split or "
            "data.test_split"
        )


def _read(
    builder: Any, split: str, features: _Features, config: ConfigDict, size: int | None, field: str
) -> Arrays:
    """Images of one size and their labels.

    Raises:
      DataError: if an image cannot be read, or images differ in size or are not square.
    """
    with tfds_files.reading(builder, split):
        records = Records(builder, split, [features.image, features.label])
    rows = subset(len(records), size, field)
    labels, images = np.empty(len(rows), np.int32), None
    with (
        ProgressBar(len(rows), f"reading {builder.name} {split}", "image") as bar,
        tfds_files.reading(builder, split),
    ):
        for place, record in enumerate(_in_chunks(records, rows)):
            image = _decoded(record[features.image], features.channels)
            features = features._replace(channels=len(image.getbands()))
            pixels = _pixels(image, config.image_size)
            if images is None:
                _check_square(builder, pixels)
                images = _empty(len(rows), pixels)
            if pixels.shape != images.shape[1:]:
                raise DataError(_sizes_message(builder, split, records, rows, features.image))
            images[place], labels[place] = pixels, record[features.label]
            bar.update()
    assert images is not None  # a subset has one image or more
    return Arrays(images, labels)


def _in_chunks(records: Records, rows: np.ndarray) -> Iterator[dict[str, Any]]:
    for start in range(0, len(rows), _CHUNK):
        yield from records.read(rows[start : start + _CHUNK].tolist())


def _decoded(content: bytes, channels: int | None) -> Image.Image:
    """A PNG or JPEG image with the requested number of channels: 1 (gray), 3 or 4."""
    image = Image.open(io.BytesIO(content))
    if image.mode.startswith(_DEEP_MODES):
        raise ValueError(f"an image of mode {image.mode}, more than eight bits per channel")
    gray = image.mode in ("1", "L", "LA")
    return image.convert(_MODES[channels or (1 if gray else 3)])


def _pixels(image: Image.Image, size: int | None) -> UInt8[np.ndarray, "rows columns channels"]:
    """The image unchanged, or resized (shorter side; bilinear, antialias) and center-cropped."""
    if size is not None:
        short = min(image.size)
        width, height = (max(size, round(side * size / short)) for side in image.size)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _check_square(builder: Any, pixels: np.ndarray) -> None:
    rows, columns, _ = pixels.shape
    if rows != columns:
        raise DataError(
            f"images of {builder.name} are {_size(pixels.shape)}; expected square images, which "
            f"can be deformed: set data.image_size, --config.data.image_size={min(rows, columns)}"
        )


def _empty(count: int, pixels: np.ndarray) -> np.ndarray:
    """An uninitialized array for all images.

    Raises:
      DataError: if this machine does not have enough memory.
    """
    needed = count * pixels.nbytes
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise DataError(
            f"{count} images of {_size(pixels.shape)} take {needed / 1e9:.0f} GB, more than the "
            f"{memory / 1e9:.0f} GB of this machine; set data.train_size, data.test_size or a "
            "smaller data.image_size"
        )
    return np.empty((count, *pixels.shape), np.uint8)


def _sizes_message(builder: Any, split: str, records: Records, rows: Any, name: str) -> str:
    sizes: Counter = Counter()
    for record in _in_chunks(records, rows):
        width, height = Image.open(io.BytesIO(record[name])).size
        sizes[height, width] += 1
    (least, *_, most), (usual, count) = sorted(sizes), sizes.most_common(1)[0]
    return (
        f"images of {builder.name} {split} have {len(sizes)} sizes, from {_size(least)} to "
        f"{_size(most)}, {count} of {len(rows)} are {_size(usual)} (rows x columns); set "
        "data.image_size, to which the shorter side is resized before the center is cropped: "
        "--config.data.image_size=64"
    )


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"
