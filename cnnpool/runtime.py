"""Devices and the mesh that independent networks are spread over."""

from collections.abc import Sequence
import os

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

SEED_AXIS = "seed"


def largest_divisor(number: int, *, at_most: int) -> int:
    """The largest divisor of `number` that does not exceed `at_most` (at least 1)."""
    return max(d for d in range(1, max(1, at_most) + 1) if number % d == 0)


def one_cpu_device_per_core(n_seeds: int) -> None:
    """Splits the CPU into devices, one a core, so that seeds train side by side.

    XLA sees a CPU as one device. Small matrix products use several cores badly;
    independent networks, a core each, use them fully. Call it before the first JAX
    computation; it changes nothing on accelerators, nor where XLA_FLAGS already
    sets the number of host devices.

    Args:
      n_seeds: networks to be trained; the number of devices divides it.
    """
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jax.config.update("jax_num_cpu_devices", largest_divisor(n_seeds, at_most=cores or 1))


def seed_mesh(n_seeds: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the one axis `seed`, over as many of the devices as divide `n_seeds`."""
    devices = jax.devices() if devices is None else devices
    count = largest_divisor(n_seeds, at_most=len(devices))
    return jax.make_mesh((count,), (SEED_AXIS,), (AxisType.Auto,), devices=devices[:count])


def over_seeds(mesh: Mesh) -> NamedSharding:
    """Sharding of an array whose first axis counts seeds."""
    return NamedSharding(mesh, PartitionSpec(SEED_AXIS))


def compiler_options(mesh: Mesh) -> dict[str, bool]:
    """Options for a program in which every device of `mesh` works on its own seeds.

    Several CPU devices share one thread pool; a product that is split over it waits
    for the other device's. One thread a device is faster, and its results do not
    depend on how many cores the machine has.
    """
    if mesh.size > 1 and mesh.devices.flat[0].platform == "cpu":
        return {"xla_cpu_multi_thread_eigen": False}
    return {}
