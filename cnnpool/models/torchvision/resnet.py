"""torchvision's ResNets, for images of 224 x 224."""

from flax import linen as nn
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnpool.models import fields, layers, resnet
from cnnpool.models.layers import Activations, Chain, Linear, Map

# Kind of block, and number of blocks in each stage.
NETWORKS = {f"torchvision_{name}": network for name, network in resnet.NETWORKS.items()}


class ResNet(nn.Module):
    """A 7 x 7 stem and a pool, both of stride 2, four stages of blocks, average pool, linear.

    Attributes:
      outputs: number of outputs of the last layer.
      features_only: whether it ends with the last block.
      block: BasicBlock or Bottleneck.
      blocks: number of blocks in each stage; all stages but the first begin with stride 2.
    """

    outputs: int
    features_only: bool
    block: type[nn.Module]
    blocks: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Float[Array, "batch ..."], Activations]:
        """Output, and the activations conv01 bn01 relu01 pool01 block01/conv1 ... linear."""
        net = Chain(x)
        stem = {"kernel_size": 7, "stride": 2, "padding": 3}
        resnet.conv_bn(net, "conv01", "bn01", resnet.CHANNELS[0], train, **stem)
        net.apply("relu01", nn.relu)
        net.apply("pool01", lambda y: layers.max_pool(y, size=3, stride=2, padding=1))
        resnet.add_stages(net, self.block, resnet.CHANNELS, self.blocks, train=train)
        if not self.features_only:
            net.apply("pool", layers.average_pool)
            net.layer("linear", Linear, self.outputs)
        return net.value, net.activations


def build(config: ConfigDict) -> ResNet:
    """The network that a config's `model` section describes.

    Raises:
      ValueError: if outputs is out of range, or features_only is missing.
    """
    outputs = fields.at_least_one(config, "outputs")
    return ResNet(outputs, fields.features_only(config), *NETWORKS[config.name])
