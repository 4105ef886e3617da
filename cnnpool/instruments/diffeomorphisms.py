"""Max-entropy diffeomorphisms of square images (docs/protocol.md, "Diffeomorphisms").

Petrini et al. (2021) draw displacement fields of maximal entropy at a given mean squared
gradient: sine series with independent Gaussian coefficients up to a cut-off frequency. Here
displacements are in pixels, rows first, and delta is the nominal displacement.

delta is the authors' approximation for a large cut-off. By the exact variance
(`displacement_variance`), n = 32, c = 3 and delta = 1 displace the centre by 0.90 pixels rms in
each direction and by 1.27 in all; over the whole image, the rms of the vector is 0.82.
"""

from collections.abc import Callable, Sequence
import functools
import itertools
import math
import warnings

import jax
from jax import Array, lax
import jax.numpy as jnp
import numpy as np

from cnnpool.shapes import Float, Int, Key

# The width of the authors' Gaussian interpolation, in pixels.
GAUSSIAN_SIGMA = 0.4715

_AT_ONCE = 50  # images

Taps = tuple[Int[Array, "taps *shape"], Float[Array, "taps *shape"]]
Interpolation = Callable[[Float[Array, "*shape"], int], Taps]


def temperature(delta: int | float, *, size: int, cutoff: int) -> float:
    """T = 4 delta^2 / (pi n^2 ln c), the variance of a coefficient.

    Args:
      delta: nominal displacement, in pixels.
      size: n, pixels per side.
      cutoff: c, the highest frequency, in half-waves per side.

    Raises:
      ValueError: if delta is not positive and finite, n < 2 or c < 2 (ln 1 is 0).
    """
    _check(size, cutoff)
    if not (math.isfinite(delta) and delta > 0):
        raise ValueError(f"expected a nominal displacement delta > 0 in pixels, got {delta}")
    return 4 * delta**2 / (math.pi * size**2 * math.log(cutoff))


def natural_deltas(*, size: int, cutoff: int) -> tuple[float, float]:
    """Nominal displacements in pixels that look natural: from 1/2 to n / (pi c).

    At T_min = 1 / (pi n^2 ln c) the displacement is half a pixel; above
    T_max = 4 / (pi^3 c^2 ln c) the field has overhangs. The range is empty if n < pi c / 2.
    """
    _check(size, cutoff)
    return 1 / 2, size / (math.pi * cutoff)


def is_natural(delta: int | float, *, size: int, cutoff: int) -> bool:
    """Whether delta is within `natural_deltas`, ends included: a flag; others are measured too."""
    least, most = natural_deltas(size=size, cutoff=cutoff)
    return least <= delta <= most


def natural_flags(kinds: Sequence[tuple[float, int]], *, size: int) -> list[bool]:
    """`is_natural` of every (delta, cutoff), with a warning that names the others."""
    flags = [is_natural(delta, size=size, cutoff=cutoff) for delta, cutoff in kinds]
    if not all(flags):
        outside = [kind for kind, natural in zip(kinds, flags, strict=True) if not natural]
        named = ", ".join(f"delta {delta:g} at cut-off {cutoff}" for delta, cutoff in outside)
        warnings.warn(
            f"outside T_min..T_max, the temperatures of natural diffeomorphisms of {size} x {size} "
            f"pixels: {named}. They are measured all the same; result files flag them as not "
            "`natural`",
            stacklevel=3,
        )
    return flags


def displacement_variance(
    temperature: float, *, size: int, cutoff: int
) -> Float[np.ndarray, "size size"]:
    """The exact variance of one component of the displacement at every pixel, in pixels^2.

    n^2 T sum_ij sin^2(i pi u) sin^2(j pi v) / (i^2 + j^2), the same for both components.

    Args:
      temperature: T.
      size: n, pixels per side.
      cutoff: c.

    Raises:
      ValueError: if n < 2 or c < 2.
    """
    sines, amplitudes = _modes(size, cutoff)
    return size**2 * temperature * sines**2 @ amplitudes**2 @ (sines**2).T


