"""Programs that work on the networks of a run: over devices, and in groups on each."""

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
    """Jits a function of a group of networks for all, spread over the mesh axis `seed`.

    A device, or the devices of one network, takes its networks in groups of
    `seeds_per_batch`, group after group.

    Args:
      function: (*of a group, *shared) -> pytree of the group.
      mesh: with the axis `seed`; others are left to the compiler.
      stacked: number of leading arguments that have a seed axis in front.
      shared: number of the other arguments.
      seeds_per_batch: networks of a group, at most; a divisor is taken.
      options: of the compiler.
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
