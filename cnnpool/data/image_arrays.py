"""Images of a user, prepared already: `images.npy` in a folder, to measure a network on.

(n, h, w, c), uint8 or floating point; they are normalized with the network's mean and standard
deviation. `labels.npy` beside it, class numbers of the network, gives a test error if it holds the
network's last class; with fewer classes it may be of other ones.
"""

import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from cnnpool.data import arrays
from cnnpool.data.images import DataError, MeasuredImages, Split

IMAGES, LABELS = "images.npy", "labels.npy"


def build(config: ConfigDict, *, count: int, seed: int) -> MeasuredImages:
    """Images of a folder to measure on.

    Args:
      config: fields `data_dir`, `mean`, `std`.
      count: images wanted.
      seed: of the choice; a smaller count takes the first of a larger one.

    Raises:
      DataError: if a file is absent or damaged, or has too few images.
    """
    images, labels = _load(config)
    if count > len(images):
        raise DataError(
            f"{config.data_dir} has {len(images)} images; expected at least --num_images={count}"
        )
    order = np.asarray(jax.random.permutation(jax.random.key(seed), len(images)))[:count]
    return MeasuredImages(
        test=Split(jnp.asarray(images[order]), jnp.asarray(labels[order])),
        mean=tuple(config.mean),
        std=tuple(config.std),
        source=f"arrays ({fingerprint(config)})",
        classes=int(labels.max()) + 1 if labels.min() >= 0 else None,
    )


def fingerprint(config: ConfigDict) -> str:
    """A checksum of images and labels."""
    digest = hashlib.sha256()
    for part in _load(config):
        digest.update(np.ascontiguousarray(part).data)
    return f"{IMAGES}, with labels sha256 {digest.hexdigest()[:12]}"


def _folder(config: ConfigDict) -> Path:
    if not config.data_dir:
        raise ValueError(f"--data_dir must name the folder of {IMAGES}")
    return Path(config.data_dir).expanduser()


def _load(config: ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    folder = _folder(config)
    if (folder / LABELS).exists():
        return arrays.load_part(folder / IMAGES, folder / LABELS)
    images = arrays.check_images(arrays.read_npy(folder / IMAGES), folder / IMAGES)
    return images, np.full(len(images), -1, np.int32)
