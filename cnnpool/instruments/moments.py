"""The moments from which D, G and R of a network's layers are computed, streamed over images.

For any function from images to named activations, whether a network or not:

    moments = image_moments(features, clean, deformed, noisy)

Memory holds only two means per layer, and three numbers and about `SKETCH` projections per image
and layer (`cnnpool.instruments.layer_sums`), however many images there are.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
from jax import Array, lax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from cnnpool.devices import global_arrays, runtime
from cnnpool.devices.batch_sharding import DATA_AXIS
from cnnpool.instruments import layer_sums
from cnnpool.instruments.layer_sums import Layer, Rows, Scales, Shape
from cnnpool.shapes import Float


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["gain", "offset"], meta_fields=["of"]
)
@dataclasses.dataclass(frozen=True)
class Rescaled:
    """Activations gain * f + offset, channel by channel, where f is another unit's activations.

    Batch normalization in inference mode is an example. Its moments follow from the sums that f
    needs anyway, so it need not be computed.

    Attributes:
      of: name of the unit f, whose last axis is its channels.
      gain: (channels,).
      offset: (channels,).
    """

    of: str
    gain: Any
    offset: Any


Features = Callable[[Array], dict[str, Any]]  # of arrays and `Rescaled`
Images = Array | np.ndarray

_LARGEST_CPU_BATCH = 75  # more images of a small network are not faster; accelerators want more
_BATCH_BYTES = 2**30
# Activations of all images of one call, at least one batch: some seconds on a CPU, whatever the
# network. What does not depend on the images, such as transformed kernels, is computed once a call.
_CALL_BYTES = 2**32
# Accelerators would round factors to TF32 or bfloat16; D is a difference of large activations.
PRECISION = "highest"


def computed(activations: Mapping[str, Any]) -> dict[str, Array]:
    """All activations as arrays, including the `Rescaled` ones."""

    def one(f: Any) -> Array:
        if not isinstance(f, Rescaled):
            return f
        channels = (1,) * (activations[f.of].ndim - 1) + (-1,)
        return activations[f.of] * f.gain.reshape(channels) + f.offset.reshape(channels)

    return {name: one(f) for name, f in activations.items()}


class ImageMoments(NamedTuple):
    """What the sensitivities of one layer are computed from, image by image.

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


