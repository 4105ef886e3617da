"""Functions that each device applies to its own shard of a batch.

The compiler partitions whole-array operations over a mesh by itself. It cannot partition a loop
over images: it would gather the whole batch on every device. Such code goes through `forward` and
`backward`, which run it on each device's own images (`jax.shard_map`).
"""

from collections.abc import Callable

import jax
from jax import Array, lax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

DATA_AXIS = "data"  # mesh axis: devices that share a batch


def shares(batch: int) -> int:
    """The number of devices that share a batch in the program being traced.

    Args:
      batch: number of images.

    Returns:
      The length of the mesh axis `data`; 1 outside a mesh, inside a `shard_map`, and where the
      number of devices does not divide `batch`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if types.get(DATA_AXIS) != AxisType.Auto:  # no such axis, or already inside a shard_map
        return 1
    devices = mesh.shape[DATA_AXIS]
    return devices if batch % devices == 0 else 1


def forward(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Maps (x, parameter) -> y over devices: x and y are sharded, the parameter is replicated."""
    return jax.shard_map(
        function,
        in_specs=(PartitionSpec(DATA_AXIS), PartitionSpec()),
        out_specs=PartitionSpec(DATA_AXIS),
        axis_names={DATA_AXIS},
        check_vma=False,
    )


def backward(
    function: Callable[[Array, Array, Array], tuple[Array, Array]],
) -> Callable[[Array, Array, Array], tuple[Array, Array]]:
    """Maps (x, parameter, dy) -> (dx, dparameter) over devices.

    x, dy and dx are sharded; dparameter is summed over all devices.
    """

    def summed(x, parameter, dy):
        dx, dparameter = function(x, parameter, dy)
        return dx, lax.psum(dparameter, DATA_AXIS)

    own, everywhere = PartitionSpec(DATA_AXIS), PartitionSpec()
    return jax.shard_map(
        summed,
        in_specs=(own, everywhere, own),
        out_specs=(own, everywhere),
        axis_names={DATA_AXIS},
        check_vma=False,
    )


def of_each_device(
    function: Callable[[Array], tuple[Array, ...]],
) -> Callable[[Array], tuple[Array, ...]]:
    """Maps x -> the function's results for each device's own images, one row per device.

    Args:
      function: returns small arrays of the same shape, which are sent to all devices in a single
        all-gather.
    """

    def gathered(x):
        rows = lax.all_gather(jnp.stack(function(x)), DATA_AXIS)
        return tuple(jnp.unstack(rows, axis=1))

    return jax.shard_map(
        gathered,
        in_specs=PartitionSpec(DATA_AXIS),
        out_specs=PartitionSpec(),
        axis_names={DATA_AXIS},
        check_vma=False,
    )
