"""Sensitivities to diffeomorphisms (D), to noise (G), and R = D / G (paper, Eq. 1).

For any function from inputs to named activations, of any network or none:

    moments = image_moments(features, clean, deformed, noisy, batch_size=100)
    print(sensitivities(moments)["relu03"].D)

Activations are streamed: kept are one mean a layer and three numbers an image.
"""

from collections.abc import Callable, Mapping
import functools
from typing import NamedTuple
import warnings

import jax
from jax import Array, lax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

Features = Callable[[Array], dict[str, Array]]

# A layer counts as dead where its spread is below what rounding leaves of a constant.
_ROUNDING = 8 * float(np.finfo(np.float32).eps)


class ImageMoments(NamedTuple):
    """What the sensitivities of one layer are made of, image by image.

    Attributes:
      deformation: mean over draws of ||f(tau(x_i)) - f(x_i)||^2.
      noise: mean over draws of ||f(x_i + eta) - f(x_i)||^2.
      spread: ||f(x_i) - m||^2, m the mean of f over the images.
      center: ||m||^2.
    """

    deformation: Float[np.ndarray, " images"]
    noise: Float[np.ndarray, " images"]
    spread: Float[np.ndarray, " images"]
    center: float


class Sensitivity(NamedTuple):
    """D, G, R of one layer with jackknife standard errors over images."""

    D: float
    G: float
    R: float
    D_se: float
    G_se: float
    R_se: float


def image_moments(
    features: Features,
    clean: Float[Array, "images *shape"],
    deformed: Float[Array, "..."],
    noisy: Float[Array, "..."],
    *,
    batch_size: int,
) -> dict[str, ImageMoments]:
    """Streams all images through `features` and keeps their moments.

    Two passes over the clean images: the first finds the mean activation m, the
    second sums ||f - m||^2, since E||f||^2 - ||E f||^2 cancels in float32.

    Args:
      features: images (batch, *shape) -> activations {layer: (batch, ...)}. Give
        large parameters as `jax.tree_util.Partial(apply, params)`, so that networks of
        one shape share a compiled program.
      clean: x.
      deformed: tau(x), (draws, images, *shape), one or more draws of each image.
      noisy: x + eta, likewise, perhaps with another number of draws.
      batch_size: images whose activations are held at once.

    Returns:
      The moments of each layer, in the order in which `features` names them.

    Raises:
      ValueError: if shapes disagree or there are fewer than two images.
    """
    for name, array in (("deformed", deformed), ("noisy", noisy)):
        if array.shape[1:] != clean.shape or not len(array):
            raise ValueError(
                f"{name} has shape {array.shape}; expected (draws, *{clean.shape}), draws >= 1"
            )
    if len(clean) < 2 or batch_size < 1:
        raise ValueError(
            f"expected at least 2 images and a batch size of at least 1; got {len(clean)} and "
            f"{batch_size}"
        )
    if not isinstance(features, jax.tree_util.Partial):
        features = jax.tree_util.Partial(features)
    size = min(batch_size, len(clean))
    names = layer_names(features, clean)
    moments = jax.device_get(_stream(features, clean, deformed, noisy, batch_size=size))
    wide = functools.partial(jax.tree.map, lambda a: np.asarray(a, np.float64))
    return {name: ImageMoments(*wide(moments[name])) for name in names}


def layer_names(features: Features, images: Float[Array, "images *shape"]) -> list[str]:
    """Names of the activations in forward order (JAX would return a dict sorted by key)."""
    names: list[str] = []
    jax.eval_shape(lambda x: names.extend(features(x)), images[:1])
    return names


