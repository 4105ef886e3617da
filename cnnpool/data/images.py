"""The interfaces of image data sets, and the random views of images to train on.

See docs/protocol.md, "Scale detection in two dimensions" and "CIFAR-10". Images are kept in device
memory as stored; a view (crop, flip, normalization, noise) is computed inside the compiled training
step.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import NamedTuple, Protocol, runtime_checkable

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from cnnpool.errors import CnnpoolError
from cnnpool.shapes import Float, Key, Shaped

Stored = Shaped[Array, "batch height width channels"]
Normalized = Float[Array, "batch height width channels"]


class DataError(CnnpoolError):
    """Data is missing, damaged, or not what it should be."""


def cure_for_too_few(there: int, what: str) -> str:
    """What a user can do who asked for more images than the `there` that exist."""
    if there < 2:  # D and G are normalized by differences between images
        return f"add {what}; a measurement needs two or more"
    return f"add {what}, or give --num_images={there}"


class Split(NamedTuple):
    """Images and labels of one part of a data set, in device memory.

    Attributes:
      images: (n, height, width, channels), uint8 or float32, as stored.
      labels: (n,), int32: a class 0..C-1, or +1 or -1.
    """

    images: Array
    labels: Array


Perturbations = Callable[[Array, int, np.ndarray], tuple[Array, Array]]


@runtime_checkable
class MeasurementData(Protocol):
    """The interface of images for measurements."""

    @property
    def test(self) -> Split:
        """The images to measure on, all or some of them, and their labels."""

    @property
    def source(self) -> str:
        """The origin of the images, for the record; without local paths."""

    @property
    def own_perturbations(self) -> "Perturbations | None":
        """The data set's own perturbations; None if max-entropy diffeomorphisms are used.

        A function (key, draws, indices of test images) -> deformed and noisy images, each
        (draws, images, ...).
        """

    def normalize(self, key: Key[Array, ""], images: Stored) -> Normalized:
        """Stored images, preprocessed for testing a network; the key is for image noise only."""


@runtime_checkable
class ImageData(MeasurementData, Protocol):
    """The interface of image data sets for training."""

    @property
    def train(self) -> Split:
        """The training images."""

    @property
    def classes(self) -> int | None:
        """C, the number of classes; None if labels are +1 and -1 (one output)."""

    def augment(self, key: Key[Array, ""], images: Stored) -> Normalized:
        """A random view of stored training images, normalized, on which a network trains."""


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredImages:
    """Images on which to measure an imported network. Satisfies `MeasurementData`.

    Attributes:
      test: the images, and their classes, -1 if unknown.
      classes: number of classes; None if unknown.
      mean: mean of each channel; uint8 images are scaled to 0..1.
      std: standard deviation of each channel, in the same unit.
      source: origin of the images.
      unreadable: files that were skipped because they cannot be read.
    """

    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    classes: int | None
    unreadable: tuple[str, ...] = ()

    @property
    def own_perturbations(self) -> None:
        """None: natural images have no diffeomorphism of their own."""
        return None

    def normalize(self, key: Key[Array, ""], images: Stored) -> Normalized:
        """(x - mean) / std per channel; the key is unused."""
        return standardize(images, self.mean, self.std)


@dataclasses.dataclass(frozen=True, eq=False)
class StandardizedImages:
    """Images normalized per channel, with image noise if the config asks for it.

    Satisfies `ImageData`.

    Attributes:
      train: the training images.
      test: the test images.
      classes: C, or None if labels are +1 and -1.
      source: origin of the images.
      mean: mean of each channel; uint8 images are scaled to 0..1.
      std: standard deviation of each channel, in the same unit.
      image_noise: s, the norm of the noise added to every normalized image; 0: no noise.
      random_view: (key, stored images) -> stored images; augmentation, for training only.
    """

    train: Split
    test: Split
    classes: int | None
    source: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_noise: float
    random_view: Callable[[Array, Array], Array]

    @property
    def own_perturbations(self) -> None:
        """None: natural images have no diffeomorphism of their own."""
        return None

    def __post_init__(self):
        """Raises ValueError if a number is out of range."""
        channels = self.train.images.shape[-1]
        if not (math.isfinite(self.image_noise) and self.image_noise >= 0):
            raise ValueError(f"data.image_noise must be 0 or positive, got {self.image_noise}")
        if len(self.mean) != channels or len(self.std) != channels:
            raise ValueError(
                f"expected one mean and one std for each of {channels} channels, got "
                f"{self.mean} and {self.std}"
            )
        if not (all(map(math.isfinite, self.mean)) and all(0 < s < math.inf for s in self.std)):
            raise ValueError(
                f"expected finite means and positive stds, got {self.mean} and {self.std}; a "
                "channel that is constant over the training images needs a std in the config"
            )

    def augment(self, key: Key[Array, ""], images: Stored) -> Normalized:
        """A random view of stored training images, normalized."""
        view_key, noise_key = jax.random.split(key)
        return self.normalize(noise_key, self.random_view(view_key, images))

    def normalize(self, key: Key[Array, ""], images: Stored) -> Normalized:
        """(x - mean) / std per channel, plus image noise; without noise the key is unused."""
        clean = standardize(images, self.mean, self.std)
        return with_image_noise(key, clean, self.image_noise) if self.image_noise else clean


def standardize(images: Stored, mean: tuple[float, ...], std: tuple[float, ...]) -> Normalized:
    """(x - mean) / std for each channel, in float32.

    Args:
      images: floating point, or uint8, which is divided by 255 first.
      mean: mean of each channel.
      std: standard deviation of each channel.
    """
    scaled = images.astype(jnp.float32)
    if images.dtype == jnp.uint8:
        scaled = scaled / 255
    centre, spread = (jnp.array(v, jnp.float32).reshape(1, 1, 1, -1) for v in (mean, std))
    return (scaled - centre) / spread


def with_image_noise(key: Key[Array, ""], images: Normalized, size: float) -> Normalized:
    """x + s N(0, 1) / sqrt(h w c): white noise of norm about s on every image.

    See docs/protocol.md, "CIFAR-10", and the abstract of the paper.

    Args:
      key: randomness.
      images: normalized images.
      size: s, the root mean square of the norm of an image's noise.
    """
    per_pixel = size / math.sqrt(math.prod(images.shape[1:]))
    return images + per_pixel * jax.random.normal(key, images.shape, images.dtype)


def as_stored(key: Key[Array, ""], images: Stored) -> Stored:
    """The images themselves: no augmentation."""
    return images


def crop_and_flip(key: Key[Array, ""], images: Stored, *, padding: int) -> Stored:
    """Random crops of the padded images at the original size, half of them mirrored.

    See docs/protocol.md, "CIFAR-10". Each of the (2 padding + 1)^2 crops is equally likely. One
    gather does both: mirroring separately takes ten times longer on a CPU with three channels.

    Args:
      key: randomness.
      images: stored images; the padding is 0, black before normalization.
      padding: pixels on each side.
    """
    count, height, width, _ = images.shape
    crop_key, flip_key = jax.random.split(key)
    corners = jax.random.randint(crop_key, (count, 2), 0, 2 * padding + 1)
    mirrored = jax.random.bernoulli(flip_key, shape=(count, 1))
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows = corners[:, :1] + jnp.arange(height)[None]
    columns = (
        jnp.where(mirrored, jnp.arange(width)[None, ::-1], jnp.arange(width)[None]) + corners[:, 1:]
    )
    # vmap shows the compiler that no image reads another, which may be on another device.
    return jax.vmap(lambda image, r, c: image[r[:, None], c[None]])(padded, rows, columns)
