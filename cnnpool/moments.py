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
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool, Float
import numpy as np

from cnnpool import global_arrays, runtime
from cnnpool.batch_sharding import DATA_AXIS
from cnnpool.divisors import largest_divisor

Features = Callable[[Array], dict[str, Array]]

SKETCH = 1024

_LARGEST_CPU_BATCH = 75  # more images of a small network are not faster; accelerators want more
_BATCH_BYTES = 2**30
# Of all images of a call, one batch at least: some seconds of a CPU, whatever the network.
# What does not depend on the images, such as transformed kernels, is computed once a call.
_CALL_BYTES = 2**32
_FEW = 8  # images that are added up row by row
_CACHED = 2**16  # numbers of a layer, of all images of a batch, that a CPU goes through at once


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


class _Rows(NamedTuple):
    """What is kept of a layer, image by image; g = f - r."""

    deformation: Float[Array, " images"]
    noise: Float[Array, " images"]
    distance: Float[Array, " images"]  # ||g||^2
    sketch: Float[Array, "images projections"]  # of g


class _Layer(NamedTuple):
    """What is known of a layer after some batches."""

    reference: Float[Array, " entries"]  # r
    total: Float[Array, "devices entries"]  # sum of g over each device's images
    rows: _Rows  # a device's images, its batches filled up, behind those of the device before


# How these are spread over a mesh, and the inputs of a step: features, clean, deformed, noisy,
# weights and the places of the first image and behind the last one.
_ONE = PartitionSpec()
_BY_IMAGE = PartitionSpec(DATA_AXIS)
_BY_DRAW = PartitionSpec(None, DATA_AXIS)
_LAYER: Any = _Layer(*[_ONE, _BY_IMAGE, _Rows(*[_BY_IMAGE] * len(_Rows._fields))])  # type: ignore
_INPUTS = (_ONE, _BY_IMAGE, _BY_DRAW, _BY_DRAW, _BY_IMAGE, _ONE, _ONE)
_FOUND = (PartitionSpec(None, None, DATA_AXIS), _ONE)


