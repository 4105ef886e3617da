"""The variables of a Flax network, without the state of its training."""

from typing import NamedTuple

Params = dict


class Variables(NamedTuple):
    """The variables of a network.

    Attributes:
      params: parameters, trained by gradients.
      batch_stats: running means and variances of batch normalization; may be empty.
    """

    params: Params
    batch_stats: Params
