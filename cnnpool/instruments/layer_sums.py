"""One layer's sums over images, from which `cnnpool.instruments.moments` computes moments.

A layer's activations of a batch are a matrix with one row per image, copy by copy: clean, deformed
and noisy images. Everything is relative to a reference r: g = f - r.

Some units cost nothing: gain * f + offset, channel by channel, of another unit f, such as batch
normalization in inference. All their sums are those of f, column by column, times powers of the
gain.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

from jax import Array, lax
import jax.numpy as jnp

from cnnpool.shapes import Bool, Float

SKETCH = 1024

_FEW = 32  # images that are added up row by row
_CACHED = 2**14  # entries, over all clean images of a batch, that a CPU adds at once


class Scales(NamedTuple):
    """A layer's units: unit u is gain_u * f + offset_u, and the first is f itself.

    Channels vary fastest among a layer's entries; without rescaled units, one channel is enough.
    """

    gain: Float[Array, "units channels"]
    offset: Float[Array, "units channels"]


class Rows(NamedTuple):
    """What is kept for each image of a layer."""

    deformation: Float[Array, "units images"]  # mean over draws of ||f(tau(x)) - f(x)||^2
    noise: Float[Array, "units images"]
    distance: Float[Array, "units images"]  # ||g||^2
    sketch: Float[Array, "images projections"]  # of g of the first unit


class Layer(NamedTuple):
    """The sums of a layer after some batches."""

    scales: Scales
    reference: Float[Array, " entries"]  # r
    total: Float[Array, "devices entries"]  # sum of g over each device's images
    rows: Rows  # one device after another, each with its batches filled up


class _Sums(NamedTuple):
    """Sums over part of a layer's entries for the images of a batch; all but the last by column.

    The pieces of a layer are added up; an image's sum is the sum over its columns.
    """

    deformation: Float[Array, "batch columns"]
    noise: Float[Array, "batch columns"]
    distance: Float[Array, "batch columns"]
    sketch: Float[Array, "batch projections"]
    total: Float[Array, "devices entries"]  # see `Layer`


class Shape(NamedTuple):
    """A layer's entries per image, channels (or 1), number of units, and the dtype of its sums."""

    entries: int
    channels: int
    units: int
    dtype: Any

    @property
    def projections(self) -> int:
        """Length of a sketch: all channels once or more, `SKETCH` or less; at most all entries."""
        return min(self.entries, self.channels * max(1, SKETCH // self.channels))


def nothing(shape: Shape, *, images: int, devices: int) -> Layer:
    """A layer before its first batch."""
    entries, channels, units, dtype = shape
    scales = Scales(*(jnp.zeros((units, channels), dtype) for _ in Scales._fields))
    first, second, third = (jnp.zeros((units, images), dtype) for _ in range(3))
    rows = Rows(first, second, third, jnp.zeros((images, shape.projections), dtype))
    return Layer(scales, jnp.zeros(entries, dtype), jnp.zeros((devices, entries), dtype), rows)


def with_batch(
    layer: Layer,
    f: Float[Array, "rows entries"],
    deformed: int,
    weights: Array,
    start: Array,
    *,
    platform: str,
) -> Layer:
    """Adds a batch, which consists of clean, `deformed` deformed, and noisy copies.

    Its entries are processed in pieces that fit a core's cache, so that memory is read once.
    Sums over entries are kept by column of a piece until the end: a CPU's elementwise operations
    run at the speed of its memory, sums along a row do not.

    Args:
      layer: the layer's sums so far, with its scales and reference.
      f: the activations.
      deformed: number of deformed copies.
      weights: weight of each image in the sum over images.
      start: index of the first image among the device's images.
      platform: of the device, "cpu", "gpu" or "tpu".
    """
    dtype, projections = layer.reference.dtype, layer.rows.sketch.shape[1]
    batch, entries = len(weights), f.shape[1]
    weights = weights.astype(dtype)
    width = _piece(batch, entries, projections, platform)

    def add(sums: _Sums, first: int | Array, width: int) -> _Sums:
        """Adds the entries from `first` on."""

        def part(copy: int) -> Array:
            return lax.dynamic_slice(f, (copy * batch, first), (batch, width)).astype(dtype)

        def squared(copies: range) -> Array:
            parts = [jnp.square(part(copy) - clean) for copy in copies]
            return functools.reduce(jnp.add, parts) / len(parts)

        clean = part(0)
        away = clean - lax.dynamic_slice_in_dim(layer.reference, first, width)[None]
        away = lax.optimization_barrier(away)
        total = lax.dynamic_slice_in_dim(sums.total, first, width, axis=1)
        total = total + sum_over_images(away, weights)[None]
        signs = _signs(first + jnp.arange(width))
        return _Sums(
            _added(sums.deformation, squared(range(1, 1 + deformed))),
            _added(sums.noise, squared(range(1 + deformed, len(f) // batch))),
            _added(sums.distance, jnp.square(away)),
            _added(sums.sketch, _sketch(away, signs, projections)),
            lax.dynamic_update_slice_in_dim(sums.total, total, first, axis=1),
        )

    zeros = jnp.zeros((batch, width), dtype)
    sums = _Sums(zeros, zeros, zeros, jnp.zeros((batch, projections), dtype), layer.total)
    pieces, rest = divmod(entries, width)
    if pieces == 1:
        sums = add(sums, 0, width)
    else:
        sums = lax.fori_loop(0, pieces, lambda number, sums: add(sums, number * width, width), sums)
    if rest:
        sums = add(sums, pieces * width, rest)
    squares = jnp.square(layer.scales.gain)

    def written(known: Array, columns: Array) -> Array:
        found = _over_columns(columns, squares)
        return lax.dynamic_update_slice_in_dim(known, found, start, axis=1)

    rows = Rows(
        written(layer.rows.deformation, sums.deformation),
        written(layer.rows.noise, sums.noise),
        written(layer.rows.distance, sums.distance),
        lax.dynamic_update_slice_in_dim(layer.rows.sketch, sums.sketch, start, axis=0),
    )
    return layer._replace(total=sums.total, rows=rows)


def _piece(batch: int, entries: int, projections: int, platform: str) -> int:
    """How many of a layer's entries are processed at once: a multiple of its sketch's length.

    On accelerators, all of them.
    """
    wanted = max(1, _CACHED // (batch * projections)) * projections
    return min(wanted, entries) if platform == "cpu" else entries


def _added(
    columns: Float[Array, "batch columns"], values: Float[Array, "batch some"]
) -> Float[Array, "batch columns"]:
    """`columns` with `values` added to the first ones."""
    missing = columns.shape[1] - values.shape[1]
    return columns + (jnp.pad(values, ((0, 0), (0, missing))) if missing else values)


def _over_columns(
    values: Float[Array, "batch columns"], squares: Float[Array, "units channels"]
) -> Float[Array, "units batch"]:
    """Sums over columns for every unit, given its squared gains."""
    by_channel = values.reshape(len(values), -1, squares.shape[1]).sum(1)
    return (by_channel[None] * squares[:, None]).sum(-1)


def finish(
    layer: Layer, weights: Float[Array, " images"], total: Callable[[Array], Array]
) -> tuple[Float[Array, "units 3 images"], Float[Array, " units"]]:
    """Deformation, noise and spread of every image, and ||m||^2; see `moments.image_moments`.

    Args:
      layer: the layer's sums after all batches.
      weights: weights of a device's images.
      total: adds over devices.
    """
    count = total(weights.sum())
    weights = weights / count
    deformation, noise, distance = (values[:, : len(weights)] for values in layer.rows[:3])
    sketch = layer.rows.sketch[: len(weights)]
    gain, offset = layer.scales
    squares = jnp.square(gain)
    shift = total(layer.total[0]) / count  # c
    square = _over_columns(jnp.square(shift)[None], squares)
    mean = total(sum_over_images(sketch, weights))
    overlap = _over_columns(sketch * mean[None], squares)
    # g_i.c, whose mean is exact.
    overlap = overlap - total((weights[None] * overlap).sum(1))[:, None] + square
    spread = jnp.maximum(distance - 2 * overlap + square, 0)
    by_channel = (layer.reference + shift).reshape(1, -1, gain.shape[1])
    center = jnp.square(gain[:, None] * by_channel + offset[:, None]).sum((1, 2))
    return jnp.stack([deformation, noise, spread], axis=1), center


def sum_over_images(
    values: Float[Array, "batch entries"], weights: Float[Array, " batch"]
) -> Float[Array, " entries"]:
    """sum_i w_i v_i; row by row for few images, on a CPU much faster than a sum over an axis."""
    if len(values) > _FEW:
        return lax.dot(weights[None], values, precision="highest")[0]
    return functools.reduce(jnp.add, [row * w for row, w in zip(values, weights, strict=True)])


def _sketch(
    values: Float[Array, "batch entries"], signs: Bool[Array, " entries"], projections: int
) -> Float[Array, "batch projections"]:
    """A random projection of each image's values whose inner products estimate those of the values.

    The values get random signs, and those `projections` apart are added up.
    """
    count, entries = values.shape
    signed = jnp.where(signs[None], values, -values)
    if entries <= projections:
        return signed
    filled = jnp.pad(signed, ((0, 0), (0, -entries % projections)))
    return filled.reshape(count, -1, projections).sum(1)


def _signs(place: Array) -> Bool[Array, " entries"]:
    """Random bits, hashed from the entries' indices, which costs less than reading stored ones."""
    bits = place.astype(jnp.uint32) * jnp.uint32(0x9E3779B9)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA6B)
    return (bits >> 31) == 1
