"""Sensitivities to diffeomorphisms (D), to noise (G), and R = D / G (paper, Eq. 1).

For any function from inputs to named activations, of any network or none:

    moments = image_moments(features, clean, deformed, noisy, batch_size=100)
    print(sensitivities(moments)["relu03"].D)

Activations are streamed: kept are two means a layer, and of an image and layer three numbers
and at most `SKETCH` projections.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import math
from typing import Any, NamedTuple
import warnings

import jax
from jax import Array, lax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float
import numpy as np

from cnnpool import global_arrays
from cnnpool.batch_sharding import DATA_AXIS

_BY_IMAGE = PartitionSpec(DATA_AXIS)
_BY_DRAW_AND_IMAGE = PartitionSpec(None, DATA_AXIS)
# Of features, clean, deformed, noisy and weight.
_SPECS = (PartitionSpec(), _BY_IMAGE, _BY_DRAW_AND_IMAGE, _BY_DRAW_AND_IMAGE, _BY_IMAGE)

Features = Callable[[Array], dict[str, Array]]

SKETCH = 1024

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
    mesh: Mesh | None = None,
    compiler_options: Mapping[str, Any] | None = None,
) -> dict[str, ImageMoments]:
    """Streams all images through `features` once and keeps their moments.

    E||f||^2 - ||E f||^2 cancels in float32, so everything is relative to a reference r, the mean
    activation of the first batch: with g = f - r and its mean c over all images, the spread
    ||f_i - m||^2 is ||g_i||^2 - 2 g_i.c + ||c||^2. Of the middle term, which needs the mean before
    it is known, the sum is exact, and so are D, G and R; image by image it is estimated from
    `SKETCH` random projections of g where a layer has more activations than that. It is small,
    |c| being |g| / sqrt(batch), and the estimate unbiased, wrong by |g| |c| / 32: with 25 images
    of a batch, standard errors are right to a percent.

    Args:
      features: images (batch, *shape) -> activations {layer: (batch, ...)}; it is given the
        copies of a batch, clean, deformed and noisy, one behind the other. Give
        large parameters as `jax.tree_util.Partial(apply, params)`, so that networks of
        one shape share a compiled program.
      clean: x.
      deformed: tau(x), (draws, images, *shape), one or more draws of each image.
      noisy: x + eta, likewise, perhaps with another number of draws.
      batch_size: images, their deformed and noisy copies counted, whose activations are held
        at once on a device.
      mesh: with the axis `data`, over whose devices the images are spread; None is one device.
      compiler_options: of the streaming program, for `jax.jit`.

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
    images, devices = len(clean), 1 if mesh is None else mesh.size
    share = -(-images // devices)
    size = min(max(1, batch_size // (1 + len(deformed) + len(noisy))), share)
    stream = _compiled_stream(mesh, size, tuple(sorted((compiler_options or {}).items())))
    # Where devices do not divide the images, the last one is repeated, with weight 0.
    number = np.arange(share * devices)
    weight = (number < images).astype(clean.dtype)
    if share * devices > images:
        index = np.minimum(number, images - 1)
        clean, deformed, noisy = clean[index], deformed[:, index], noisy[:, index]
    arguments = (features, clean, deformed, noisy, weight)
    if mesh is not None:
        arguments = tuple(
            global_arrays.place(argument, NamedSharding(mesh, spec))
            for argument, spec in zip(arguments, _SPECS, strict=True)
        )
    found = global_arrays.fetch(stream(*arguments))
    wide = functools.partial(jax.tree.map, lambda a: np.asarray(a[:images], np.float64))
    return {
        name: ImageMoments(*[*wide(rows), float(center)])
        for name, rows, center in zip(found.names, found.rows, found.centers, strict=True)
    }


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["rows", "centers"], meta_fields=["names"]
)
@dataclasses.dataclass
class _InForwardOrder:
    """Arrays of every layer out of a compiled program; JAX would sort a dict by its keys."""

    names: tuple[str, ...]
    rows: Any  # of every layer: deformation, noise, spread of every image
    centers: Any


@functools.cache
def _compiled_stream(
    mesh: Mesh | None, batch_size: int, compiler_options: tuple[tuple[str, Any], ...]
):
    """(features, clean, deformed, noisy, weight) -> `_InForwardOrder`."""

    def stream(*arguments):
        names: list[str] = []
        axis = None if mesh is None else DATA_AXIS
        run = functools.partial(_stream, names, batch_size=batch_size, axis=axis)
        if mesh is not None:
            run = jax.shard_map(
                run,
                mesh=mesh,
                in_specs=_SPECS,
                out_specs=(_BY_IMAGE, PartitionSpec()),
                check_vma=False,
            )
        rows, centers = run(*arguments)
        return _InForwardOrder(tuple(names), rows, centers)

    return jax.jit(stream, compiler_options=dict(compiler_options) or None)


class _Batch(NamedTuple):
    """What is kept of a layer and a batch, image by image; g = f - r."""

    deformation: Float[Array, " batch"]
    noise: Float[Array, " batch"]
    distance: Float[Array, " batch"]  # ||g||^2
    sketch: Float[Array, "batch projections"]  # of g


def _stream(names, features, clean, deformed, noisy, weight, *, batch_size: int, axis: str | None):
    """Rows and centers of every layer; notes the layers' names.

    With an axis, of one device's images: only means of layers go between devices, twice each.
    """

    def total(values):
        return values if axis is None else lax.psum(values, axis)

    images = len(clean)
    batches = -(-images // batch_size)
    # The last batch is filled up with copies of the last image, of weight 0.
    number = jnp.arange(batches * batch_size).reshape(batches, batch_size)
    index = jnp.minimum(number, images - 1)
    weights = jnp.where(number < images, weight[index], 0)
    changed = jnp.concatenate([deformed, noisy])

    def of_batch(carry, batch):
        (references, sums), (rows, w, first) = carry, batch
        stacked = jnp.concatenate([clean[rows][None], jnp.take(changed, rows, axis=1)])
        # Without the barrier, what makes a unit is repeated in everything that reads it.
        found = lax.optimization_barrier(features(stacked.reshape(-1, *clean.shape[1:])))
        flat = {name: f.reshape(len(stacked), batch_size, -1) for name, f in found.items()}
        means = functools.partial(_means, flat, w, total)
        references = lax.cond(first, means, lambda: references)
        kept = {}
        for name, f in flat.items():
            squared = jnp.square(f - f[:1]).sum(-1)[1:]
            away = lax.optimization_barrier(f[0] - references[name][None])
            kept[name] = _Batch(
                squared[: len(deformed)].mean(0),
                squared[len(deformed) :].mean(0),
                jnp.square(away).sum(-1),
                _sketch(away),
            )
            sums = sums | {name: sums[name] + _sum_over_images(away, w)}
        return (references, sums), kept

    def note_names(images):
        found = features(images)
        names[:] = found
        return found

    copies = jax.ShapeDtypeStruct((1 + len(changed), *clean.shape[1:]), clean.dtype)
    one = jax.eval_shape(note_names, copies)
    nothing = {name: jnp.zeros(math.prod(f.shape[1:]), f.dtype) for name, f in one.items()}
    batches_of = (index, weights, jnp.arange(batches) == 0)
    (references, sums), kept = lax.scan(of_batch, (nothing, nothing), batches_of)
    count = total(weight.sum())
    rows, centers = [], []
    for name in names:
        layer = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:images], kept[name])
        shift = total(sums[name]) / count
        rows.append(_moments(layer, weight / count, shift, total))
        centers.append(jnp.square(references[name] + shift).sum())
    return rows, centers


def _means(flat: dict[str, Array], weights: Array, total: Callable) -> dict[str, Array]:
    """Of the clean images of a batch, of every layer."""
    count = total(weights.sum())
    return {name: total(_sum_over_images(f[0], weights)) / count for name, f in flat.items()}


def _sum_over_images(
    values: Float[Array, "batch entries"], weights: Float[Array, " batch"]
) -> Float[Array, " entries"]:
    """sum_i w_i v_i as a matrix product: on a CPU ten times faster than a sum over rows."""
    return lax.dot(weights[None], values, precision="highest")[0]


def _moments(
    rows: _Batch, weights: Array, shift: Array, total: Callable
) -> tuple[Array, Array, Array]:
    """Deformation, noise and spread of every image in one layer.

    Args:
      rows: what is kept of the images.
      weights: of the images, 1 together over all devices.
      shift: c, the mean of g over all images.
      total: the sum over devices.
    """
    square = jnp.square(shift).sum()
    mean = total(_sum_over_images(rows.sketch, weights))
    overlap = (rows.sketch * mean[None]).sum(-1)
    # g_i.c, whose mean is exact
    overlap = overlap - total((weights * overlap).sum()) + square
    return rows.deformation, rows.noise, jnp.maximum(rows.distance - 2 * overlap + square, 0)


def _sketch(values: Float[Array, "batch entries"]) -> Float[Array, "batch projections"]:
    """At most `SKETCH` numbers an image whose inner products estimate those of its values.

    The values are given random signs and added up in equal groups of neighbours; where there are
    no more than `SKETCH`, they are kept as they are.
    """
    entries = values.shape[1]
    if entries <= SKETCH:
        return values
    group = -(-entries // SKETCH)
    signed = jnp.pad(values * _signs(entries, values.dtype)[None], ((0, 0), (0, -entries % group)))
    return signed.reshape(len(values), -1, group).sum(-1)


def _signs(count: int, dtype: Any) -> Float[Array, " count"]:
    """+1 and -1 by a hash of the position, which costs less than reading random numbers."""
    bits = jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA6B)
    return 1 - 2 * ((bits >> 13) & 1).astype(dtype)


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
    """R of a layer without one image, for each image; NaN where nothing responds to the noise."""
    d, g = _mean_without(moments.deformation), _mean_without(moments.noise)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(g > 0, d / g, np.nan)


def jackknife_error(replicates: Float[np.ndarray, " images"]) -> float:
    """sqrt((P - 1) / P sum_i (theta_i - mean theta)^2), theta_i without image i."""
    return float(np.sqrt((len(replicates) - 1) * replicates.var()))


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