@functools.partial(jax.jit, static_argnames="batch_size")
def _stream(features, clean, deformed, noisy, *, batch_size: int):
    images = len(clean)
    batches = -(-images // batch_size)
    # The last batch is filled up with copies of the last image, of weight 0.
    index = jnp.minimum(jnp.arange(batches * batch_size), images - 1).reshape(batches, batch_size)
    weight = (jnp.arange(batches * batch_size) < images).reshape(batches, batch_size)

    def update_mean(mean, batch):
        rows, w, before = batch
        fraction = w.sum() / (before + w.sum())

        def update(m, f):
            scaled = w.reshape(-1, *[1] * (f.ndim - 1)) / w.sum()
            return m + fraction * ((f - m[None]) * scaled).sum(0)

        return jax.tree.map(update, mean, features(clean[rows])), None

    one = jax.eval_shape(features, clean[:1])
    zero = jax.tree.map(lambda f: jnp.zeros(f.shape[1:], f.dtype), one)
    before = jnp.arange(batches) * batch_size
    mean, _ = lax.scan(update_mean, zero, (index, weight, before))

    def squared(a, b):
        return jax.tree.map(lambda x, y: ((x - y) ** 2).reshape(len(x), -1).sum(-1), a, b)

    def batch_moments(rows):
        base = features(clean[rows])

        def to_base(batch):
            return squared(features(batch), base)

        def over_draws(stack):
            return jax.tree.map(
                lambda d: d.mean(0), lax.map(to_base, jnp.take(stack, rows, axis=1))
            )

        return (
            over_draws(deformed),
            over_draws(noisy),
            squared(base, jax.tree.map(lambda m: m[None], mean)),
        )

    per_image = lax.map(batch_moments, index)
    deformation, noise, spread = jax.tree.map(lambda a: a.reshape(-1)[:images], per_image)
    return {
        name: (deformation[name], noise[name], spread[name], (mean[name] ** 2).sum())
        for name in mean
    }


def sensitivities(moments: Mapping[str, ImageMoments]) -> dict[str, Sensitivity]:
    """D, G and R of every layer, with errors.

    D = mean_i ||f(tau x_i) - f(x_i)||^2 / (mean over all ordered pairs ||f(x_i) - f(x_j)||^2),
    self-pairs included: the denominator is 2 mean_i ||f(x_i) - m||^2. G likewise with
    noise, R = D / G. A layer whose activations do not depend on the image (a zero
    denominator) gives NaN and a warning that names it.

    Args:
      moments: of each layer.
    """
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
    """Standard errors from leaving out one image at a time, without recomputing anything.

    With S = sum_i s_i, s_i = ||f_i - m||^2, the images without i have
    S_i = S - P / (P - 1) s_i, and se^2 = (P - 1) / P sum_i (theta_i - mean theta)^2.
    """
    deformation, noise, spread, _ = moments
    images = len(spread)
    scale = np.nan if is_dead(moments) else 2.0

    def leave_one_out(values):
        return (values.sum() - values) / (images - 1)

    pairs = scale * spread.mean()
    pairs_without = scale * (spread.sum() - images / (images - 1) * spread) / (images - 1)
    d, g = deformation.mean(), noise.mean()
    d_without, g_without = leave_one_out(deformation), leave_one_out(noise)

    def error(replicates):
        return float(np.sqrt((images - 1) * replicates.var()))

    with np.errstate(divide="ignore", invalid="ignore"):
        r = d / g if g > 0 else np.nan
        r_without = np.where(g_without > 0, d_without / g_without, np.nan)
        return Sensitivity(
            float(d / pairs),
            float(g / pairs),
            float(r * scale / scale),
            error(d_without / pairs_without),
            error(g_without / pairs_without),
            error(r_without),
        )


def mean_channel_activations(features: Features) -> Features:
    """Replaces every activation by its average over channels, the last axis.

    The authors' script for Figure 4 measures the mean channel this way. Linear layers
    have no channels and stay.
    """
    if not isinstance(features, jax.tree_util.Partial):
        features = jax.tree_util.Partial(features)
    return jax.tree_util.Partial(_averaged_over_channels, features)


def _averaged_over_channels(features: Features, images: Array) -> dict[str, Array]:
    return {
        name: f if "linear" in name else f.mean(-1, keepdims=True)
        for name, f in features(images).items()
    }
