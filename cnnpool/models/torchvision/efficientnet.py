"""torchvision's EfficientNet B0, for images of 224 x 224."""

from flax import linen as nn
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnpool.models import fields, layers
from cnnpool.models.efficientnet import add_stem_and_blocks
from cnnpool.models.layers import Activations, BatchNorm, Chain, Conv, Dropout, Linear, Map

HEAD = 1280
_DROPOUT = 0.2
_STOCHASTIC_DEPTH = 0.2
NETWORKS = ("torchvision_efficientnet_b0",)


class EfficientNet(nn.Module):
    """A 3 x 3 stem of stride 2, sixteen MBConv blocks, a 1 x 1 head, average pool, linear.

    Attributes:
      outputs: number of outputs of the last layer.
      features_only: whether it ends with the head, in front of the average pool.
    """

    outputs: int
    features_only: bool

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Float[Array, "batch ..."], Activations]:
        """Output, and the activations conv01 bn01 swish01 block01/... head_conv ... linear."""
        net = Chain(x)
        add_stem_and_blocks(net, stride=2, drop_connect=_STOCHASTIC_DEPTH, train=train)
        net.layer("head_conv", Conv, HEAD, kernel_size=1, use_bias=False)
        net.layer("head_bn", BatchNorm, train)
        net.apply("head_swish", nn.swish)
        if not self.features_only:
            net.apply("pool", layers.average_pool)
            net.layer("dropout", Dropout, _DROPOUT, train)
            net.layer("linear", Linear, self.outputs)
        return net.value, net.activations


def build(config: ConfigDict) -> EfficientNet:
    """The network that a config's `model` section describes.

    Raises:
      ValueError: if outputs is out of range, or features_only is missing.
    """
    return EfficientNet(fields.at_least_one(config, "outputs"), fields.features_only(config))