def sample_displacements(
    key: Key[Array, ""], *, size: int, temperature: float | Float[Array, ""], cutoff: int
) -> Float[Array, "2 size size"]:
    """Draws the displacement field of one image; use `jax.vmap` over keys for many.

    n sum_ij C_ij / sqrt(i^2 + j^2) sin(i pi u) sin(j pi v) for each component, with
    C_ij ~ N(0, T) for 1 <= i, j <= c and i^2 + j^2 <= (c + 1/2)^2. Pixels sit at
    u, v = linspace(0, 1, n). At another temperature the same key gives the same field, scaled.

    Args:
      key: randomness.
      size: n, pixels per side.
      temperature: T; may be traced.
      cutoff: c.

    Returns:
      (dy, dx) in pixels, along rows and along columns; exactly 0 on the border.

    Raises:
      ValueError: if n < 2 or c < 2.
    """
    sines, amplitudes = (jnp.asarray(a, float) for a in _modes(size, cutoff))
    coefficients = amplitudes[None] * jax.random.normal(key, (2, cutoff, cutoff))
    # Accelerators would round the factors to TF32 or bfloat16.
    field = jnp.einsum(
        "ui,kij,vj->kuv", sines, coefficients, sines, precision=lax.Precision.HIGHEST
    )
    return size * jnp.sqrt(temperature) * field


def bilinear(position: Float[Array, "*shape"], size: int) -> Taps:
    """Weights linear in the distance to the two pixels on either side, along one axis.

    Args:
      position: coordinates in pixels, in [0, n - 1].
      size: n, pixels along the axis.

    Returns:
      The indices of the pixels, and their weights.
    """
    below = jnp.floor(position)
    index = below.astype(jnp.int32)
    fraction = position - below
    return (
        jnp.stack([index, jnp.minimum(index + 1, size - 1)]),
        jnp.stack([1 - fraction, fraction]),
    )


def nearest(position: Float[Array, "*shape"], size: int) -> Taps:
    """The nearest pixel along one axis, halves rounded up; see `bilinear`."""
    return _nearest_index(position)[None], jnp.ones_like(position)[None]


def gaussian(position: Float[Array, "*shape"], size: int) -> Taps:
    """Weights exp(-d^2 / (2 sigma^2)) of pixels at distance d, normalized; see `bilinear`.

    sigma = 0.4715 pixels. Uses the five pixels centred on the nearest one, those that are in the
    image: the pixels left out are at least 2.5 pixels away and would have at most 1.4e-6 of the
    total weight (with four pixels, 1e-4).

    It smooths: without displacement 0.68 of a pixel's value stays where it is and each of the
    four neighbours gets 0.07, so tau(x) - x does not vanish with delta. A constant image is
    unchanged.
    """
    middle = _nearest_index(position)
    index = jnp.stack([middle + step for step in range(-2, 3)])
    weight = jnp.exp(-((index - position[None]) ** 2) / (2 * GAUSSIAN_SIGMA**2))
    weight = jnp.where((index >= 0) & (index < size), weight, 0)
    return jnp.clip(index, 0, size - 1), weight / weight.sum(0, keepdims=True)


INTERPOLATIONS: dict[str, Interpolation] = {
    "bilinear": bilinear,
    "nearest": nearest,
    "gaussian": gaussian,
}


