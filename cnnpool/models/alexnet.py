"""AlexNet for 32 x 32 images (docs/protocol.md, "Networks")."""

from flax import linen as nn
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnpool.models import fields, layers
from cnnpool.models.layers import Activations, Chain, Conv, Dropout, Linear, Map

# Channels, and whether a pooling layer follows.
_CONVOLUTIONS = ((64, True), (192, True), (384, False), (256, False), (256, True))
_HIDDEN = 4096


class AlexNet(nn.Module):
    """Five 3 x 3 convolutions, the first of stride 2, and three linear layers.

    Images of one channel are padded by 2 on every side.

    Attributes:
      outputs: number of outputs of the last layer.
      width_factor: multiplies the channels of all convolutions and the 4096 hidden units.
      dropout: dropout rate in front of the first two linear layers.
    """

    outputs: int
    width_factor: float
    dropout: float

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Float[Array, "batch outputs"], Activations]:
        """Output, and the activations conv01 relu01 pool01 ... linear08.

        The activation dropout05 is flat: it follows the flattening, as in torchvision.

        Raises:
          ValueError: if the last map would not be 2 x 2.
        """
        x = layers.pad_single_channel(x)
        layers.check_size("alexnet (padding included)", x, smallest=32, largest=46)
        net = Chain(x)
        for k, (channels, pooled) in enumerate(_CONVOLUTIONS, start=1):
            features, stride = fields.scaled(channels, self.width_factor), 2 if k == 1 else 1
            net.layer(f"conv{k:02d}", Conv, features, kernel_size=3, stride=stride, padding=1)
            net.apply(f"relu{k:02d}", nn.relu)
            if pooled:
                net.apply(f"pool{k:02d}", layers.max_pool_2x2)
        net.value = layers.flatten(net.value)
        for k in (6, 7):
            net.layer(f"dropout{k - 1:02d}", Dropout, self.dropout, train)
            net.layer(f"linear{k:02d}", Linear, fields.scaled(_HIDDEN, self.width_factor))
            net.apply(f"relu{k:02d}", nn.relu)
        net.layer("linear08", Linear, self.outputs)
        return net.value, net.activations


def build(config: ConfigDict) -> AlexNet:
    """The network that a config's `model` section describes.

    Raises:
      ValueError: if outputs, width_factor or alexnet_dropout is out of range.
    """
    return AlexNet(
        outputs=fields.at_least_one(config, "outputs"),
        width_factor=fields.width_factor(config),
        dropout=fields.rate(config, "alexnet_dropout"),
    )
