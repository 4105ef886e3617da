"""Devices and the mesh that independent networks are spread over."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import os
from pathlib import Path
import platform
import re
import zlib

import jax
from jax.experimental.compilation_cache import compilation_cache as jax_cache
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from cnnpool.devices.batch_sharding import DATA_AXIS
from cnnpool.devices.divisors import largest_divisor
from cnnpool.errors import CnnpoolError

SEED_AXIS = "seed"
_CACHE, _LEAST = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
_ASKING = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "CUDA_VISIBLE_DEVICES")

_COPIES_BYTES = 2**29  # of a network's parameters, one copy a CPU device


class DeviceError(CnnpoolError):
    """A kind of device is asked for that is not there."""


def device_error() -> DeviceError | None:
    """What is wrong where JAX has no device at all; None where it has one.

    To be asked when something else went wrong: JAX says it at its first computation, wherever that
    is, with a RuntimeError or a bare AssertionError.
    """
    try:
        jax.devices()
    except Exception as error:  # JAX lets those of its plugins through
        line = next(iter(str(error).splitlines()), "no reason given")
        return DeviceError(
            f"JAX has no device{_asked()}: {line}. Is JAX installed for it, pip install "
            "'jax[cuda12]', and is this a machine that has one? Leave the variable unset, or "
            "JAX_PLATFORMS=cpu, to compute on CPUs"
        )
    return None


def check_accelerator() -> None:
    """Raises DeviceError where JAX computes on CPUs alone."""
    if jax.default_backend() == "cpu":
        raise DeviceError(
            f"a GPU is asked for, and JAX sees CPUs alone{_asked()}. Is it installed for GPUs, pip "
            "install 'jax[cuda12]', and is this a machine that has one?"
        )


def _asked() -> str:
    found = [f"{name}={os.environ[name]}" for name in _ASKING if name in os.environ]
    return f" ({', '.join(found)})" if found else ""


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_devices(
    n_seeds: int, *, cores: int, devices_per_network: int = 1, processes: int = 1
) -> int:
    """CPU devices for `n_seeds` networks: the fewest that divide them and use every core.

    Five networks on two cores get five devices; the operating system shares the cores out. Of
    several processes each has as many; where that cannot be, each has one or more of them.
    """
    divisors = [
        d
        for d in range(1, n_seeds + 1)
        if n_seeds % d == 0 and d * devices_per_network % processes == 0
    ]
    enough = [d for d in divisors if d >= cores // devices_per_network]
    count = (enough[:1] or divisors[-1:] or [n_seeds])[0]
    return max(1, count * devices_per_network // processes) * processes


def one_cpu_device_per_core(
    n_seeds: int, *, devices_per_network: int = 1, processes: int = 1
) -> None:
    """Splits the CPU into devices, so that networks train side by side.

    XLA sees a CPU as one device. Small matrix products use several cores badly;
    independent networks, or images, a core each, use them fully. Of one process there are as many
    devices as cores at least, though few networks do not train on all. Call it before the first JAX
    computation; it changes nothing on accelerators, nor where XLA_FLAGS already
    sets the number of host devices.

    Args:
      n_seeds: networks to be trained.
      devices_per_network: that share the batches of one network.
      processes: of the job, each with as many devices.
    """
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    devices = cpu_devices(
        n_seeds,
        cores=cores() * processes,
        devices_per_network=devices_per_network,
        processes=processes,
    )
    if processes == 1:
        devices = max(devices, cores())
    jax.config.update("jax_num_cpu_devices", devices // processes)


def seed_mesh(n_seeds: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the one axis `seed`, over as many of the devices as divide `n_seeds`.

    Args:
      n_seeds: networks.
      devices: to use; None is all, of all processes.

    Raises:
      ValueError: if of several processes some would have nothing to do.
    """
    everywhere = devices is None
    devices = jax.devices() if devices is None else devices
    count = largest_divisor(n_seeds, at_most=len(devices))
    if everywhere and jax.process_count() > 1 and count < len(devices):
        raise ValueError(
            f"{n_seeds} networks leave devices of {jax.process_count()} processes idle; expected a "
            f"number of seeds that the {len(devices)} devices divide, or fewer processes"
        )
    return mesh_over(devices[:count], {SEED_AXIS: count})


def mesh_over(devices: Sequence[jax.Device], lengths: Mapping[str, int]) -> Mesh:
    """A mesh of all these devices; those of one slice of a TPU lie as its links suggest.

    Slices follow one another, so that a last axis which divides a slice's devices stays inside it.

    Args:
      devices: as many as the product of the lengths.
      lengths: of the axes by name, the outer one first.
    """
    names, types = tuple(lengths), (AxisType.Auto,) * len(lengths)
    if len({getattr(device, "slice_index", 0) for device in devices}) == 1:
        return jax.make_mesh(tuple(lengths.values()), names, types, devices=devices)
    ordered = sorted(devices, key=lambda device: (device.slice_index, device.id))
    return Mesh(np.array(ordered).reshape(tuple(lengths.values())), names, axis_types=types)


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that a second start is quick.

    In the folder that JAX_COMPILATION_CACHE_DIR names, or else in ~/.cache/cnnpool, one folder
    a processor: a program compiled for one CPU may crash on another that shares the home. Nowhere
    for a user without a home that can be written.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = _cache_folder()
        if cache is None:
            return
        jax.config.update(_CACHE, str(cache))
    # A measurement compiles a hundred small programs, together three seconds.
    jax.config.update(_LEAST, 0.0)


