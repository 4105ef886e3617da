"""Published speeds of accelerators, and how long collectives take by them."""

from typing import NamedTuple


class Machine(NamedTuple):
    """Some accelerators of one kind.

    Attributes:
      name: for a person.
      devices: number of chips or GPUs.
      peak: FLOP/s of a device, in the arithmetic of the convolutions.
      arithmetic: its name.
      host: devices that the fast links join.
      fast: bytes/s that a device can send over them.
      slow: bytes/s that a device can send to other hosts' devices; `fast` where there are none.
      source: who publishes these numbers.
      links: how `fast` and `slow` follow from them.
    """

    name: str
    devices: int
    peak: float
    arithmetic: str
    host: int
    fast: float
    slow: float
    source: str
    links: str


MACHINES = (
    Machine(
        "v5e-8",
        devices=8,
        peak=197e12,
        arithmetic="bfloat16 products, the TPU's default for float32 convolutions",
        host=8,
        fast=100e9,
        slow=100e9,
        source="https://cloud.google.com/tpu/docs/v5e",
        links="400 GB/s of a chip in both directions together over 4 ports, 50 GB/s a port and "
        "direction; 8 chips (2 x 4) are no torus, and a ring through them uses two ports",
    ),
    Machine(
        "v5p-128",
        devices=64,
        peak=459e12,
        arithmetic="bfloat16 products, the TPU's default for float32 convolutions",
        host=64,
        fast=600e9,
        slow=600e9,
        source="https://cloud.google.com/tpu/docs/v5p",
        links="1200 GB/s of a chip in both directions together; 128 counts TensorCores: 64 chips, "
        "a torus of 4 x 4 x 4, all of whose ports are used",
    ),
    Machine(
        "64 x H100 SXM",
        devices=64,
        peak=494.7e12,
        arithmetic="TF32 without sparsity, XLA's default for float32 convolutions on this GPU",
        host=8,
        fast=450e9,
        slow=50e9,
        source="https://resources.nvidia.com/en-us-tensor-core/gtc22-whitepaper-hopper",
        links="NVLink 900 GB/s of a GPU in both directions together, 8 GPUs a host; between hosts "
        "400 Gb/s of InfiniBand a GPU",
    ),
)


def all_reduce_seconds(machine: Machine, devices: int, size: float) -> float:
    """Time that the links of a machine need to sum `size` bytes over some of its devices.

    In rings, each device sends 2 (n - 1) / n of what is summed; over several hosts, every device
    of a host sums its share with those of the others in between.

    Args:
      machine: with its links.
      devices: that take part, whole hosts of them where they are more than one host's.
      size: bytes.
    """
    inside = min(devices, machine.host)
    hosts = devices // inside
    fast = 2 * (inside - 1) / inside * size / machine.fast
    return fast + 2 * (hosts - 1) / hosts * (size / inside) / machine.slow


def all_gather_seconds(machine: Machine, devices: int, size: float) -> float:
    """Time that the links need to give `size` bytes of each of some devices to all of them.

    In rings: first among devices of the same place in all hosts, then inside every host.

    Args:
      machine: with its links.
      devices: that take part, whole hosts of them where they are more than one host's.
      size: bytes that one device has.
    """
    inside = min(devices, machine.host)
    hosts = devices // inside
    return (hosts - 1) * size / machine.slow + (inside - 1) * hosts * size / machine.fast
