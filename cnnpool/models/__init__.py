"""Network families, one a file; `build` picks one by the name in a config."""

from flax import linen as nn
from ml_collections import ConfigDict

from cnnpool.models import simple_cnn

_BUILDERS = {"simple_cnn": simple_cnn.build}


def build(config: ConfigDict) -> nn.Module:
    """The network that `config.name` asks for.

    Every network maps images to `(output, activations)`, `activations` a dict from
    layer name to array in forward order; a name contains its layer's kind: conv,
    bn, relu, pool or linear.

    Args:
      config: the `model` section of a config.

    Raises:
      ValueError: if no network has that name.
    """
    if config.name not in _BUILDERS:
        raise ValueError(
            f"config.model.name is {config.name!r}; expected one of {sorted(_BUILDERS)}"
        )
    return _BUILDERS[config.name](config)
