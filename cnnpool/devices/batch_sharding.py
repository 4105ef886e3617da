"""What a device does with its own share of a batch, inside a program for several devices.

The compiler spreads whole-array operations over a mesh by itself. A loop over images is not one:
it would gather the batch on every device. Such code runs here, on the device's own images.
"""

from collections.abc import Callable

import jax
from jax import Array, lax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

DATA_AXIS = "data"  # of a mesh: devices that share a batch


def shares(batch: int) -> int:
    """Devices that a batch is spread over in the program being traced; 1 outside of a mesh.

    Args:
      batch: images; where the devices do not divide it, it is not spread.
    """
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if types.get(DATA_AXIS) != AxisType.Auto:  # absent, or the program is one device's already
        return 1
    devices = mesh.shape[DATA_AXIS]
    return devices if batch % devices == 0 else 1


def forward(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """(x, parameter) -> y, on every device for its own images x."""
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
    """(x, parameter, dy) -> (dx, dparameter), the latter summed over all devices."""

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
    """x -> what the function gives for each device's own images, one row per device.

    Args:
      function: gives small arrays of one shape, which all devices get in one exchange.
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
