"""What the sensitivities D, G and R of a network's layers are made of, streamed image by image.

For any function from images to named activations, of any network or none:

    moments = image_moments(features, clean, deformed, noisy)

Of a layer only two means are held, and of an image and layer three numbers and at most `SKETCH`
projections, however many images there are.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
from jax import Array, lax
import jax.numpy as jnp
from jaxtyping import Bool, Float
import numpy as np

from cnnpool import runtime

Features = Callable[[Array], dict[str, Array]]

SKETCH = 1024

_LARGEST_BATCH = 75
_BATCH_BYTES = 2**30


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


class _Batch(NamedTuple):
    """What is kept of a layer and a batch, image by image; g = f - r."""

    deformation: Float[Array, " batch"]
    noise: Float[Array, " batch"]
    distance: Float[Array, " batch"]  # ||g||^2
    sketch: Float[Array, "batch projections"]  # of g


class _Layer(NamedTuple):
    """What one batch hands to the next of a layer."""

    reference: Float[Array, " entries"]  # r
    total: Float[Array, " entries"]  # sum of g over images


def image_moments(
    features: Features,
    clean: Float[Array, "images *shape"],
    deformed: Float[Array, "..."],
    noisy: Float[Array, "..."],
    *,
    batch_size: int = 0,
    on_batch: Callable[[int], Any] | None = None,
) -> dict[str, ImageMoments]:
    """Streams all images through `features` once and keeps their moments.

    E||f||^2 - ||E f||^2 cancels in float32, so everything is relative to a reference r, the mean
    activation of the first batch: with g = f - r and its mean c over all images, the spread
    ||f_i - m||^2 is ||g_i||^2 - 2 g_i.c + ||c||^2. Of the middle term, which needs the mean before
    it is known, the sum is exact, and so are D, G and R; image by image it is estimated from
    `SKETCH` random projections of g where a layer has more activations than that. It is small,
    |c| being |g| / sqrt(batch), and the estimate unbiased, wrong by |g| |c| / 32: with 25 images
    of a batch, standard errors are right to a percent.

    A batch is one call of a compiled program, so that progress can be shown and Ctrl-C obeyed;
    what is kept stays on the device until the end.

    Args:
      features: images (batch, *shape) -> activations {layer: (batch, ...)}; it is given the
        copies of a batch, clean, deformed and noisy, one behind the other. Give
        large parameters as `jax.tree_util.Partial(apply, params)`, so that networks of
        one shape share a compiled program.
      clean: x.
      deformed: tau(x), (draws, images, *shape), one or more draws of each image.
      noisy: x + eta, likewise, perhaps with another number of draws.
      batch_size: images, their deformed and noisy copies counted, whose activations are held
        at once; 0: as many as fit a gigabyte, at most 75.
      on_batch: told the number of images after every batch.

    Returns:
      The moments of each layer, in the order in which `features` names them.

    Raises:
      ValueError: if shapes disagree or there are fewer than two images.
      TypeError: if `features` does not return named activations, one of each image.
    """
    _check_inputs(clean, deformed, noisy, batch_size)
    if not isinstance(features, jax.tree_util.Partial):
        features = jax.tree_util.Partial(features)
    copies = 1 + len(deformed) + len(noisy)
    activations = _activations(features, clean, copies)
    size = min(max(1, (batch_size or _fitting_batch(activations)) // copies), len(clean))
    layers = {name: _nothing(f) for name, f in activations.items()}
    step, kept = _compiled_step(), []
    # Accelerators would round factors to TF32 or bfloat16; D is a difference of large activations.
    with jax.default_matmul_precision("highest"):
        for start in range(0, len(clean), size):
            # The last batch is filled up with copies of the last image, of weight 0.
            number = np.arange(start, start + size)
            rows, weights = np.minimum(number, len(clean) - 1), number < len(clean)
            layers, found = step(
                features, layers, clean, deformed, noisy, rows, weights, first=start == 0
            )
            kept.append(found)
            if on_batch:
                jax.block_until_ready(found)
                on_batch(int(weights.sum()))
    ends = {name: _ends(layer, jnp.float32(len(clean))) for name, layer in layers.items()}
    batches, squares = jax.device_get((kept, ends))
    return {
        name: _moments([batch[name] for batch in batches], *squares[name], images=len(clean))
        for name in activations
    }


def _check_inputs(clean: Array, deformed: Array, noisy: Array, batch_size: int) -> None:
    for name, array in (("deformed", deformed), ("noisy", noisy)):
        if array.shape[1:] != clean.shape or not len(array):
            raise ValueError(
                f"{name} has shape {array.shape}; expected (draws, *{clean.shape}), draws >= 1"
            )
    if len(clean) < 2 or batch_size < 0:
        raise ValueError(
            f"expected at least 2 images and a batch size of at least 1, or 0 for a fitting one; "
            f"got {len(clean)} and {batch_size}"
        )


def _activations(features: Features, clean: Array, copies: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Activations of one image and its copies, in the order in which they are named.

    Raises:
      TypeError: if they are not what `features` has to return.
    """
    several = jax.ShapeDtypeStruct((copies, *clean.shape[1:]), clean.dtype)
    found = jax.eval_shape(_in_forward_order, features, several)
    activations = dict(zip(found.names, found.activations, strict=True))
    for name, f in activations.items():
        if f.ndim < 1 or len(f) != copies or not jnp.issubdtype(f.dtype, jnp.floating):
            raise TypeError(
                f"activations {name!r}: expected floats of shape (images, ...), a row an image; "
                f"of {copies} images they are {f.dtype} of shape {f.shape}"
            )
    return activations


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["activations"], meta_fields=["names"]
)
@dataclasses.dataclass
class _InForwardOrder:
    """Activations out of a traced function; JAX would sort a dict by its keys."""

    names: tuple[str, ...]
    activations: Any


