"""Sensitivities to diffeomorphisms (D), to noise (G), and R = D / G (paper, Eq. 1).

For any function from images to named activations, in one call:

    found = sensitivity(function, images, jax.random.key(0))
    print(found["relu03"].R, "±", found["relu03"].R_se)

With deformed and noisy images that you made yourself, from
`cnnpool.instruments.moments.image_moments`:

    found = sensitivities(image_moments(function, clean, deformed, noisy))
"""

from collections.abc import Mapping
from typing import NamedTuple
import warnings

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from cnnpool.devices.progress_bar import ProgressBar
from cnnpool.instruments.activations import Features, computed
from cnnpool.instruments.diffeomorphisms import natural_flags
from cnnpool.instruments.moments import ImageMoments, image_moments
from cnnpool.instruments.perturbation import perturb
from cnnpool.shapes import Float, Key

# A layer counts as dead if its spread is no larger than the rounding error of a constant.
_ROUNDING = 8 * float(np.finfo(np.float32).eps)
_FEW = 100  # below, P / (P - 1) is more than a percent above 1


class Sensitivity(NamedTuple):
    """D, G, R of one layer with jackknife standard errors over images."""

    D: float
    G: float
    R: float
    D_se: float
    G_se: float
    R_se: float


def sensitivity(
    function: Features,
    images: Array | np.ndarray,
    key: Key[Array, ""] | int,
    *,
    delta: int | float = 1.0,
    cutoff: int = 3,
    interpolation: str = "bilinear",
    draws: int = 1,
    batch_size: int = 0,
) -> dict[str, Sensitivity]:
    """D, G and R of every layer of any network.

    Every image x gets its own max-entropy diffeomorphisms tau, and noise with the same norm as
    tau(x) - x. The same key gives the same perturbations, so that different networks, or a network
    and its shuffled twin, are compared on the same images. A terminal shows a progress bar.

    Args:
      function: images (batch, rows, columns, channels) -> activations {layer: (batch, ...)} in
        inference mode; see `cnnpool.instruments.moments.image_moments` for its parameters.
      images: (images, rows, columns, channels), square, floats, preprocessed as the network
        expects; 500 or more keep the standard errors small.
      key: randomness of diffeomorphisms and noise; an int is a seed, jax.random.key(seed).
      delta: nominal displacement, in pixels.
      cutoff: c, the highest frequency of the displacement, in half-waves per side.
      interpolation: how images are deformed: bilinear, nearest or gaussian.
      draws: number of diffeomorphisms, and of noises, per image.
      batch_size: how many images, copies included, have their activations in memory at once;
        0: as many as fit in a gigabyte, on a CPU at most 75.

    Raises:
      ValueError: if images are not square, fewer than two or all the same, or no such
        diffeomorphism exists.
      TypeError: if pixels are not floats, or the function does not return named activations.
    """
    images = jnp.asarray(images)
    key = jax.random.key(key) if isinstance(key, int) else key
    inputs = perturb(
        images,
        *jax.random.split(key),
        delta=delta,
        cutoff=cutoff,
        interpolation=interpolation,
        draws=draws,
    )
    natural_flags([(delta, cutoff)], size=images.shape[1])
    if note := few_images(len(images)):
        warnings.warn(note, stacklevel=2)
    with ProgressBar(len(images), "measuring", "image", compiles=True) as bar:
        moments = image_moments(function, *inputs, batch_size=batch_size, on_batch=bar.update)
    return sensitivities(moments)


def few_images(count: int) -> str | None:
    """A note on the factor P / (P - 1) in D and G, below 100 images; else None.

    Args:
      count: P, the number of images.
    """
    if not 1 < count < _FEW:
        return None
    return (
        f"{count} images are few: D and G divide by the mean over all ordered pairs of images, "
        f"each with itself included, and so are P / (P - 1) = {count / (count - 1):.3f} times "
        "those of different images; 500 make small errors"
    )


