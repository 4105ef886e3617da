"""Network families, one per file; `build` picks one by the name in a config."""

from flax import linen as nn
from ml_collections import ConfigDict

from cnnpool.errors import check_known
from cnnpool.models import (
    alexnet,
    efficientnet,
    fully_connected,
    lenet,
    resnet,
    simple_cnn,
    torchvision,
    vgg,
)

_BUILDERS = {
    "simple_cnn": simple_cnn.build,
    "lenet": lenet.build,
    "alexnet": alexnet.build,
    **dict.fromkeys(vgg.NETWORKS, vgg.build),
    **dict.fromkeys(resnet.NETWORKS, resnet.build),
    "efficientnet_b0": efficientnet.build,
    **dict.fromkeys(fully_connected.NETWORKS, fully_connected.build),
    **torchvision.BUILDERS,
}

# The paper's networks that are trained here, on images of 28 x 28 and 32 x 32 pixels.
TRAINED_HERE = tuple(
    name for name in _BUILDERS if name not in ("simple_cnn", *torchvision.BUILDERS)
)


def build(config: ConfigDict) -> nn.Module:
    """The network that `config.name` asks for.

    Every network maps images to `(output, activations)`, `activations` a dict from
    unit name to array in forward order; a name contains its unit's kind: conv, bn,
    relu, pool, linear and so on. Classifiers also take the keyword argument `train`.

    Args:
      config: the `model` section of a config.

    Raises:
      ValueError: if no network has that name, or a field does not fit it.
    """
    check_known(config.name, _BUILDERS, "config.model.name")
    return _BUILDERS[config.name](config)
