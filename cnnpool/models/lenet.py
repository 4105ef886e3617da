"""LeNet for small images (docs/protocol.md, "Networks")."""

from flax import linen as nn
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnpool.models import fields, layers
from cnnpool.models.layers import Activations, Chain, Conv, Linear, Map


class LeNet(nn.Module):
    """Two 5 x 5 convolutions without padding and three linear layers.

    Attributes:
      outputs: number of outputs of the last layer.
    """

    outputs: int

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Float[Array, "batch outputs"], Activations]:
        """Output, and the activations conv01 relu01 pool01 ... linear05.

        Raises:
          ValueError: if the images are too small for the layers.
        """
        del train
        layers.check_size("lenet", x, smallest=16, largest=None)
        net = Chain(x)
        for k, features in enumerate((6, 16), start=1):
            net.layer(f"conv{k:02d}", Conv, features, kernel_size=5)
            net.apply(f"relu{k:02d}", nn.relu)
            net.apply(f"pool{k:02d}", layers.max_pool_2x2)
        net.value = layers.flatten(net.value)
        for k, features in enumerate((120, 84), start=3):
            net.layer(f"linear{k:02d}", Linear, features)
            net.apply(f"relu{k:02d}", nn.relu)
        net.layer("linear05", Linear, self.outputs)
        return net.value, net.activations


def build(config: ConfigDict) -> LeNet:
    """The network that a config's `model` section describes.

    Raises:
      ValueError: if outputs is below 1 or width_factor is not 1.
    """
    fields.check_width_factor(config)
    return LeNet(fields.at_least_one(config, "outputs"))
