"""Devices, meshes over networks and images, compiler options and the compilation cache."""

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

_COPIES_BYTES = 2**29  # limit for all copies of a network's parameters, one per CPU device


class DeviceError(CnnpoolError):
    """The requested kind of device is not available."""


def device_error() -> DeviceError | None:
    """The reason why JAX has no device; None if it has one.

    Call it when another error occurred: without a device, JAX's first computation, wherever that
    is, fails with a RuntimeError or a bare AssertionError.
    """
    try:
        jax.devices()
    except Exception as error:  # JAX also passes on exceptions of its plugins
        line = next(iter(str(error).splitlines()), "no reason given")
        return DeviceError(
            f"JAX has no device{_asked()}: {line}. Check that JAX is installed for the device (pip "
            "install 'jax[cuda12]') and that this machine has one. To compute on CPUs, unset the "
            "variable or set JAX_PLATFORMS=cpu"
        )
    return None


def check_accelerator() -> None:
    """Raises DeviceError if JAX's only devices are CPUs."""
    if jax.default_backend() == "cpu":
        raise DeviceError(
            f"expected a GPU, but JAX finds only CPUs{_asked()}. Check that JAX is installed for "
            "GPUs (pip install 'jax[cuda12]') and that this machine has one"
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
    """The number of CPU devices for `n_seeds` networks: the fewest that use every core.

    The number of devices divides the number of networks: five networks on two cores get five
    devices, and the operating system distributes the cores among them. All processes get the same
    number of devices, at least one each.
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
    """Splits the CPU into several JAX devices, so that networks train in parallel.

    By default, a CPU is one device to XLA. Small matrix products make poor use of several cores;
    independent networks or images, one per core, use them fully. A single process gets at least as
    many devices as cores, even if the networks to be trained are fewer. Call it before the first
    JAX computation; it has no effect on accelerators, nor where XLA_FLAGS already sets the number
    of host devices.

    Args:
      n_seeds: number of networks to be trained.
      devices_per_network: number of devices that share each batch of a network.
      processes: number of processes of the job, all with the same number of devices.
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
    """A mesh with the single axis `seed`, over the most devices whose number divides `n_seeds`.

    Args:
      n_seeds: number of networks.
      devices: the devices to use; None: all devices of all processes.

    Raises:
      ValueError: if devices of a job with several processes would be idle.
    """
    everywhere = devices is None
    devices = jax.devices() if devices is None else devices
    count = largest_divisor(n_seeds, at_most=len(devices))
    if everywhere and jax.process_count() > 1 and count < len(devices):
        raise ValueError(
            f"{n_seeds} networks leave devices of {jax.process_count()} processes idle; expected a "
            f"multiple of the {len(devices)} devices as the number of seeds, or fewer processes"
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
    """Caches compiled programs on disk, so that the next start is fast.

    The cache is the folder named by JAX_COMPILATION_CACHE_DIR, or else one in ~/.cache/cnnpool for
    this type of processor: a program compiled for one CPU may crash on another that shares the
    home directory. There is no cache if the home directory is not writable.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = _cache_folder()
        if cache is None:
            return
        jax.config.update(_CACHE, str(cache))
    # A measurement compiles a hundred small programs, which take three seconds in total.
    jax.config.update(_LEAST, 0.0)


@contextlib.contextmanager
def compilation_cache() -> Iterator[None]:
    """Like `use_compilation_cache`, but restores JAX's settings on exit. For library functions.

    If the calling program has configured a cache of its own, that cache is used unchanged.
    """
    own = jax.config.values[_CACHE]
    cache = None if own or os.environ.get("JAX_COMPILATION_CACHE_DIR") == "" else _cache_folder()
    if cache is None:
        yield
        return
    least = jax.config.values[_LEAST]
    jax_cache.reset_cache()  # JAX checks only once whether there is a cache
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
    """A mesh over independent networks (axis `seed`) and the images of a batch (axis `data`).

    Args:
      n_seeds: number of networks.
      seed: length of the axis `seed`; None: the largest divisor of `n_seeds` for which there are
        enough devices.
      data: length of the axis `data`: number of devices that share each batch of a network.
      batch_size: images per step.
      devices: the devices to use; None: all.

    Raises:
      ValueError: if `seed` does not divide `n_seeds` or `data` does not divide `batch_size`, if
        there are too few devices, or if devices of a job with several processes would be idle.
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
            f"{jax.process_count()} processes idle; expected {len(devices)} devices in use. Raise "
            "runtime.mesh.data, choose a number of seeds that is a multiple of the devices, or "
            "start fewer processes"
        )
    return mesh_over(devices[: seed * data], {SEED_AXIS: seed, DATA_AXIS: data})


def image_mesh(parameter_bytes: int = 0) -> Mesh | None:
    """A mesh with the single axis `data`, over which the images of a measurement are distributed.

    It contains all devices. On a CPU with a single process it contains one device per core, or
    fewer if the copies of a large network's parameters would exceed half a gigabyte. Two devices
    on two cores take 1.35 s where one device with two threads takes 1.75 s (VGG11-bn, 500 images
    of 32 x 32).

    Args:
      parameter_bytes: size of the network's parameters, which are copied to each device.

    Returns:
      The mesh; None if it would contain only one device.
    """
    devices = jax.devices()
    if devices[0].platform == "cpu" and jax.process_count() == 1:
        fitting = max(1, _COPIES_BYTES // max(1, parameter_bytes))
        devices = devices[: min(cores(), fitting)]
    if len(devices) == 1:
        return None
    return mesh_over(devices, {DATA_AXIS: len(devices)})


def platform_of(mesh: Mesh | None) -> str:
    """The platform that a program is compiled for, which may differ from this machine's.

    Args:
      mesh: the program's mesh; None: this machine's default platform.

    Returns:
      "cpu", "gpu" or "tpu".
    """
    return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform


def over_seeds(mesh: Mesh) -> NamedSharding:
    """The sharding of an array whose first axis is the seeds."""
    return NamedSharding(mesh, PartitionSpec(SEED_AXIS))


def compiler_options(mesh: Mesh) -> dict[str, bool]:
    """XLA options for a program in which every device of `mesh` works on its own seeds.

    Several CPU devices share one thread pool, and a matrix product that is split over its threads
    waits for those of the other devices. One thread per device is faster, and results then do not
    depend on the machine's number of cores.
    """
    if mesh.size > 1 and platform_of(mesh) == "cpu":
        return {"xla_cpu_multi_thread_eigen": False}
    return {}


def with_barriers(platform: str) -> dict[str, str]:
    """XLA options that make `lax.optimization_barrier` effective when a CPU program is fused.

    By default, XLA removes the barriers before fusion, which then duplicates an operation into
    each of its consumers. This option halves the time of LeNet's training step. The CPU compiler of
    jaxlib 0.12 cannot compile barriers that are kept ("Unhandled opcode ... opt-barrier"), so that
    the option is not set there. Remove this function once XLA's CPU compiler keeps barriers.
    """
    if platform == "cpu" and jax.__version_info__ < (0, 12):
        return {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return {}
