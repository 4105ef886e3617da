"""torchvision's VGG, for images of 224 x 224."""

from flax import linen as nn
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnpool.models import fields, layers, vgg
from cnnpool.models.layers import Activations, Chain, Map
from cnnpool.models.torchvision.classifier import add_classifier

# Number of convolutions in each stage, and whether batch normalization follows.
NETWORKS = {f"torchvision_{name}": network for name, network in vgg.NETWORKS.items()}


class VGG(nn.Module):
    """Five stages of 3 x 3 convolutions, each followed by a pool, and three linear layers.

    Attributes:
      outputs: number of outputs of the last layer.
      features_only: whether it ends with the last pool.
      convolutions: number of convolutions in each stage.
      batch_norm: whether every convolution is followed by batch normalization.
    """

    outputs: int
    features_only: bool
    convolutions: tuple[int, ...]
    batch_norm: bool

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Float[Array, "batch ..."], Activations]:
        """Output, and the activations conv01 [bn01] relu01 [pool01] ... linearK.

        Raises:
          ValueError: if the images are smaller than 32 x 32.
        """
        layers.check_size("torchvision_vgg", x, smallest=32, largest=None)
        net = Chain(x)
        sizes = {"batch_norm": self.batch_norm, "train": train}
        k = vgg.add_stages(net, vgg.CHANNELS, self.convolutions, **sizes)
        if not self.features_only:
            net.apply("adaptive_pool", lambda y: layers.adaptive_average_pool(y, 7))
            net.value = layers.flatten(net.value)
            add_classifier(net, k, self.outputs, dropout_first=False, train=train)
        return net.value, net.activations


def build(config: ConfigDict) -> VGG:
    """The network that a config's `model` section describes.

    Raises:
      ValueError: if outputs is out of range, or features_only is missing.
    """
    outputs = fields.at_least_one(config, "outputs")
    return VGG(outputs, fields.features_only(config), *NETWORKS[config.name])