# How layers are spread over a mesh, and the inputs of a step: features, clean, deformed, noisy,
# weights, the index of the first image and the one after the last.
_ONE = PartitionSpec()
_BY_IMAGE = PartitionSpec(DATA_AXIS)
_BY_DRAW = PartitionSpec(None, DATA_AXIS)
_ROWS: Any = Rows(*[_BY_DRAW] * 3, _BY_IMAGE)  # type: ignore
_LAYER: Any = Layer(Scales(_ONE, _ONE), _ONE, _BY_IMAGE, _ROWS)  # type: ignore
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
    ||f_i - m||^2 is ||g_i||^2 - 2 g_i.c + ||c||^2. The middle term needs the mean before it
    is known. Its sum over images is exact, and so are D, G and R; for single images it is
    estimated from `SKETCH` random projections of g if a layer has more activations than that. It
    is small, as |c| is |g| / sqrt(batch), and the estimate is unbiased with an error of
    |g| |c| / 32: with 25 images per batch, standard errors are accurate to one percent.

    One call of the compiled program handles a few batches, some seconds of work on a CPU, so that
    progress can be shown and Ctrl-C obeyed; the sums stay on the devices until the end. With a
    mesh, devices communicate only the first batch's means, and sums at the end.

    Args:
      features: images (batch, *shape) -> activations {layer: (batch, ...)}, some of which may be
        `Rescaled` from others. It is called with all copies of a batch (clean, deformed and noisy)
        concatenated along the first axis. Pass
        large parameters as `jax.tree_util.Partial(apply, params)`, so that networks of
        the same shape share a compiled program.
      clean: x.
      deformed: tau(x), (draws, images, *shape), one or more draws of each image.
      noisy: x + eta, likewise, perhaps with another number of draws.
      batch_size: how many images, deformed and noisy copies included, have their activations in a
        device's memory at once; 0: as many as fit in a gigabyte, on a CPU at most 75 and one
        gigabyte for all its devices.
      mesh: a mesh with the axis `data`, over which the images are sharded; None: one device.
      on_batch: called after every call of the compiled program, with its number of images.

    Returns:
      The moments of each layer, in the order in which `features` names them.

    Raises:
      ValueError: if shapes disagree or there are fewer than two images.
      TypeError: if `features` does not return named activations, one per image.
    """
    check_inputs(clean, deformed, noisy, batch_size)
    if not isinstance(features, jax.tree_util.Partial):
        features = jax.tree_util.Partial(features)
    plan = plan_of(features, clean, deformed, noisy, batch_size=batch_size, mesh=mesh)
    images, devices = len(clean), 1 if mesh is None else mesh.size
    # If the images do not divide evenly among the devices, the last is repeated with weight 0.
    number = np.arange(plan.share * devices)
    weights = (number < images).astype(np.float32)
    if plan.share * devices > images:
        index = np.minimum(number, images - 1)
        clean, deformed, noisy = clean[index], deformed[:, index], noisy[:, index]
    inputs = _placed((features, clean, deformed, noisy, weights), _INPUTS[:-2], mesh)
    layers = nothing(shapes(plan.activations), plan.rows, mesh)()
    steps, finish = programs(mesh, plan.size)
    with jax.default_matmul_precision(PRECISION):
        for start in range(0, plan.share, plan.at_once):
            end = min(start + plan.at_once, plan.share)
            layers = steps(layers, *inputs, start, end)
            if on_batch:
                jax.block_until_ready(layers)
                on_batch(min(images, end * devices) - min(images, start * devices))
        found = global_arrays.fetch(finish(layers, inputs[-1]))
    return by_unit(found, plan.activations, images)


class Plan(NamedTuple):
    """How images go through a network.

    Attributes:
      activations: shapes of arrays, or `Rescaled` ones, by unit.
      share: images of a device, its copies of the last one counted.
      size: of them in a batch.
      at_once: of them in a call of the compiled program.
    """

    activations: Mapping[str, Any]
    share: int
    size: int
    at_once: int

    @property
    def batches(self) -> int:
        """Number of batches per device."""
        return -(-self.share // self.size)

    @property
    def rows(self) -> int:
        """Images of a device's batches, the filling of the last one counted."""
        return self.size * self.batches