def image_moments(
    features: Features,
    clean: Float[Array, "images *shape"],
    deformed: Float[Array, "..."],
    noisy: Float[Array, "..."],
    *,
    batch_size: int = 0,
    mesh: Mesh | None = None,
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

    A call of the compiled program takes a few batches, some seconds of a CPU's work, so that
    progress can be shown and Ctrl-C obeyed; what is kept stays on the devices until the end.
    With a mesh, only the first batch's means and sums at the end go between devices.

    Args:
      features: images (batch, *shape) -> activations {layer: (batch, ...)}; it is given the
        copies of a batch, clean, deformed and noisy, one behind the other. Give
        large parameters as `jax.tree_util.Partial(apply, params)`, so that networks of
        one shape share a compiled program.
      clean: x.
      deformed: tau(x), (draws, images, *shape), one or more draws of each image.
      noisy: x + eta, likewise, perhaps with another number of draws.
      batch_size: images, their deformed and noisy copies counted, whose activations are held
        at once on a device; 0: as many as fit a gigabyte, on a CPU at most 75.
      mesh: with the axis `data`, over whose devices the images are spread; None is one device.
      on_batch: told the number of images after every call of the compiled program.

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
    images, devices = len(clean), 1 if mesh is None else mesh.size
    share = -(-images // devices)
    size = min(max(1, (batch_size or _fitting_batch(activations)) // copies), share)
    # Where devices do not divide the images, the last one is repeated, with weight 0.
    number = np.arange(share * devices)
    weights = (number < images).astype(np.float32)
    if share * devices > images:
        index = np.minimum(number, images - 1)
        clean, deformed, noisy = clean[index], deformed[:, index], noisy[:, index]
    inputs = _placed((features, clean, deformed, noisy, weights), _INPUTS[:-2], mesh)
    layers = _nothing(_entries(activations), size * -(-share // size), mesh)()
    steps, finish = _programs(mesh, size)
    at_once = size * max(1, _images_within(_CALL_BYTES, activations) // (copies * size))
    # Accelerators would round factors to TF32 or bfloat16; D is a difference of large activations.
    with jax.default_matmul_precision("highest"):
        for start in range(0, share, at_once):
            end = min(start + at_once, share)
            layers = steps(layers, *inputs, start, end)
            if on_batch:
                jax.block_until_ready(layers)
                on_batch(min(images, end * devices) - min(images, start * devices))
        rows, centers = global_arrays.fetch(finish(layers, inputs[-1]))
    place = {name: row for row, name in enumerate(sorted(activations))}
    rows = rows[..., :images].astype(np.float64)
    moments = {}
    for name in activations:
        deformation, noise, spread = rows[place[name]]
        moments[name] = ImageMoments(deformation, noise, spread, float(centers[place[name]]))
    return moments


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
        if not isinstance(f, jax.ShapeDtypeStruct):
            raise TypeError(
                f"activations {name!r}: expected one array, got {type(f).__name__}; give each "
                "array a name of its own"
            )
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


def _images_within(limit: int, activations: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    """Images whose activations take at most `limit` bytes, one at least."""
    of_one = sum(f.size * f.dtype.itemsize // len(f) for f in activations.values())
    return max(1, limit // max(1, of_one))


def _fitting_batch(activations: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    """Images of a batch, where nobody says how many."""
    fitting = _images_within(_BATCH_BYTES, activations)
    return min(_LARGEST_CPU_BATCH, fitting) if jax.default_backend() == "cpu" else fitting


def _placed(values: Any, specs: Any, mesh: Mesh | None) -> Any:
    """A tuple on the devices of a mesh, each part by its spec."""
    if mesh is None:
        return values
    return tuple(
        global_arrays.place(value, NamedSharding(mesh, spec))
        for value, spec in zip(values, specs, strict=True)
    )


_Entries = tuple[tuple[str, int, Any], ...]


def _entries(activations: Mapping[str, jax.ShapeDtypeStruct]) -> _Entries:
    """Name of every layer, its entries of one image, and the dtype of its moments.

    That of the activations, but no narrower than float32, for sums of a network in bfloat16.
    """
    return tuple(
        (name, f.size // len(f), jnp.promote_types(f.dtype, jnp.float32))
        for name, f in activations.items()
    )


@functools.cache
def _nothing(layers: _Entries, rows: int, mesh: Mesh | None) -> Callable[[], dict[str, _Layer]]:
    """The program that makes all layers, as they are before the first batch.

    Of `rows` images a device, the filling of batches counted.
    """
    devices = 1 if mesh is None else mesh.size

    def layer(entries: int, dtype: Any) -> _Layer:
        images = devices * rows
        first, second, third = (jnp.zeros(images, dtype) for _ in range(3))
        sketch = jnp.zeros((images, -(-entries // _group(entries))), dtype)
        total = jnp.zeros((devices, entries), dtype)
        return _Layer(jnp.zeros(entries, dtype), total, _Rows(first, second, third, sketch))

    def all_layers() -> dict[str, _Layer]:
        return {name: layer(entries, dtype) for name, entries, dtype in layers}

    if mesh is None:
        return jax.jit(all_layers)
    place = jax.tree.map(functools.partial(NamedSharding, mesh), _LAYER)
    return jax.jit(all_layers, out_shardings={name: place for name, *_ in layers})


@functools.cache
def _programs(mesh: Mesh | None, size: int) -> tuple[Callable, Callable]:
    """The programs of some batches, of `size` images a device each, and of the end."""
    axis = None if mesh is None else DATA_AXIS

    def total(values: Array) -> Array:
        return values if axis is None else lax.psum(values, axis)

    steps: Callable = functools.partial(_steps, size, total)
    finish: Callable = functools.partial(_finish, total)

    def over_mesh(program: Callable, *specs: PartitionSpec, after: Any = None) -> Callable:
        """(layers, *inputs) -> layers or `after`, on every device for its own images."""

        def spread(layers, *inputs):
            known = dict.fromkeys(layers, _LAYER)
            mapped = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
            return mapped(program, in_specs=(known, *specs), out_specs=after or known)(
                layers, *inputs
            )

        return program if mesh is None else spread

    steps = over_mesh(steps, *_INPUTS)
    finish = over_mesh(finish, _BY_IMAGE, after=_FOUND)
    devices = jax.devices() if mesh is None else mesh.devices.flat
    options = runtime.with_barriers(devices[0].platform) or None
    return (
        jax.jit(steps, compiler_options=options, donate_argnums=0),
        jax.jit(finish, compiler_options=options),
    )


def _steps(
    size: int, total: Callable[[Array], Array], layers: dict[str, _Layer], *inputs: Any
) -> dict[str, _Layer]:
    """`_step` for all batches of the images between the two places that end the inputs."""
    features, clean, deformed, noisy, weights, start, end = inputs
    shared = (features, clean, deformed, noisy, weights)

    def step(number: Array, layers: dict[str, _Layer]) -> dict[str, _Layer]:
        return _step(size, total, layers, *shared, start + number * size)

    return lax.fori_loop(0, (end - start + size - 1) // size, step, layers)


def _step(
    size: int,
    total: Callable[[Array], Array],
    layers: dict[str, _Layer],
    features: Features,
    clean: Array,
    deformed: Array,
    noisy: Array,
    weights: Array,
    start: Array,
) -> dict[str, _Layer]:
    """Adds to what is known of all layers a batch of images, those from `start` on.

    The last batch is filled up with copies of the last image, of weight 0. Of several devices,
    each has images of its own; `total` adds over them.
    """
    number = start + jnp.arange(size)
    row = jnp.minimum(number, len(clean) - 1)
    weights = jnp.where(number < len(clean), weights[row], 0)
    copies = [clean[row][None], jnp.take(deformed, row, axis=1), jnp.take(noisy, row, axis=1)]
    stacked = jnp.concatenate(copies)
    # Without the barrier, what makes a unit is repeated in everything that reads it.
    found = lax.optimization_barrier(features(stacked.reshape(-1, *clean.shape[1:])))
    # Not (copies, batch, entries): with batches of one XLA would copy it to another layout.
    flat = {name: f.reshape(len(f), -1) for name, f in found.items()}

    def means() -> dict[str, Array]:
        count = total(weights.sum())
        dtypes = {name: layers[name].reference.dtype for name in flat}
        clean = {name: f[:size].astype(dtypes[name]) for name, f in flat.items()}
        return {name: total(_sum_over_images(f, weights)) / count for name, f in clean.items()}

    references = lax.cond(
        start == 0, means, lambda: {name: layers[name].reference for name in flat}
    )
    return {
        name: _with_batch(layers[name], references[name], f, len(deformed), weights, start)
        for name, f in flat.items()
    }


def _with_batch(
    layer: _Layer,
    reference: Array,
    f: Float[Array, "rows entries"],
    deformed: int,
    weights: Array,
    start: Array,
) -> _Layer:
    """`_step` for one layer, whose copies are clean, `deformed` times deformed, and noisy.

    Its entries are gone through in pieces that a core's cache holds, so that memory is read once.
    """
    dtype = reference.dtype
    weights = weights.astype(dtype)
    rows, entries = f.shape
    batch = len(weights)
    copies = rows // batch
    group, width = _group(entries), _piece(rows, entries)
    nothing = (
        jnp.zeros((copies - 1, batch), dtype),
        jnp.zeros(batch, dtype),
        layer.total,
        jnp.zeros((batch, layer.rows.sketch.shape[1]), dtype),
    )

    def add(number: int | Array, known: tuple[Array, ...]) -> tuple[Array, ...]:
        part = functools.partial(
            lax.dynamic_slice_in_dim, start_index=number * width, slice_size=width, axis=-1
        )
        squared, distance, total, sketch = known
        g = (part(f).astype(dtype) - part(reference)[None]).reshape(copies, batch, width)
        away = lax.optimization_barrier(g[0])
        signs = _signs(number * width + jnp.arange(width))
        return (
            squared + jnp.square(g - away[None]).sum(-1)[1:],
            distance + jnp.square(away).sum(-1),
            _written(total, part(total) + _sum_over_images(away, weights)[None], number),
            _written(sketch, _sketch(away, signs, group), number),
        )

    once = width == entries
    found = add(0, nothing) if once else lax.fori_loop(0, entries // width, add, nothing)
    squared, distance, total, sketch = found
    of_images = _Rows(squared[:deformed].mean(0), squared[deformed:].mean(0), distance, sketch)
    write = functools.partial(lax.dynamic_update_slice_in_dim, start_index=start, axis=0)
    return _Layer(reference, total, jax.tree.map(write, layer.rows, of_images))


def _piece(rows: int, entries: int) -> int:
    """How many of a layer's entries are gone through at once: whole groups of its sketch, or all.

    All on accelerators, and where no divisor is of about the size that is wanted.
    """
    group = _group(entries)
    wanted = max(1, _CACHED // (rows * group))
    if jax.default_backend() != "cpu" or entries % group:
        return entries
    found = largest_divisor(entries // group, at_most=wanted)
    return group * found if 4 * found >= wanted else entries


def _written(whole: Array, part: Array, number: int | Array) -> Array:
    """`whole` with its piece of a number replaced."""
    return lax.dynamic_update_slice_in_dim(whole, part, number * part.shape[-1], axis=-1)


def _finish(
    total: Callable[[Array], Array], layers: dict[str, _Layer], weights: Array
) -> tuple[Float[Array, "layers 3 images"], Float[Array, " layers"]]:
    """Deformation, noise and spread of every image, and ||m||^2; layers by name."""
    count = total(weights.sum())
    found = [_of_layer(total, layers[name], weights / count, count) for name in sorted(layers)]
    return jnp.stack([rows for rows, _ in found]), jnp.stack([center for _, center in found])


def _of_layer(
    total: Callable[[Array], Array], layer: _Layer, weights: Array, count: Array
) -> tuple[Float[Array, "3 images"], Array]:
    """`_finish` for one layer; `weights` are 1 together over all devices."""
    rows = _Rows(*(values[: len(weights)] for values in layer.rows))
    shift = total(layer.total[0]) / count  # c
    square = jnp.square(shift).sum()
    mean = total(_sum_over_images(rows.sketch, weights))
    overlap = (rows.sketch * mean[None]).sum(-1)
    overlap = overlap - total((weights * overlap).sum()) + square  # g_i.c, whose mean is exact
    spread = jnp.maximum(rows.distance - 2 * overlap + square, 0)
    found = jnp.stack([rows.deformation, rows.noise, spread])
    return found, jnp.square(layer.reference + shift).sum()


def _sum_over_images(
    values: Float[Array, "batch entries"], weights: Float[Array, " batch"]
) -> Float[Array, " entries"]:
    """sum_i w_i v_i; of few images row by row, on a CPU much faster than a sum over an axis."""
    if len(values) > _FEW:
        return lax.dot(weights[None], values, precision="highest")[0]
    return functools.reduce(jnp.add, [row * w for row, w in zip(values, weights, strict=True)])


def _sketch(
    values: Float[Array, "batch entries"], signs: Bool[Array, " entries"], group: int
) -> Float[Array, "batch projections"]:
    """Numbers of an image whose inner products estimate those of its values.

    The values are given random signs and added up in groups of so many neighbours; with groups of
    one they are kept as they are.
    """
    if group == 1:
        return values
    signed = jnp.where(signs[None], values, -values)
    filled = jnp.pad(signed, ((0, 0), (0, -values.shape[1] % group)))
    return filled.reshape(len(values), -1, group).sum(-1)


def _group(entries: int) -> int:
    """How many of a layer's entries a projection adds up, of which there are at most `SKETCH`.

    A divisor of the entries, if one is near.
    """
    least = -(-entries // SKETCH)
    return next((size for size in range(least, 2 * least) if entries % size == 0), least)


def _signs(place: Array) -> Bool[Array, " entries"]:
    """Random bits by a hash of the places of entries, which costs less than reading them."""
    bits = place.astype(jnp.uint32) * jnp.uint32(0x9E3779B9)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA6B)
    return (bits >> 31) == 1
