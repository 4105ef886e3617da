"""ResNets for 32 x 32 images (docs/protocol.md, "Networks")."""

from collections.abc import Sequence

from flax import linen as nn
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnpool.models import fields, layers
from cnnpool.models.layers import Activations, BatchNorm, Chain, Conv, Linear, Map

CHANNELS = (64, 128, 256, 512)


def conv_bn(net: Chain, conv: str, bn: str, features: int, train: bool, **fields: int) -> None:
    """Adds a convolution without bias and a batch normalization."""
    net.layer(conv, Conv, features, use_bias=False, **fields)
    net.layer(bn, BatchNorm, train)


def _add_shortcut(net: Chain, x: Map, stride: int, train: bool) -> None:
    """Adds x, through a 1 x 1 convolution and batch norm if the block changes its shape."""
    shortcut, features = net.branch(x), net.value.shape[-1]
    if stride != 1 or x.shape[-1] != features:
        names = "shortcut_conv", "shortcut_bn"
        conv_bn(shortcut, *names, features, train, kernel_size=1, stride=stride)
    net.apply("add", lambda y: y + shortcut.value)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, the first with the stride, and a shortcut.

    Attributes:
      features: number of output channels.
      stride: stride in pixels.
      train: whether batch statistics are used.
    """

    features: int
    stride: int
    train: bool

    @nn.compact
    def __call__(self, x: Map) -> tuple[Float[Array, "batch h w features"], Activations]:
        """Output, and the activations conv1 bn1 relu1 ... relu2."""
        net, spatial = Chain(x), {"kernel_size": 3, "padding": 1}
        conv_bn(net, "conv1", "bn1", self.features, self.train, stride=self.stride, **spatial)
        net.apply("relu1", nn.relu)
        conv_bn(net, "conv2", "bn2", self.features, self.train, **spatial)
        _add_shortcut(net, x, self.stride, self.train)
        net.apply("relu2", nn.relu)
        return net.value, net.activations


class Bottleneck(nn.Module):
    """Convolutions 1 x 1, 3 x 3 with the stride, 1 x 1 to four times the width; a shortcut.

    Attributes:
      features: channels of the first two convolutions.
      stride: stride in pixels.
      train: whether batch statistics are used.
    """

    features: int
    stride: int
    train: bool

    @nn.compact
    def __call__(self, x: Map) -> tuple[Float[Array, "batch h w outputs"], Activations]:
        """Output, and the activations conv1 bn1 relu1 ... relu3."""
        net, spatial = Chain(x), {"kernel_size": 3, "padding": 1}
        conv_bn(net, "conv1", "bn1", self.features, self.train, kernel_size=1)
        net.apply("relu1", nn.relu)
        conv_bn(net, "conv2", "bn2", self.features, self.train, stride=self.stride, **spatial)
        net.apply("relu2", nn.relu)
        conv_bn(net, "conv3", "bn3", 4 * self.features, self.train, kernel_size=1)
        _add_shortcut(net, x, self.stride, self.train)
        net.apply("relu3", nn.relu)
        return net.value, net.activations


# Kind of block, and number of blocks in each stage.
NETWORKS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


def add_stages(
    net: Chain,
    block: type[nn.Module],
    channels: Sequence[int],
    blocks: Sequence[int],
    *,
    train: bool,
) -> None:
    """Adds block01, block02, ...; all stages but the first begin with stride 2.

    Args:
      net: the chain to add to, inside a module.
      block: BasicBlock or Bottleneck.
      channels: channels of each stage.
      blocks: number of blocks in each stage.
      train: whether batch statistics are used.
    """
    number = 0
    for stage, (features, count) in enumerate(zip(channels, blocks, strict=True)):
        for place in range(count):
            number += 1
            stride = 2 if stage > 0 and place == 0 else 1
            net.block(f"block{number:02d}", block, features, stride, train)


class ResNet(nn.Module):
    """A 3 x 3 stem of stride 1, four stages of residual blocks, average pool, linear.

    Attributes:
      outputs: number of outputs of the last layer.
      width_factor: multiplies all channels.
      block: BasicBlock or Bottleneck.
      blocks: number of blocks in each stage; all stages but the first begin with stride 2.
    """

    outputs: int
    width_factor: float
    block: type[nn.Module]
    blocks: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Float[Array, "batch outputs"], Activations]:
        """Output, and the activations conv01 bn01 relu01 block01/conv1 ... pool linear.

        Raises:
          ValueError: if the last map would not be 4 x 4.
        """
        layers.check_size("resnet", x, smallest=25, largest=32)
        net = Chain(x)
        channels = [fields.scaled(count, self.width_factor) for count in CHANNELS]
        conv_bn(net, "conv01", "bn01", channels[0], train, kernel_size=3, padding=1)
        net.apply("relu01", nn.relu)
        add_stages(net, self.block, channels, self.blocks, train=train)
        net.apply("pool", layers.average_pool)
        net.layer("linear", Linear, self.outputs)
        return net.value, net.activations


def build(config: ConfigDict) -> ResNet:
    """The network that a config's `model` section describes.

    Raises:
      ValueError: if outputs or width_factor is out of range.
    """
    block, blocks = NETWORKS[config.name]
    return ResNet(
        outputs=fields.at_least_one(config, "outputs"),
        width_factor=fields.width_factor(config),
        block=block,
        blocks=blocks,
    )