@contextlib.contextmanager
def compilation_cache() -> Iterator[None]:
    """`use_compilation_cache` for a while, of somebody else's program, which keeps its settings.

    Where it has a cache of its own, that one is used as it is.
    """
    own = jax.config.values[_CACHE]
    cache = None if own or os.environ.get("JAX_COMPILATION_CACHE_DIR") == "" else _cache_folder()
    if cache is None:
        yield
        return
    least = jax.config.values[_LEAST]
    jax_cache.reset_cache()  # whether there is one is asked once
    jax.config.update(_CACHE, str(cache))
    jax.config.update(_LEAST, 0.0)
    try:
        yield
    finally:
        jax.config.update(_CACHE, own)
        jax.config.update(_LEAST, least)
        jax_cache.reset_cache()


def _cache_folder() -> Path | None:
    """The cache for this kind of processor, in the user's home; None if it is not writable."""
    cpu = Path("/proc/cpuinfo")
    flags = re.search(r"^flags.*$", cpu.read_text("utf-8"), re.M) if cpu.exists() else None
    features = zlib.crc32(flags.group().encode()) if flags else 0
    try:
        cache = Path.home() / ".cache" / "cnnpool" / f"xla-{platform.machine()}-{features:08x}"
        cache.mkdir(parents=True, exist_ok=True)
    except (RuntimeError, OSError):
        return None
    return cache if os.access(cache, os.W_OK) else None


def network_mesh(
    n_seeds: int,
    *,
    seed: int | None,
    data: int,
    batch_size: int,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh of independent networks (axis `seed`) whose batches are shared out (axis `data`).

    Args:
      n_seeds: networks.
      seed: length of the axis `seed`; None takes as many as divide the networks and fit.
      data: devices that share the batches of one network.
      batch_size: images a step.
      devices: to use; None is all.

    Raises:
      ValueError: if an axis does not divide what it spreads, or devices are too few.
    """
    devices = jax.devices() if devices is None else devices
    if data < 1 or batch_size % data:
        raise ValueError(f"runtime.mesh.data {data} must divide training.batch_size {batch_size}")
    if seed is None:
        seed = largest_divisor(n_seeds, at_most=len(devices) // data)
    if seed < 1 or n_seeds % seed:
        raise ValueError(f"runtime.mesh.seed {seed} must divide the number of seeds, {n_seeds}")
    if seed * data > len(devices):
        raise ValueError(
            f"a mesh of runtime.mesh.seed {seed} times runtime.mesh.data {data} needs "
            f"{seed * data} devices; there are {len(devices)}"
        )
    if jax.process_count() > 1 and seed * data < len(devices):
        raise ValueError(
            f"a mesh of runtime.mesh.seed {seed} times runtime.mesh.data {data} leaves devices of "
            f"{jax.process_count()} processes idle; expected {len(devices)} in all. Raise "
            "runtime.mesh.data, take a number of seeds that they divide, or fewer processes"
        )
    return mesh_over(devices[: seed * data], {SEED_AXIS: seed, DATA_AXIS: data})


def image_mesh(parameter_bytes: int = 0) -> Mesh | None:
    """A mesh with the one axis `data`, over whose devices images are spread to be looked at.

    Over all devices; of a CPU of one process over one a core, but fewer if their copies of a large
    network would take more than half a gigabyte together. The devices of two cores do in 1.35 s
    what one device with two threads does in 1.75 s (VGG11-bn, 500 images of 32 x 32).

    Args:
      parameter_bytes: of the network, a copy on each device.

    Returns:
      None where that is one device.
    """
    devices = jax.devices()
    if devices[0].platform == "cpu" and jax.process_count() == 1:
        fitting = max(1, _COPIES_BYTES // max(1, parameter_bytes))
        devices = devices[: min(cores(), fitting)]
    if len(devices) == 1:
        return None
    return mesh_over(devices, {DATA_AXIS: len(devices)})


def platform_of(mesh: Mesh | None) -> str:
    """The platform of the devices that a program is compiled for, perhaps not this machine's.

    Args:
      mesh: of the program; None is the first device of this machine.
    """
    return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform


def over_seeds(mesh: Mesh) -> NamedSharding:
    """Sharding of an array whose first axis counts seeds."""
    return NamedSharding(mesh, PartitionSpec(SEED_AXIS))


def compiler_options(mesh: Mesh) -> dict[str, bool]:
    """Options for a program in which every device of `mesh` works on its own seeds.

    Several CPU devices share one thread pool; a product that is split over it waits
    for the other device's. One thread a device is faster, and its results do not
    depend on how many cores the machine has.
    """
    if mesh.size > 1 and platform_of(mesh) == "cpu":
        return {"xla_cpu_multi_thread_eigen": False}
    return {}


def with_barriers(platform: str) -> dict[str, str]:
    """Options under which a CPU obeys `lax.optimization_barrier` when it fuses operations.

    XLA drops the barriers before it fuses; what is copied to several places is then computed
    at each of them. LeNet's training step takes half the time with this option. The CPU compiler of
    jaxlib 0.12 cannot compile the barriers that it keeps ("Unhandled opcode ... opt-barrier"), and
    goes without it. May go when XLA's CPU compiler keeps barriers of its own accord.
    """
    if platform == "cpu" and jax.__version_info__ < (0, 12):
        return {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return {}
