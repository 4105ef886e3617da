"""Global arrays, sharded over the devices of all processes, from and to arrays on each host."""

from typing import Any

import jax
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import NamedSharding
import numpy as np


def place(values: Any, sharding: NamedSharding) -> Any:
    """Places a pytree of arrays, complete in every process, on the devices of a mesh.

    Args:
      values: the pytree, the same in all processes; PRNG key arrays are allowed.
      sharding: the sharding of every array.

    Returns:
      The same pytree of global arrays.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(values, sharding)

    def one(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(leaf)))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(one, values)


def placed_shapes(values: Any, sharding: NamedSharding) -> Any:
    """What `place` returns, as `jax.ShapeDtypeStruct`s; the devices need not exist."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), values
    )


def fetch(arrays: Any) -> Any:
    """A pytree of global arrays as numpy arrays, complete in every process (a collective)."""
    return jax.tree.map(_fetched, arrays)


def _fetched(leaf: Any) -> Any:
    elsewhere = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
    return process_allgather(leaf, tiled=True) if elsewhere else jax.device_get(leaf)
