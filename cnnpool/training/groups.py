"""Programs over all networks of a run: spread over devices, in groups on each device."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from cnnpool.devices import runtime
from cnnpool.devices.divisors import largest_divisor


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
