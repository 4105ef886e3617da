"""torchvision's AlexNet, for images of 224 x 224."""

from flax import linen as nn
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnpool.models import fields, layers
from cnnpool.models.layers import Activations, Chain, Conv, Map
from cnnpool.models.torchvision.classifier import add_classifier

# Channels, kernel size, stride and padding, and whether a pooling layer follows.
CONVOLUTIONS = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
NETWORKS = ("torchvision_alexnet",)


class AlexNet(nn.Module):
    """Five convolutions, three of them followed by a 3 x 3 pool, and three linear layers.

    Attributes:
      outputs: number of outputs of the last layer.
      features_only: whether it ends with the last pool.
    """

    outputs: int
    features_only: bool

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Float[Array, "batch ..."], Activations]:
        """Output, and the activations conv01 relu01 pool01 ... linear08.

        Raises:
          ValueError: if the images are smaller than 63 x 63.
        """
        layers.check_size("torchvision_alexnet", x, smallest=63, largest=None)
        net = Chain(x)
        for k, (features, size, stride, padding, pooled) in enumerate(CONVOLUTIONS, start=1):
            sizes = {"kernel_size": size, "stride": stride, "padding": padding}
            net.layer(f"conv{k:02d}", Conv, features, **sizes)
            net.apply(f"relu{k:02d}", nn.relu)
            if pooled:
                net.apply(f"pool{k:02d}", lambda y: layers.max_pool(y, size=3, stride=2))
        if not self.features_only:
            net.apply("adaptive_pool", lambda y: layers.adaptive_average_pool(y, 6))
            net.value = layers.flatten(net.value)
            add_classifier(net, 5, self.outputs, dropout_first=True, train=train)
        return net.value, net.activations


def build(config: ConfigDict) -> AlexNet:
    """The network that a config's `model` section describes.

    Raises:
      ValueError: if outputs is out of range, or features_only is missing.
    """
    return AlexNet(fields.at_least_one(config, "outputs"), fields.features_only(config))
