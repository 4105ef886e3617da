"""What a network of Flax computes with, apart from what trains it."""

from typing import NamedTuple

Params = dict


class Variables(NamedTuple):
    """What a network computes with.

    Attributes:
      params: trained by gradients.
      batch_stats: running means and variances of batch normalization; may be empty.
    """

    params: Params
    batch_stats: Params
