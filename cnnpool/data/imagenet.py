"""ImageNet's validation images, read with TensorFlow Datasets (TFDS) but without TensorFlow.

TFDS prepares the data set, imagenet2012, from the archives that image-net.org distributes; write it
as array_record files. Images are preprocessed as for testing torchvision's networks.
"""

import functools
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np

from cnnpool.data import image_folder, preparation, tfds_files
from cnnpool.data.images import DataError, MeasuredImages
from cnnpool.data.preparation import Sizes
from cnnpool.data.tfds_records import Records

NAME, SPLIT, CLASSES = "imagenet2012", "validation", 1000


def build(config: ConfigDict, *, count: int, seed: int) -> MeasuredImages:
    """Validation images on which to measure a network.

    Args:
      config: fields `data_dir` (TFDS's folder; None: TFDS_DATA_DIR, else TFDS's default),
        `resize`, `crop`, `mean`, `std`.
      count: number of images.
      seed: seed of the choice; a smaller count takes the first images of a larger one.

    Raises:
      DataError: if the data is missing, damaged, in another file format or too small.
    """
    builder = _open(config)
    with tfds_files.reading(builder, SPLIT):
        records = Records(builder, SPLIT, ["image", "label"])
    if count > len(records):
        raise DataError(
            f"expected --num_images of at most {len(records)}, the validation images of {NAME}; "
            f"got {count}"
        )
    order = np.asarray(jax.random.permutation(jax.random.key(seed), len(records)))[:count]
    with tfds_files.reading(builder, SPLIT):
        chosen = list(records.read(order.tolist()))
    openers = [functools.partial(bytes, record["image"]) for record in chosen]
    sizes = Sizes(config.resize, config.crop)
    found = preparation.read_many(openers, count, sizes, what=f"reading {NAME}")
    if found.unreadable:
        listed = preparation.named((f"record {order[p]}", r) for p, r in found.unreadable.items())
        raise DataError(f"damaged images in {builder.data_path}; prepare it again:\n{listed}")
    labels = [int(record["label"]) for record in chosen]
    source = f"{NAME} {builder.info.version} {SPLIT} (TFDS)"
    return image_folder.measured(found.images, labels, config, source=source, classes=CLASSES)


def fingerprint(config: ConfigDict) -> str:
    """The name and version of the data set, which identify the images."""
    return f"{NAME} {_open(config).info.version}"


def _open(config: ConfigDict) -> Any:
    return tfds_files.open_builder(tfds_files.data_root(config.data_dir), NAME)
