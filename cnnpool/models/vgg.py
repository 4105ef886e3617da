"""VGG for 32 x 32 images, with and without batch normalization (docs/protocol.md, "Networks")."""

from collections.abc import Sequence

from flax import linen as nn
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnpool.models import fields, layers
from cnnpool.models.layers import Activations, BatchNorm, Chain, Conv, Linear, Map

CHANNELS = (64, 128, 256, 512, 512)
# Number of convolutions in each stage, and whether batch normalization follows.
NETWORKS = {
    "vgg11": ((1, 1, 2, 2, 2), False),
    "vgg13": ((2, 2, 2, 2, 2), False),
    "vgg16": ((2, 2, 3, 3, 3), False),
    "vgg19": ((2, 2, 4, 4, 4), False),
    "vgg11_bn": ((1, 1, 2, 2, 2), True),
    "vgg13_bn": ((2, 2, 2, 2, 2), True),
    "vgg16_bn": ((2, 2, 3, 3, 3), True),
    "vgg19_bn": ((2, 2, 4, 4, 4), True),
}


def add_stages(
    net: Chain,
    channels: Sequence[int],
    convolutions: Sequence[int],
    *,
    batch_norm: bool,
    train: bool,
) -> int:
    """Adds conv01 [bn01] relu01 ... and a 2 x 2 pool after each stage.

    Args:
      net: the chain to add to, inside a module.
      channels: channels of each stage.
      convolutions: number of convolutions in each stage.
      batch_norm: whether every convolution is followed by batch normalization.
      train: whether batch statistics are used.

    Returns:
      The number of convolutions.
    """
    k = 0
    for features, count in zip(channels, convolutions, strict=True):
        for _ in range(count):
            k += 1
            net.layer(f"conv{k:02d}", Conv, features, kernel_size=3, padding=1)
            if batch_norm:
                net.layer(f"bn{k:02d}", BatchNorm, train)
            net.apply(f"relu{k:02d}", nn.relu)
        net.apply(f"pool{k:02d}", layers.max_pool_2x2)
    return k


class VGG(nn.Module):
    """Five stages of 3 x 3 convolutions, each followed by a pool, and one linear layer.

    Images of one channel are padded by 2 on every side.

    Attributes:
      outputs: number of outputs of the last layer.
      width_factor: multiplies the channels of all convolutions.
      convolutions: number of convolutions in each stage.
      batch_norm: whether every convolution is followed by batch normalization.
    """

    outputs: int
    width_factor: float
    convolutions: tuple[int, ...]
    batch_norm: bool

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Float[Array, "batch outputs"], Activations]:
        """Output, and the activations conv01 [bn01] relu01 [pool01] ... linearK.

        Raises:
          ValueError: if the last map would not be 1 x 1.
        """
        x = layers.pad_single_channel(x)
        layers.check_size("vgg (padding included)", x, smallest=32, largest=63)
        net = Chain(x)
        channels = [fields.scaled(count, self.width_factor) for count in CHANNELS]
        k = add_stages(net, channels, self.convolutions, batch_norm=self.batch_norm, train=train)
        net.value = layers.flatten(net.value)
        net.layer(f"linear{k + 1:02d}", Linear, self.outputs)
        return net.value, net.activations


def build(config: ConfigDict) -> VGG:
    """The network that a config's `model` section describes.

    Raises:
      ValueError: if outputs or width_factor is out of range.
    """
    convolutions, batch_norm = NETWORKS[config.name]
    return VGG(
        outputs=fields.at_least_one(config, "outputs"),
        width_factor=fields.width_factor(config),
        convolutions=convolutions,
        batch_norm=batch_norm,
    )
