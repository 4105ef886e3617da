"""EfficientNet B0 for 32 x 32 images (docs/protocol.md, "Networks")."""

from typing import NamedTuple

from flax import linen as nn
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnpool.models import fields, layers
from cnnpool.models.layers import (
    Activations,
    BatchNorm,
    Chain,
    Conv,
    DropConnect,
    Dropout,
    Linear,
    Map,
)

_STEM = 32


class Stage(NamedTuple):
    """A stage: consecutive blocks of one kind.

    Attributes:
      expansion: factor on the channels in front of the depthwise convolution.
      features: number of output channels.
      blocks: number of blocks; those after the first have stride 1.
      kernel_size: of the depthwise convolution, in pixels.
      stride: stride of the first block, in pixels.
    """

    expansion: int
    features: int
    blocks: int
    kernel_size: int
    stride: int


STAGES = (
    Stage(1, 16, 1, 3, 1),
    Stage(6, 24, 2, 3, 2),
    Stage(6, 40, 2, 5, 2),
    Stage(6, 80, 3, 3, 2),
    Stage(6, 112, 3, 5, 1),
    Stage(6, 192, 4, 5, 2),
    Stage(6, 320, 1, 3, 1),
)


class MBConv(nn.Module):
    """Expansion, depthwise convolution, squeeze-excite, projection; a skip if shapes allow.

    Attributes:
      stage: sizes of the block.
      stride: stride in pixels.
      drop_connect: probability that an image skips the residual branch.
      train: whether batch statistics are used and branches dropped.
    """

    stage: Stage
    stride: int
    drop_connect: float
    train: bool

    @nn.compact
    def __call__(self, x: Map) -> tuple[Float[Array, "batch h w features"], Activations]:
        """Output, and the activations [expand_conv ...] depthwise_conv ... [add]."""
        net, inputs = Chain(x), x.shape[-1]
        hidden = self.stage.expansion * inputs
        if self.stage.expansion > 1:
            self._conv_bn(net, "expand", hidden, kernel_size=1)
            net.apply("expand_swish", nn.swish)
        size = self.stage.kernel_size
        sizes = {"kernel_size": size, "stride": self.stride, "padding": size // 2}
        self._conv_bn(net, "depthwise", hidden, groups=hidden, **sizes)
        net.apply("depthwise_swish", nn.swish)
        _squeeze_excite(net, inputs // 4)
        self._conv_bn(net, "project", self.stage.features, kernel_size=1)
        if self.stride == 1 and self.stage.features == inputs:
            net.layer("drop_connect", DropConnect, self.drop_connect, self.train)
            net.apply("add", lambda y: y + x)
        return net.value, net.activations

    def _conv_bn(self, net: Chain, name: str, features: int, **fields: int) -> None:
        net.layer(f"{name}_conv", Conv, features, use_bias=False, **fields)
        net.layer(f"{name}_bn", BatchNorm, self.train)


def _squeeze_excite(net: Chain, squeezed: int) -> None:
    """Multiplies every channel by a gate in (0, 1) computed from the means of all channels."""
    gate, channels = net.branch(net.value), net.value.shape[-1]
    gate.apply("squeeze_pool", lambda y: y.mean((1, 2), keepdims=True))
    gate.layer("squeeze_conv", Conv, squeezed, kernel_size=1)
    gate.apply("squeeze_swish", nn.swish)
    gate.layer("excite_conv", Conv, channels, kernel_size=1)
    gate.apply("excite_sigmoid", nn.sigmoid)
    net.apply("scale", lambda y: y * gate.value)


def add_stem_and_blocks(net: Chain, *, stride: int, drop_connect: float, train: bool) -> None:
    """Adds a 3 x 3 convolution and the sixteen blocks of B0.

    Args:
      net: the chain to add to, inside a module.
      stride: stride of the stem, in pixels.
      drop_connect: rate that the blocks approach; block n of 16, counted from 1, has
        (n - 1) / 16 of it.
      train: whether batch statistics are used and branches dropped.
    """
    net.layer("conv01", Conv, _STEM, kernel_size=3, stride=stride, padding=1, use_bias=False)
    net.layer("bn01", BatchNorm, train)
    net.apply("swish01", nn.swish)
    before, total = 0, sum(stage.blocks for stage in STAGES)
    for stage in STAGES:
        for place in range(stage.blocks):
            step = stage.stride if place == 0 else 1
            rate = drop_connect * before / total
            net.block(f"block{before + 1:02d}", MBConv, stage, step, rate, train)
            before += 1


class EfficientNet(nn.Module):
    """A 3 x 3 stem of stride 1, sixteen MBConv blocks, average pool, dropout, linear.

    Attributes:
      outputs: number of outputs of the last layer.
      dropout: dropout rate in front of the linear layer.
      drop_connect: rate that the blocks approach; block n of 16, counted from 1, has
        (n - 1) / 16 of it, as in the network's first publication.
    """

    outputs: int
    dropout: float
    drop_connect: float

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Float[Array, "batch outputs"], Activations]:
        """Output, and the activations conv01 bn01 swish01 block01/... pool dropout linear."""
        net = Chain(x)
        add_stem_and_blocks(net, stride=1, drop_connect=self.drop_connect, train=train)
        net.apply("pool", layers.average_pool)
        net.layer("dropout", Dropout, self.dropout, train)
        net.layer("linear", Linear, self.outputs)
        return net.value, net.activations


def build(config: ConfigDict) -> EfficientNet:
    """The network that a config's `model` section describes.

    Raises:
      ValueError: if outputs or a rate is out of range, or width_factor is not 1.
    """
    fields.check_width_factor(config)
    return EfficientNet(
        outputs=fields.at_least_one(config, "outputs"),
        dropout=fields.rate(config, "efficientnet_dropout"),
        drop_connect=fields.rate(config, "efficientnet_drop_connect"),
    )
