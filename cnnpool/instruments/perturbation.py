"""Images with their deformed and noisy copies, on which sensitivities are measured."""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from cnnpool.instruments.diffeomorphisms import deform
from cnnpool.instruments.noise import WHITE, noisy_images
from cnnpool.shapes import Float, Key


class Inputs(NamedTuple):
    """The images on which every network is measured.

    Attributes:
      clean: x, normalized.
      deformed: tau(x).
      noisy: x + eta.
    """

    clean: Float[Array, "images *size channels"]
    deformed: Float[Array, "draws images *size channels"]
    noisy: Float[Array, "draws images *size channels"]


def perturb(
    images: Array,
    deformation_key: Key[Array, ""],
    noise_key: Key[Array, ""],
    *,
    delta: int | float = 1.0,
    cutoff: int = 3,
    interpolation: str = "bilinear",
    draws: int = 1,
    noise: str = WHITE,
) -> Inputs:
    """Images with max-entropy diffeomorphisms and noise of the same norm.

    With the same keys, two values of delta give an image displacement fields that differ in scale
    only, and its noise differs in norm only. The kind of noise does not affect the
    diffeomorphisms.

    Args:
      images: x, (images, rows, columns, channels), square, normalized.
      deformation_key: randomness of the diffeomorphisms.
      noise_key: randomness of the noise.
      delta: nominal displacement, in pixels.
      cutoff: c.
      interpolation: a name in `cnnpool.instruments.diffeomorphisms.INTERPOLATIONS`.
      draws: number of diffeomorphisms, and of noises, per image.
      noise: a name in `cnnpool.instruments.noise.KINDS`.

    Raises:
      ValueError: if images are not square, fewer than two or all the same, if a pixel is not
        finite, or no such diffeomorphism or noise exists.
      TypeError: if pixels are not floats.
    """
    if images.ndim != 4:
        raise ValueError(
            f"expected images of shape (images, height, width, channels), got {images.shape}"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"expected images of floats, got {images.dtype}; normalize them first")
    if draws < 1:
        raise ValueError(f"expected 1 draw or more of each image, got {draws}")
    _check_finite(images)
    check_images_differ(images)
    keys = jax.random.split(deformation_key, (draws, len(images)))
    deformed = [
        deform(row, images, delta=delta, cutoff=cutoff, interpolation=interpolation) for row in keys
    ]
    stacked = jnp.stack(deformed)
    return Inputs(images, stacked, noisy_images(noise_key, images, stacked, noise))


def check_images_differ(images: Array) -> None:
    """Raises ValueError if all images are the same, so that there is nothing to compare."""
    if bool((images == images[:1]).all()):
        raise ValueError(
            f"all {len(images)} images are the same: D, G and R compare different ones; check the "
            "data, or take more images"
        )


def _check_finite(images: Array) -> None:
    bad = np.flatnonzero(~np.asarray(jnp.isfinite(images).all((1, 2, 3))))
    if bad.size:
        raise ValueError(
            f"{bad.size} of {len(images)} images have pixels that are NaN or infinite, the first "
            f"is number {bad[0]}: leave them out"
        )
