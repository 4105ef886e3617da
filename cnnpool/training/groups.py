"""All networks of a run in one program: spread over devices, in groups on each device."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from cnnpool.devices import runtime
from cnnpool.devices.divisors import largest_divisor

NO_STEP = jnp.iinfo(jnp.int32).max  # in place of a network's first bad step, where all were good


def check_seeds(seeds: Sequence[object]) -> None:
    """Raises ValueError if there is no seed, a duplicate, or one that is no whole number."""
    whole = all(isinstance(seed, int) for seed in seeds)
    if not (seeds and whole and len(set(seeds)) == len(seeds)):
        raise ValueError(
            "config.seeds must name at least one seed, each once, as whole numbers; got "
            f"{tuple(seeds)}"
        )


def stacked_shapes(one: Any, count: int, mesh: Mesh) -> Any:
    """Shapes, types and shardings of `count` networks, from the shapes of one."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (count, *leaf.shape), leaf.dtype, sharding=runtime.over_seeds(mesh)
        ),
        one,
    )


def over_groups(
    function: Callable,
    mesh: Mesh,
    *,
    stacked: int,
    shared: int,
    seeds_per_batch: int,
    options: Mapping[str, Any],
) -> Callable:
    """Jits a function of a group of networks for all networks, sharded over the mesh axis `seed`.

    Each device, or the devices that share one network, processes its networks in groups of
    `seeds_per_batch`, one group after another.

    Args:
      function: (*arguments of a group, *shared) -> pytree of the group.
      mesh: a mesh with the axis `seed`; other axes are left to the compiler.
      stacked: number of leading arguments whose first axis is the seed.
      shared: number of the other arguments.
      seeds_per_batch: largest number of networks per group; a divisor of all is chosen.
      options: options of the compiler.
    """
    spec = PartitionSpec(runtime.SEED_AXIS)

    def on_one_shard(*arguments):
        mine, common = arguments[:stacked], arguments[stacked:]
        local = jax.tree.leaves(mine)[0].shape[0]
        group = largest_divisor(local, at_most=seeds_per_batch)
        if group == local:
            return function(*mine, *common)
        split = jax.tree.map(lambda a: a.reshape(local // group, group, *a.shape[1:]), mine)
        done = lax.map(lambda one: function(*one, *common), split)
        return jax.tree.map(lambda a: a.reshape(local, *a.shape[2:]), done)

    sharded = jax.shard_map(
        on_one_shard,
        mesh=mesh,
        in_specs=(spec,) * stacked + (PartitionSpec(),) * shared,
        out_specs=spec,
        axis_names={runtime.SEED_AXIS},
        check_vma=False,
    )
    return jax.jit(sharded, compiler_options=runtime.compiler_options(mesh) | dict(options))
