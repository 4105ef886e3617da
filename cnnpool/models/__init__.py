"""Network families, one a file; `build` picks one by the name in a config."""

from difflib import get_close_matches

from flax import linen as nn
from ml_collections import ConfigDict

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

# Those of the paper that are trained here, on images of 28 x 28 and 32 x 32.
DEEP_NETWORKS = tuple(
    name for name in _BUILDERS if name not in ("simple_cnn", *torchvision.BUILDERS)
)


def build(config: ConfigDict) -> nn.Module:
    """The network that `config.name` asks for.

    Every network maps images to `(output, activations)`, `activations` a dict from
    unit name to array in forward order; a name contains its unit's kind: conv, bn,
    relu, pool, linear and so on. Deep networks also take `train`, by keyword.

    Args:
      config: the `model` section of a config.

    Raises:
      ValueError: if no network has that name, or a field does not fit it.
    """
    if config.name not in _BUILDERS:
        near = get_close_matches(str(config.name), _BUILDERS)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(
            f"config.model.name is {config.name!r}; expected one of {sorted(_BUILDERS)}{hint}"
        )
    return _BUILDERS[config.name](config)
