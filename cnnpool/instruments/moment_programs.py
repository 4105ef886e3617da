"""The compiled programs of a measurement: sums of all layers, batch by batch, on all devices."""

from collections.abc import Callable, Mapping
import functools
from typing import Any

import jax
from jax import Array, lax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from cnnpool.devices import runtime
from cnnpool.devices.batch_sharding import DATA_AXIS
from cnnpool.instruments import layer_sums
from cnnpool.instruments.activations import Features, Rescaled, units_of
from cnnpool.instruments.batch_plan import Plan, plan_of
from cnnpool.instruments.layer_sums import Layer, Rows, Scales, Shape
from cnnpool.shapes import Float

# Accelerators would round factors to TF32 or bfloat16; D is a difference of large activations.
PRECISION = "highest"

# How layers are spread over a mesh, and the inputs of a step: features, clean, deformed, noisy,
# weights, the index of the first image and the one after the last.
_EVERYWHERE = PartitionSpec()
_BY_IMAGE = PartitionSpec(DATA_AXIS)
_BY_DRAW = PartitionSpec(None, DATA_AXIS)
_ROWS: Any = Rows(*[_BY_DRAW] * 3, _BY_IMAGE)  # type: ignore
_LAYER: Any = Layer(Scales(_EVERYWHERE, _EVERYWHERE), _EVERYWHERE, _BY_IMAGE, _ROWS)  # type: ignore
INPUTS = (_EVERYWHERE, _BY_IMAGE, _BY_DRAW, _BY_DRAW, _BY_IMAGE, _EVERYWHERE, _EVERYWHERE)
_FOUND = (PartitionSpec(None, None, DATA_AXIS), _EVERYWHERE)


def layer_shapes(activations: Mapping[str, Any]) -> tuple[tuple[str, Shape], ...]:
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
        for name, units in units_of(activations).items()
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

    steps = over_mesh(steps, *INPUTS)
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
    units = units_of(found)
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
        jax.tree.map(lambda leaf: placed(leaf, _EVERYWHERE, leaf.shape), features),
        placed(clean, _BY_IMAGE, (count, *clean.shape[1:])),
        *(
            placed(copy, _BY_DRAW, (len(copy), count, *clean.shape[1:]))
            for copy in (deformed, noisy)
        ),
        placed(jax.ShapeDtypeStruct((count,), np.float32), _BY_IMAGE, (count,)),
    )
    made = jax.eval_shape(nothing(layer_shapes(plan.activations), plan.rows, mesh))
    layers = {
        name: jax.tree.map(lambda leaf, spec: placed(leaf, spec, leaf.shape), layer, _LAYER)
        for name, layer in made.items()
    }
    made_for: Any = programs(mesh, plan.size)
    steps, finish = made_for
    with jax.default_matmul_precision(PRECISION):
        batches = steps.lower(layers, *inputs, 0, plan.at_once)
        return plan, batches, finish.lower(layers, inputs[-1])