def warp(
    image: Float[Array, "rows columns channels"],
    displacement: Float[Array, "2 n m"],
    *,
    interpolation: Interpolation,
) -> Float[Array, "rows columns channels"]:
    """The image sampled at (row - dy, column - dx), all channels alike; use `jax.vmap` for many.

    Positions are clamped to [0, n - 1]. Without displacement the image is exactly the same for
    `bilinear` and `nearest`, and smoother for `gaussian`.

    Args:
      image: a square image of floats.
      displacement: (dy, dx) in pixels.
      interpolation: a value of `INTERPOLATIONS`. Weights are products of a row's and a column's.

    Raises:
      ValueError: if the image is not square or the field is not of its size.
      TypeError: if pixels are integers.
    """
    size = _side(image.shape)
    if displacement.shape != (2, size, size):
        raise ValueError(
            f"expected a displacement of shape (2, {size}, {size}) for an image of {size} x {size} "
            f"pixels, got {displacement.shape}; sample it with size={size}"
        )
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(f"expected an image of floats, got {image.dtype}; normalize it first")
    grid = jnp.arange(size, dtype=displacement.dtype)
    row_index, row_weight = interpolation(
        jnp.clip(grid[:, None] - displacement[0], 0, size - 1), size
    )
    column_index, column_weight = interpolation(
        jnp.clip(grid[None, :] - displacement[1], 0, size - 1), size
    )
    pixels = image.reshape(size * size, -1)
    warped = jnp.zeros_like(image)
    for i, j in itertools.product(range(len(row_index)), range(len(column_index))):
        found = pixels.at[row_index[i] * size + column_index[j]].get(mode="promise_in_bounds")
        weight = (row_weight[i] * column_weight[j]).astype(image.dtype)
        warped += weight[..., None] * found
    return warped


def deform(
    keys: Key[Array, " images"],
    images: Float[Array, "images rows columns channels"],
    *,
    delta: int | float,
    cutoff: int,
    interpolation: str,
) -> Float[Array, "images rows columns channels"]:
    """tau(x) of every image, each with its own max-entropy diffeomorphism.

    An image's field depends on its key alone, so deforming images in chunks gives the same, up
    to rounding, as deforming all of them at once.

    Args:
      keys: one key for each image's field.
      images: square and normalized.
      delta: nominal displacement, in pixels; see `temperature`.
      cutoff: c; 3 in the paper.
      interpolation: a name in `INTERPOLATIONS`; "bilinear" in the paper.

    Raises:
      ValueError: if images are not square, the interpolation is unknown, delta is not positive
        and finite, or c < 2.
      TypeError: if pixels are integers.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"interpolation is {interpolation!r}; expected one of {sorted(INTERPOLATIONS)}"
        )
    t = temperature(delta, size=_side(images.shape[1:]), cutoff=cutoff)
    return _deform(keys, images, t, cutoff=cutoff, interpolation=INTERPOLATIONS[interpolation])


@functools.partial(jax.jit, static_argnames=("cutoff", "interpolation"))
def _deform(
    keys: Array, images: Array, temperature: Array, *, cutoff: int, interpolation: Interpolation
) -> Array:
    def one(key, image):
        field = sample_displacements(key, size=len(image), temperature=temperature, cutoff=cutoff)
        return warp(image, field, interpolation=interpolation)

    # Many large images at once would fill the memory with the positions of their pixels.
    return lax.map(lambda pair: one(*pair), (keys, images), batch_size=_AT_ONCE)


def _nearest_index(position: Float[Array, "*shape"]) -> Int[Array, "*shape"]:
    return jnp.floor(position + 0.5).astype(jnp.int32)


def _side(shape: tuple[int, ...]) -> int:
    """n of an image of shape (n, n, channels)."""
    rows, columns, _ = shape
    if rows != columns:
        raise ValueError(
            f"expected a square image, got {rows} x {columns} pixels; crop or pad it to a square"
        )
    return rows


def _modes(
    size: int, cutoff: int
) -> tuple[Float[np.ndarray, "size cutoff"], Float[np.ndarray, "cutoff cutoff"]]:
    """sin(i pi u) at all pixels, and 1 / sqrt(i^2 + j^2) or 0 beyond the cut-off; float64."""
    _check(size, cutoff)
    i = np.arange(1, cutoff + 1)
    sines = np.sin(np.pi * np.linspace(0, 1, size)[:, None] * i)
    sines[[0, -1]] = 0  # sin(i pi) is 1e-16 in floating point
    square = i[:, None] ** 2 + i**2
    return sines, np.where(square <= (cutoff + 0.5) ** 2, 1 / np.sqrt(square), 0)


def _check(size: int, cutoff: int) -> None:
    if size < 2 or cutoff < 2:
        raise ValueError(
            f"expected images of 2 pixels per side or more and a cut-off of 2 or more (ln c is in "
            f"the temperature's denominator); got size {size}, cutoff {cutoff}"
        )
