"""The devices named by `--compile_for`, which need not be present."""

from collections.abc import Sequence
import dataclasses
import importlib.util
import os
import re
from typing import Any

import jax

from cnnpool.compiling.chips import CHIPS, Chip
from cnnpool.errors import CnnpoolError, check_known

_TPU = re.compile(r"(?P<chip>\w+):(?P<shape>\d+(?:x\d+)*)(?:,slices=(?P<slices>\d+))?")
EXPECTED = (
    "expected a TPU and its shape, such as v5e:2x4, v5p:2x2x1 or, of two slices, "
    "v5e:2x4,slices=2, or a number of CPU devices"
)


class TopologyError(CnnpoolError):
    """This machine cannot compile for the devices, or there are no such devices."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices for which programs are compiled.

    Attributes:
      name: the name that the user gave.
      devices: the devices; for TPUs, descriptions of devices that cannot run programs.
      chip: the performance and memory of one device; None for CPU devices.
    """

    name: str
    devices: tuple[jax.Device, ...]
    chip: Chip | None

    @property
    def platform(self) -> str:
        """JAX's name of the platform."""
        return self.devices[0].platform


def has_tpu_compiler() -> bool:
    """Whether libtpu, which contains the TPU compiler, is installed."""
    return importlib.util.find_spec("libtpu") is not None


def prepare(name: str) -> None:
    """Sets up JAX to compile for the named devices. Call it before the first JAX computation.

    JAX then computes on CPUs only, with as many CPU devices as requested.

    Args:
      name: a TPU and its shape, such as "v5e:2x4", or a number of CPU devices.

    Raises:
      ValueError: if the name has another form or the TPU is unknown.
    """
    jax.config.update("jax_platforms", "cpu")
    if name.isdecimal():
        if int(name) < 1:
            raise ValueError(f"--compile_for={name}: {EXPECTED}")
        jax.config.update("jax_num_cpu_devices", int(name))
        return
    _parsed(name)
    # A cached program for devices that are not present could not be loaded again.
    jax.config.update("jax_enable_compilation_cache", False)


def target(name: str) -> Target:
    """The devices of a name, after `prepare(name)`.

    Raises:
      ValueError: if the name has another form or the TPU is unknown.
      TopologyError: if libtpu is not installed, or does not know a TPU of this shape.
    """
    if name.isdecimal():
        return Target(name, _first(jax.devices("cpu"), int(name)), None)
    kind, shape, slices = _parsed(name)
    if not has_tpu_compiler():
        raise TopologyError(
            f"--compile_for={name} needs the TPU compiler in libtpu, but no TPU: pip install "
            "'cnnpool[tpu-compile]'"
        )
    return Target(name, _tpu_devices(kind, shape, slices), CHIPS[kind])


def _first(devices: Sequence[jax.Device], count: int) -> tuple[jax.Device, ...]:
    if len(devices) < count:
        raise ValueError(
            f"expected at most {len(devices)} CPU devices, with which JAX was started; got {count}"
        )
    return tuple(devices[:count])


def _parsed(name: str) -> tuple[str, str, int]:
    """Chip, shape of a slice, and how many slices."""
    found = _TPU.fullmatch(name)
    if not found or found["slices"] == "0":
        raise ValueError(f"--compile_for={name}: {EXPECTED}")
    check_known(found["chip"], CHIPS, "the TPU of --compile_for")
    return found["chip"], found["shape"], int(found["slices"] or 1)


def _tpu_devices(kind: str, shape: str, slices: int) -> tuple[jax.Device, ...]:
    from jax.experimental import topologies

    # By default, libtpu queries the metadata server of Google's cloud for the machine's TPU, which
    # blocks elsewhere, and allows only one process at a time, as for a real TPU.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    options: dict[str, Any] = {}
    if kind == "v4":
        options["chip_config_name"] = "megacore"  # two cores per device, as JAX uses a real v4
    lengths = [int(length) for length in shape.split("x")]
    if lengths in ([1], [1, 1]):
        options["chips_per_host_bounds"] = (1, 1, 1)
    if slices > 1:
        options["num_slices"] = slices
    try:
        found = topologies.get_topology_desc(
            platform="tpu", topology_name=f"{kind}:{shape}", **options
        )
    except jax.errors.JaxRuntimeError as error:
        raise TopologyError(
            f"--compile_for={kind}:{shape}: libtpu has no such TPU: {str(error).splitlines()[0]}"
        ) from error
    return tuple(found.devices)