@jax.jit  # traces a function once for all networks of one shape
def _in_forward_order(features: Features, images: Array) -> _InForwardOrder:
    found = features(images)
    if not isinstance(found, Mapping) or not found:
        raise TypeError(
            "expected a function from images to a dict of named activations, got one that returns "
            f"{type(found).__name__}"
        )
    return _InForwardOrder(tuple(found), tuple(found.values()))


def _fitting_batch(activations: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    """Images whose activations fill `_BATCH_BYTES`; more of small ones are not faster."""
    of_one = sum(f.size * f.dtype.itemsize // len(f) for f in activations.values())
    return max(1, min(_LARGEST_BATCH, _BATCH_BYTES // max(1, of_one)))


def _nothing(activations: jax.ShapeDtypeStruct) -> _Layer:
    entries = activations.size // len(activations)
    return _Layer(*(jnp.zeros(entries, activations.dtype) for _ in _Layer._fields))


@functools.cache
def _compiled_step():
    """The program of one batch."""
    options = runtime.with_barriers(jax.devices()[0].platform)
    return jax.jit(_step, compiler_options=options or None, donate_argnames="layers")


def _step(
    features: Features,
    layers: dict[str, _Layer],
    clean: Array,
    deformed: Array,
    noisy: Array,
    rows: Array,
    weights: Array,
    *,
    first: Array,
) -> tuple[dict[str, _Layer], dict[str, _Batch]]:
    """Adds a batch to what is known of all layers, and returns what is kept of its images."""
    copies = [clean[rows][None], jnp.take(deformed, rows, axis=1), jnp.take(noisy, rows, axis=1)]
    stacked = jnp.concatenate(copies)
    # Without the barrier, what makes a unit is repeated in everything that reads it.
    found = lax.optimization_barrier(features(stacked.reshape(-1, *clean.shape[1:])))
    after, kept = {}, {}
    for name, activations in found.items():
        f = activations.reshape(*stacked.shape[:2], -1)
        after[name], kept[name] = _of_layer(layers[name], f, len(deformed), weights, first)
    return after, kept


def _of_layer(
    layer: _Layer,
    f: Float[Array, "copies batch entries"],
    deformed: int,
    weights: Array,
    first: Array,
) -> tuple[_Layer, _Batch]:
    """`_step` for one layer, whose copies are clean, `deformed` times deformed, and noisy."""
    weights = weights.astype(f.dtype)
    reference = lax.cond(
        first, lambda: _sum_over_images(f[0], weights) / weights.sum(), lambda: layer.reference
    )
    squared = jnp.square(f - f[:1]).sum(-1)[1:]
    away = lax.optimization_barrier(f[0] - reference[None])
    kept = _Batch(
        squared[:deformed].mean(0),
        squared[deformed:].mean(0),
        jnp.square(away).sum(-1),
        _sketch(away),
    )
    return _Layer(reference, layer.total + _sum_over_images(away, weights)), kept


def _sum_over_images(
    values: Float[Array, "batch entries"], weights: Float[Array, " batch"]
) -> Float[Array, " entries"]:
    """sum_i w_i v_i, row by row: on a CPU much faster than a sum over an axis."""
    return functools.reduce(
        jnp.add, [row * weight for row, weight in zip(values, weights, strict=True)]
    )


@jax.jit
def _ends(layer: _Layer, images: Array) -> tuple[Array, Array]:
    """||c||^2 and ||m||^2 of a layer, c the mean of g over all images and m = r + c."""
    shift = layer.total / images
    return jnp.square(shift).sum(), jnp.square(layer.reference + shift).sum()


def _moments(
    batches: list[_Batch], square: np.ndarray, center: np.ndarray, *, images: int
) -> ImageMoments:
    """The moments of one layer, from ||c||^2 and ||m||^2 and what was kept of its images."""
    deformation, noise, distance, sketch = (
        np.concatenate([batch[field] for batch in batches]).astype(np.float64)[:images]
        for field in range(len(_Batch._fields))
    )
    overlap = sketch @ sketch.mean(0)
    overlap = overlap - overlap.mean() + square  # g_i.c, whose mean is exact
    spread = np.maximum(distance - 2 * overlap + square, 0)
    return ImageMoments(deformation, noise, spread, float(center))


def _sketch(values: Float[Array, "batch entries"]) -> Float[Array, "batch projections"]:
    """At most `SKETCH` numbers an image whose inner products estimate those of its values.

    The values are given random signs and added up in equal groups of neighbours; where there are
    no more than `SKETCH`, they are kept as they are.
    """
    entries = values.shape[1]
    if entries <= SKETCH:
        return values
    group = -(-entries // SKETCH)
    signed = jnp.where(_signs(entries)[None], values, -values)
    return jnp.pad(signed, ((0, 0), (0, -entries % group))).reshape(len(values), -1, group).sum(-1)


def _signs(count: int) -> Bool[Array, " count"]:
    """Random bits by a hash of the position, which costs less than reading them."""
    bits = jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA6B)
    return (bits >> 31) == 1
