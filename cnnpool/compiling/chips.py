"""What TPUs can do at most, as their maker publishes it."""

from typing import NamedTuple


class Chip(NamedTuple):
    """One chip.

    Attributes:
      peak: FLOP/s of bfloat16 products, which a TPU takes for float32 convolutions too.
      memory: bytes of its main memory, published in GB and counted in GiB: the compiler has 15.75
        of v5e's 16 GiB to give.
      bandwidth: bytes/s between this memory and the chip.
      link: bytes/s that one port sends; a ring over some chips uses two.
      source: who publishes these numbers.
    """

    peak: float
    memory: float
    bandwidth: float
    link: float
    source: str


_PAGES = "https://cloud.google.com/tpu/docs"
_GIB = 2.0**30

CHIPS = {
    "v4": Chip(275e12, 32 * _GIB, 1200e9, 50e9, f"{_PAGES}/v4"),
    "v5e": Chip(197e12, 16 * _GIB, 819e9, 50e9, f"{_PAGES}/v5e"),
    "v5p": Chip(459e12, 95 * _GIB, 2765e9, 100e9, f"{_PAGES}/v5p"),
    "v6e": Chip(918e12, 32 * _GIB, 1638e9, 100e9, f"{_PAGES}/v6e"),
}
