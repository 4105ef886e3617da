"""Peak performance and memory of TPUs, as published by Google."""

from typing import NamedTuple


class Chip(NamedTuple):
    """The performance and memory of one chip.

    Attributes:
      peak: FLOP/s of bfloat16 products, with which a TPU also computes float32 convolutions.
      memory: size of its main memory in bytes. The published GB are taken as GiB: for v5e (16 GB),
        the compiler can allocate 15.75 GiB.
      bandwidth: bytes/s between this memory and the chip.
      link: bytes/s that one port sends; a ring of chips uses two ports of each.
      source: the page that publishes these numbers.
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
