"""A lower bound on a program's time from the peak performance of its devices (roofline model)."""

from typing import NamedTuple

from cnnpool.compiling.chips import Chip
from cnnpool.compiling.hlo_cost import Cost
from cnnpool.compiling.hlo_instructions import Collective


class Bound(NamedTuple):
    """Lower bounds, in seconds, on three kinds of a device's work, which may overlap.

    Attributes:
      products: convolutions and matrix products, at the peak for their precision.
      memory: reading and writing the main memory.
      links: sending data to other devices, without waiting times between collectives.
    """

    products: float
    memory: float
    links: float

    @property
    def seconds(self) -> float:
        """The lower bound on the program's time: the largest of the three."""
        return max(self)

    @property
    def binds(self) -> str:
        """The name of the largest of the three."""
        return self._fields[self.index(max(self))]


def bound(cost: Cost, chip: Chip) -> Bound:
    """The lower bounds on the time that one chip takes for its work."""
    return Bound(
        cost.passes / chip.peak,
        cost.moved / chip.bandwidth,
        sum(one.count * link_bytes(one) for one in cost.collectives) / (2 * chip.link),
    )


def link_bytes(one: Collective) -> float:
    """The bytes that a device sends in one collective operation over a ring of n devices.

    These are its own bytes times 2 (n - 1) / n for an all-reduce, n - 1 for an all-gather,
    (n - 1) / n for a reduce-scatter, and at most 1 for a permutation or an all-to-all.
    """
    n = one.devices
    factors = {"all-reduce": 2 * (n - 1) / n, "all-gather": n - 1, "reduce-scatter": (n - 1) / n}
    return one.size * factors.get(one.kind, float(n > 1))
