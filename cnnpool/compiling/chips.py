"""What TPUs can do at most, as their maker publishes it."""

from typing import NamedTuple


class Chip(NamedTuple):
    """One chip.

    Attributes:
      peak: FLOP/s of bfloat16 products, which a TPU takes for float32 convolutions too.
      memory: bytes of its main memory.
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

CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1200e9, 50e9, f"{_PAGES}/v4"),
    "v5e": Chip(197e12, 16e9, 819e9, 50e9, f"{_PAGES}/v5e"),
    "v5p": Chip(459e12, 95e9, 2765e9, 100e9, f"{_PAGES}/v5p"),
    "v6e": Chip(918e12, 32e9, 1638e9, 100e9, f"{_PAGES}/v6e"),
}
