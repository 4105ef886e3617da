"""One network of a run, as it is measured."""

from typing import NamedTuple

from cnnpool.training.variables import Variables


class NetworkAtStage(NamedTuple):
    """One network of a run at one stage of its training.

    Attributes:
      seed: the network's seed.
      stage: name of its stage.
      untrained: whether no step was made, so that its running statistics are meaningless.
      variables: the network's variables.
    """

    seed: int
    stage: str
    untrained: bool
    variables: Variables
