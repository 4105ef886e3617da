"""The three linear layers that torchvision's AlexNet and VGG end with."""

from flax import linen as nn

from cnnpool.models.layers import Chain, Dropout, Linear

HIDDEN = 4096
_DROPOUT = 0.5


def add_classifier(
    net: Chain, convolutions: int, outputs: int, *, dropout_first: bool, train: bool
) -> None:
    """Adds linearK reluK ... to a flat value, and dropout in front of or behind the hidden layers.

    Args:
      net: to add to, inside a module.
      convolutions: in front, whose numbers the names continue.
      outputs: of the last layer.
      dropout_first: as in AlexNet: in front of both hidden layers, else behind.
      train: whether entries are dropped.
    """
    for k in (convolutions + 1, convolutions + 2):
        if dropout_first:
            net.layer(f"dropout{k - 1:02d}", Dropout, _DROPOUT, train)
        net.layer(f"linear{k:02d}", Linear, HIDDEN)
        net.apply(f"relu{k:02d}", nn.relu)
        if not dropout_first:
            net.layer(f"dropout{k:02d}", Dropout, _DROPOUT, train)
    net.layer(f"linear{convolutions + 3:02d}", Linear, outputs)
