"""A lower bound on the time of a program by what its devices can do at most."""

from typing import NamedTuple

from cnnpool.compiling.chips import Chip
from cnnpool.compiling.hlo_cost import Collective, Cost


class Bound(NamedTuple):
    """Seconds that a device needs at least for each of three things, which may overlap.

    Attributes:
      products: convolutions and matrix products, at the peak of their precision.
      memory: what is read and written.
      links: what goes between devices; that one collective waits for another is not counted.
    """

    products: float
    memory: float
    links: float

    @property
    def seconds(self) -> float:
        """No program is faster."""
        return max(self)

    @property
    def binds(self) -> str:
        """What takes the longest."""
        return self._fields[self.index(max(self))]


def bound(cost: Cost, chip: Chip) -> Bound:
    """The least time that one chip takes for its work."""
    return Bound(
        cost.passes / chip.peak,
        cost.moved / chip.bandwidth,
        sum(one.count * link_bytes(one) for one in cost.collectives) / (2 * chip.link),
    )


def link_bytes(one: Collective) -> float:
    """Bytes that a device sends for one collective operation, in a ring of all that take part.

    Of n devices an all-reduce sends every byte 2 (n - 1) / n times; an all-gather sends what it
    has to n - 1 others; what a permutation or an exchange sends is at most what it has.
    """
    n = one.devices
    factors = {"all-reduce": 2 * (n - 1) / n, "all-gather": n - 1, "reduce-scatter": (n - 1) / n}
    return one.size * factors.get(one.kind, float(n > 1))
