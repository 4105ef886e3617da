"""The three linear layers that torchvision's AlexNet and VGG end with."""

from flax import linen as nn

from cnnpool.models.layers import Chain, Dropout, Linear

HIDDEN = 4096
_DROPOUT = 0.5


def add_classifier(
    net: Chain, convolutions: int, outputs: int, *, dropout_first: bool, train: bool
) -> None:
    """Adds linearK reluK ... to a flat value, and dropout before or after the hidden layers.

    Args:
      net: to add to, inside a module.
      convolutions: number of preceding convolutions, which the layers' numbers continue.
      outputs: number of outputs of the last layer.
      dropout_first: whether dropout is before both hidden layers, as in AlexNet, or after.
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