def sensitivities(moments: Mapping[str, ImageMoments]) -> dict[str, Sensitivity]:
    """D, G and R of every layer, with errors.

    D = mean_i ||f(tau x_i) - f(x_i)||^2 / (mean over all ordered pairs ||f(x_i) - f(x_j)||^2),
    self-pairs included, which makes D and G larger than with distinct pairs by P / (P - 1). The
    denominator is computed as 2 mean_i ||f(x_i) - m||^2, m being the mean of f. G is the same with
    x_i + eta in place of tau x_i, and R = D / G. A layer whose activations do not depend on the
    image (a zero denominator), or are not finite, gives NaN and a warning that names it.

    Args:
      moments: {layer: its moments}.
    """
    infinite = [name for name, layer in moments.items() if not np.isfinite(layer.spread).all()]
    if infinite:
        warnings.warn(
            f"activations that are NaN or infinite: {', '.join(infinite)}; so are their D, G and R",
            stacklevel=2,
        )
    dead = [name for name, layer in moments.items() if is_dead(layer)]
    deaf = [name for name, layer in moments.items() if not layer.noise.any() and name not in dead]
    if dead or deaf:
        warnings.warn(
            f"dead layers: {', '.join(dead) or 'none'}; without response to the noise: "
            f"{', '.join(deaf) or 'none'}. The activations of a dead layer are the same for all "
            "images, so its D, G and R are NaN; R is NaN without response",
            stacklevel=2,
        )
    return {name: _jackknife(layer) for name, layer in moments.items()}


def is_dead(moments: ImageMoments) -> bool:
    """Whether a layer's activations do not depend on the image, up to float32 rounding."""
    return bool(moments.spread.mean() <= _ROUNDING**2 * moments.center)


def _jackknife(moments: ImageMoments) -> Sensitivity:
    """Jackknife standard errors: leaves out one image at a time, without recomputing activations.

    With S = sum_i s_i and s_i = ||f_i - m||^2, the same sum over all images but i is
    S_i = S - P / (P - 1) s_i.
    """
    deformation, noise, spread, _ = moments
    images = len(spread)
    scale = np.nan if is_dead(moments) else 2.0
    pairs = scale * spread.mean()
    pairs_without = scale * (spread.sum() - images / (images - 1) * spread) / (images - 1)
    d, g = deformation.mean(), noise.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        r = d / g if g > 0 else np.nan
        return Sensitivity(
            float(d / pairs),
            float(g / pairs),
            float(r * scale / scale),
            jackknife_error(_mean_without(deformation) / pairs_without),
            jackknife_error(_mean_without(noise) / pairs_without),
            jackknife_error(R_without(moments) * scale / scale),
        )


def _mean_without(values: Float[np.ndarray, " images"]) -> Float[np.ndarray, " images"]:
    """The mean over the other images, for each image."""
    return (values.sum() - values) / (len(values) - 1)


def R_without(moments: ImageMoments) -> Float[np.ndarray, " images"]:  # noqa: N802
    """For each image, R of a layer without that image; NaN where nothing responds to the noise."""
    d, g = _mean_without(moments.deformation), _mean_without(moments.noise)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(g > 0, d / g, np.nan)


def jackknife_error(replicates: Float[np.ndarray, " images"]) -> float:
    """sqrt((P - 1) / P sum_i (theta_i - mean theta)^2); theta_i is the estimate without image i."""
    return float(np.sqrt((len(replicates) - 1) * replicates.var()))


def mean_channel_activations(features: Features) -> Features:
    """Replaces every activation by its average over channels, the last axis.

    The authors' script for Figure 4 measures the mean channel this way. Linear layers
    have no channels and are left as they are.
    """
    if not isinstance(features, jax.tree_util.Partial):
        features = jax.tree_util.Partial(features)
    return jax.tree_util.Partial(_averaged_over_channels, features)


def _averaged_over_channels(features: Features, images: Array) -> dict[str, Array]:
    return {
        name: f if "linear" in name else f.mean(-1, keepdims=True)
        for name, f in computed(features(images)).items()
    }