def plan_of(
    features: Features,
    clean: Any,
    deformed: Any,
    noisy: Any,
    *,
    batch_size: int,
    mesh: Mesh | None,
) -> Plan:
    """The plan of `image_moments`; of clean, deformed and noisy images shapes are enough."""
    copies = 1 + len(deformed) + len(noisy)
    activations = _activations(features, clean, copies)
    devices, platform = 1 if mesh is None else mesh.size, runtime.platform_of(mesh)
    share = -(-len(clean) // devices)
    wanted = batch_size or fitting_batch(activations, devices, platform)
    size = min(max(1, wanted // copies), share)
    at_once = size * max(1, _images_within(_CALL_BYTES, activations) // (copies * size))
    return Plan(activations, share, size, at_once)


def lowered(
    features: Features,
    clean: jax.ShapeDtypeStruct,
    deformed: jax.ShapeDtypeStruct,
    noisy: jax.ShapeDtypeStruct,
    *,
    batch_size: int,
    mesh: Mesh,
) -> tuple[Plan, Any, Any]:
    """The programs of `image_moments` before they are compiled, for arrays of these shapes.

    Args:
      features: as a `jax.tree_util.Partial`; of its arrays too shapes are enough.
      clean: x.
      deformed: tau(x), (draws, images, *shape).
      noisy: x + eta, likewise.
      batch_size: as of `image_moments`.
      mesh: with the axis `data`, of devices that need not be there.

    Returns:
      The plan, the program of some batches and that of the end.
    """
    plan = plan_of(features, clean, deformed, noisy, batch_size=batch_size, mesh=mesh)
    count = plan.share * mesh.size

    def placed(leaf: Any, spec: PartitionSpec, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    inputs = (
        jax.tree.map(lambda leaf: placed(leaf, _ONE, leaf.shape), features),
        placed(clean, _BY_IMAGE, (count, *clean.shape[1:])),
        *(
            placed(copy, _BY_DRAW, (len(copy), count, *clean.shape[1:]))
            for copy in (deformed, noisy)
        ),
        placed(jax.ShapeDtypeStruct((count,), np.float32), _BY_IMAGE, (count,)),
    )
    made = jax.eval_shape(nothing(shapes(plan.activations), plan.rows, mesh))
    layers = {
        name: jax.tree.map(lambda leaf, spec: placed(leaf, spec, leaf.shape), layer, _LAYER)
        for name, layer in made.items()
    }
    made_for: Any = programs(mesh, plan.size)
    steps, finish = made_for
    with jax.default_matmul_precision(PRECISION):
        batches = steps.lower(layers, *inputs, 0, plan.at_once)
        return plan, batches, finish.lower(layers, inputs[-1])


def by_unit(
    found: tuple[np.ndarray, np.ndarray], activations: Mapping[str, Any], images: int
) -> dict[str, ImageMoments]:
    """The final program's results by unit, in forward order.

    Args:
      found: rows (units, 3, images or more) and centers (units,), units sorted by layer name.
      activations: shapes of arrays, or `Rescaled` activations, by unit.
      images: number of images.
    """
    units = _units(activations)
    place = {unit: row for row, unit in enumerate(u for name in sorted(units) for u in units[name])}
    rows, centers = found[0][..., :images].astype(np.float64), found[1]
    moments = {}
    for name in activations:
        deformation, noise, spread = rows[place[name]]
        moments[name] = ImageMoments(deformation, noise, spread, float(centers[place[name]]))
    return moments


def check_inputs(clean: Images, deformed: Images, noisy: Images, batch_size: int) -> None:
    """Raises ValueError if shapes disagree or there are fewer than two images."""
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


def _activations(features: Features, clean: Any, copies: int) -> dict[str, Any]:
    """Shapes of the activations of one image and its copies, or `Rescaled`, in the order named.

    Raises:
      TypeError: if they are not what `features` must return.
    """
    several = jax.ShapeDtypeStruct((copies, *clean.shape[1:]), clean.dtype)
    found = jax.eval_shape(in_forward_order, features, several)
    activations = dict(zip(found.names, found.activations, strict=True))
    check_activations(activations, copies)
    return activations


def check_activations(activations: Mapping[str, Any], copies: int) -> None:
    """Raises TypeError if activations do not have the shapes that a function must return.

    Args:
      activations: shapes of arrays, or `Rescaled` activations, by name.
      copies: number of images that they belong to.
    """
    for name, f in activations.items():
        if isinstance(f, Rescaled):
            _check_rescaled(name, f, activations)
            continue
        if not isinstance(f, jax.ShapeDtypeStruct):
            raise TypeError(
                f"activations {name!r}: expected one array, got {type(f).__name__}; give each "
                "array a name of its own"
            )
        if f.ndim < 1 or len(f) != copies or not jnp.issubdtype(f.dtype, jnp.floating):
            raise TypeError(
                f"activations {name!r}: expected floats of shape (images, ...), one row per image; "
                f"of {copies} images they are {f.dtype} of shape {f.shape}"
            )


def _check_rescaled(name: str, f: Rescaled, activations: Mapping[str, Any]) -> None:
    source: Any = activations.get(f.of)
    is_array = isinstance(source, jax.ShapeDtypeStruct) and len(source.shape) > 1
    channels = source.shape[-1:] if is_array else None
    if not f.gain.shape == f.offset.shape == channels:
        raise TypeError(
            f"activations {name!r}: expected gain and offset for every channel of an array among "
            f"the activations, got shapes {f.gain.shape} and {f.offset.shape} for {f.of!r}, "
            f"{'which is none' if channels is None else f'of {channels[0]} channels'}"
        )


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["activations"], meta_fields=["names"]
)
@dataclasses.dataclass
class InForwardOrder:
    """Activations returned by a traced function; JAX would sort a dict by its keys."""

    names: tuple[str, ...]
    activations: Any


@jax.jit  # traces a function once for all networks of one shape
def in_forward_order(features: Features, images: Array) -> InForwardOrder:
    """A function's activations in the order named, compiled; plain jit would sort its dict."""
    found = features(images)
    if not isinstance(found, Mapping) or not found:
        raise TypeError(
            "expected a function from images to a dict of named activations, got one that returns "
            f"{type(found).__name__}"
        )
    return InForwardOrder(tuple(found), tuple(found.values()))


def _images_within(limit: int, activations: Mapping[str, Any]) -> int:
    """How many images have activations of at most `limit` bytes in all; at least one."""
    kept = [activations[name] for name in _units(activations)]
    of_one = sum(f.size * f.dtype.itemsize // len(f) for f in kept)
    return max(1, limit // max(1, of_one))


def fitting_batch(activations: Mapping[str, Any], devices: int, platform: str) -> int:
    """The default number of images per device and batch. A CPU's devices share its memory."""
    if platform != "cpu":
        return _images_within(_BATCH_BYTES, activations)
    return min(_LARGEST_CPU_BATCH, _images_within(_BATCH_BYTES // devices, activations))


def _placed(values: Any, specs: Any, mesh: Mesh | None) -> Any:
    """A tuple placed on the devices of a mesh, each element by its spec."""
    if mesh is None:
        return values
    return tuple(
        global_arrays.place(value, NamedSharding(mesh, spec))
        for value, spec in zip(values, specs, strict=True)
    )


def _units(activations: Mapping[str, Any]) -> dict[str, list[str]]:
    """The computed layers by name, each with its units: itself and those rescaled from it."""
    units = {name: [name] for name, f in activations.items() if not isinstance(f, Rescaled)}
    for name, f in activations.items():
        if isinstance(f, Rescaled):
            units[f.of].append(name)
    return units


def shapes(activations: Mapping[str, Any]) -> tuple[tuple[str, Shape], ...]:
    """The shapes of the computed layers, by name, from activations of one or more images.

    Sums are at least float32, even for a network in bfloat16.
    """
    return tuple(
        (
            name,
            Shape(
                activations[name].size // len(activations[name]),
                activations[name].shape[-1] if len(units) > 1 else 1,
                len(units),
                jnp.promote_types(activations[name].dtype, jnp.float32),
            ),
        )
        for name, units in _units(activations).items()
    )


@functools.cache
def nothing(
    shapes: tuple[tuple[str, Shape], ...], rows: int, mesh: Mesh | None
) -> Callable[[], dict[str, Layer]]:
    """The program that makes the sums of all layers before the first batch.

    For `rows` images per device, including those that fill up batches.
    """
    devices = 1 if mesh is None else mesh.size

    def all_layers() -> dict[str, Layer]:
        return {
            name: layer_sums.nothing(shape, images=devices * rows, devices=devices)
            for name, shape in shapes
        }

    if mesh is None:
        return jax.jit(all_layers)
    place = jax.tree.map(functools.partial(NamedSharding, mesh), _LAYER)
    return jax.jit(all_layers, out_shardings={name: place for name, _ in shapes})


@functools.cache
def programs(mesh: Mesh | None, size: int) -> tuple[Callable, Callable]:
    """Two programs: one adds batches of `size` images per device, one finishes the moments."""
    axis = None if mesh is None else DATA_AXIS

    def total(values: Array) -> Array:
        return values if axis is None else lax.psum(values, axis)

    platform = runtime.platform_of(mesh)
    steps: Callable = functools.partial(_steps, size, total, platform)
    finish: Callable = functools.partial(finish_layers, total)

    def over_mesh(program: Callable, *specs: PartitionSpec, after: Any = None) -> Callable:
        """(layers, *inputs) -> layers or `after`, run on each device for that device's images."""

        def spread(layers, *inputs):
            known = dict.fromkeys(layers, _LAYER)
            mapped = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
            return mapped(program, in_specs=(known, *specs), out_specs=after or known)(
                layers, *inputs
            )

        return program if mesh is None else spread

    steps = over_mesh(steps, *_INPUTS)
    finish = over_mesh(finish, _BY_IMAGE, after=_FOUND)
    options = runtime.with_barriers(platform) or None
    return (
        jax.jit(steps, compiler_options=options, donate_argnums=0),
        jax.jit(finish, compiler_options=options or None),
    )


def _steps(
    size: int,
    total: Callable[[Array], Array],
    platform: str,
    layers: dict[str, Layer],
    *inputs: Any,
) -> dict[str, Layer]:
    """`_step` for all batches from image `start` to `end`, the last two inputs."""
    features, clean, deformed, noisy, weights, start, end = inputs
    shared = (features, clean, deformed, noisy, weights)

    def step(number: Array, layers: dict[str, Layer]) -> dict[str, Layer]:
        return _step(size, total, platform, layers, *shared, start + number * size)

    return lax.fori_loop(0, (end - start + size - 1) // size, step, layers)


def _step(
    size: int,
    total: Callable[[Array], Array],
    platform: str,
    layers: dict[str, Layer],
    features: Features,
    clean: Array,
    deformed: Array,
    noisy: Array,
    weights: Array,
    start: Array,
) -> dict[str, Layer]:
    """Adds a batch of images, starting at `start`, to the sums of all layers.

    The last batch is filled up with copies of the last image with weight 0. Each of several
    devices has its own images; `total` adds over devices.
    """
    number = start + jnp.arange(size)
    row = jnp.minimum(number, len(clean) - 1)
    weights = jnp.where(number < len(clean), weights[row], 0)
    copies = [clean[row][None], jnp.take(deformed, row, axis=1), jnp.take(noisy, row, axis=1)]
    stacked = jnp.concatenate(copies)
    found = features(stacked.reshape(-1, *clean.shape[1:]))
    return with_found(total, platform, layers, found, len(deformed), weights, start)


def with_found(
    total: Callable[[Array], Array],
    platform: str,
    layers: dict[str, Layer],
    found: Mapping[str, Any],
    draws: int,
    weights: Array,
    start: Array,
) -> dict[str, Layer]:
    """Adds the activations of a batch to the sums of all layers.

    Args:
      total: adds over devices.
      platform: of the devices, "cpu", "gpu" or "tpu".
      layers: the sums before this batch.
      found: activations of the batch's clean, deformed and noisy images, concatenated.
      draws: number of deformed copies.
      weights: weights of the batch's images, 0 for those that fill it up.
      start: index of its first image.
    """
    size = len(weights)
    units = _units(found)
    # Without the barrier, a unit is computed again in everything that reads it.
    kept = lax.optimization_barrier({name: found[name] for name in units})
    # Not (copies, batch, entries): with batches of one XLA would copy it to another layout.
    flat = {name: f.reshape(len(f), -1) for name, f in kept.items()}

    def means() -> dict[str, Array]:
        count = total(weights.sum())
        dtypes = {name: layers[name].reference.dtype for name in flat}
        clean = {name: f[:size].astype(dtypes[name]) for name, f in flat.items()}
        sums = {name: layer_sums.sum_over_images(f, weights) for name, f in clean.items()}
        return {name: total(values) / count for name, values in sums.items()}

    references = lax.cond(
        start == 0, means, lambda: {name: layers[name].reference for name in flat}
    )
    begun = {
        name: layer._replace(
            scales=_scales(layer, [found[unit] for unit in units[name][1:]]),
            reference=references[name],
        )
        for name, layer in layers.items()
    }
    return {
        name: layer_sums.with_batch(begun[name], f, draws, weights, start, platform=platform)
        for name, f in flat.items()
    }


def _scales(layer: Layer, rescaled: list[Rescaled]) -> Scales:
    """Gains and offsets of a layer and of the units rescaled from it."""
    ones = jnp.ones_like(layer.scales.gain[0])
    gains = [ones, *(unit.gain.astype(ones.dtype) for unit in rescaled)]
    offsets = [0 * ones, *(unit.offset.astype(ones.dtype) for unit in rescaled)]
    return Scales(jnp.stack(gains), jnp.stack(offsets))


def finish_layers(
    total: Callable[[Array], Array], layers: dict[str, Layer], weights: Array
) -> tuple[Float[Array, "units 3 images"], Float[Array, " units"]]:
    """Deformation, noise and spread of every image, and ||m||^2; units by layer name."""
    found = [layer_sums.finish(layers[name], weights, total) for name in sorted(layers)]
    rows, centers = zip(*found, strict=True)
    return jnp.concatenate(rows), jnp.concatenate(centers)
