"""The devices that `--compile_for` names, of which none need be there."""

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
    """Devices cannot be compiled for on this machine, or there are none like these."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices to compile for.

    Attributes:
      name: as the user gave it.
      devices: without memory or cores behind them, if they are TPUs.
      chip: what one of them can do; None of CPU devices.
    """

    name: str
    devices: tuple[jax.Device, ...]
    chip: Chip | None

    @property
    def platform(self) -> str:
        """As JAX calls it."""
        return self.devices[0].platform


def has_tpu_compiler() -> bool:
    """Whether libtpu, which holds the TPU's compiler, is installed."""
    return importlib.util.find_spec("libtpu") is not None


def prepare(name: str) -> None:
    """Before the first JAX computation: computes on CPUs alone, as many devices as are asked for.

    Raises:
      ValueError: if the name is of no kind that is known.
    """
    jax.config.update("jax_platforms", "cpu")
    if name.isdecimal():
        if int(name) < 1:
            raise ValueError(f"--compile_for={name}: {EXPECTED}")
        jax.config.update("jax_num_cpu_devices", int(name))
        return
    _parsed(name)
    # A program for devices that are not there can be kept on the disk, but not read again.
    jax.config.update("jax_enable_compilation_cache", False)


def target(name: str) -> Target:
    """The devices of a name that `prepare` was given.

    Raises:
      ValueError: if the name is of no kind that is known.
      TopologyError: if libtpu is not installed, or knows no such TPU.
    """
    if name.isdecimal():
        return Target(name, _first(jax.devices("cpu"), int(name)), None)
    kind, shape, slices = _parsed(name)
    if not has_tpu_compiler():
        raise TopologyError(
            f"--compile_for={name} needs the TPU's compiler, which libtpu holds: pip install "
            "'cnnpool[tpu_compile]'. No TPU is needed"
        )
    return Target(name, _tpu_devices(kind, shape, slices), CHIPS[kind])


def _first(devices: Sequence[jax.Device], count: int) -> tuple[jax.Device, ...]:
    if len(devices) < count:
        raise ValueError(f"{count} CPU devices are asked for; JAX was started with {len(devices)}")
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

    # libtpu would wait for the server that tells a machine in Google's cloud which TPU it has, and
    # allows one process at a time, as if it drove one.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    options: dict[str, Any] = {}
    if kind == "v4":
        options["chip_config_name"] = "megacore"  # its two cores as one device, as JAX drives it
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
            f"--compile_for={kind}:{shape}: libtpu knows no such TPU: {str(error).splitlines()[0]}"
        ) from error
    return tuple(found.devices)
