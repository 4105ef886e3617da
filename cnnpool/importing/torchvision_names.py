"""torchvision's names of the layers of its networks.

In AlexNet and VGG, a layer's name is its index in a list; in ResNet and EfficientNet, it is a path
of stage, block and layer.
"""

from collections.abc import Sequence
import itertools

from cnnpool.models import efficientnet, resnet
from cnnpool.models.torchvision import PREFIX

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# The prefix of the parameters after the features, by family of networks.
HEADS = {"alexnet": "classifier.", "vgg": "classifier.", "resnet": "fc.", "eff": "classifier."}
FEATURES = "features."


def head(name: str) -> str:
    """The prefix of the names of all parameters after a network's features.

    Args:
      name: torchvision's name of the network.
    """
    return next(prefix for family, prefix in HEADS.items() if name.startswith(family))


def layer_names(name: str, units: Sequence[str]) -> dict[str, str]:
    """Torchvision's names of all units that can have parameters, {unit: torchvision's name}.

    Args:
      name: torchvision's name of the network.
      units: cnnpool's names of the network's units, in forward order.
    """
    if name.startswith("resnet"):
        return _resnet(name, units)
    if name.startswith("efficientnet"):
        return _efficientnet(units)
    return _sequential(units)


def tensor_name(layers: dict[str, str], path: str) -> str:
    """Torchvision's name of a parameter or batch statistic.

    Args:
      layers: the result of `layer_names`.
      path: cnnpool's name, LAYER/LEAF.
    """
    layer, leaf = path.rsplit("/", 1)
    return f"{layers[layer]}.{_LEAVES[leaf]}"


def _sequential(units: Sequence[str]) -> dict[str, str]:
    """AlexNet and VGG: each unit has an index, in the features or in the classifier after them."""
    features = list(itertools.takewhile(lambda unit: unit != "adaptive_pool", units))
    classifier = units[len(features) + 1 :]
    return {unit: f"features.{place}" for place, unit in enumerate(features)} | {
        unit: f"classifier.{place}" for place, unit in enumerate(classifier)
    }


def _resnet(name: str, units: Sequence[str]) -> dict[str, str]:
    _, blocks = resnet.NETWORKS[name]
    places = [f"layer{s}.{i}" for s, count in enumerate(blocks, start=1) for i in range(count)]
    own = {"conv01": "conv1", "bn01": "bn1", "linear": "fc"}
    inner = {"shortcut_conv": "downsample.0", "shortcut_bn": "downsample.1"}
    for unit in units:
        if "/" in unit:
            block, layer = unit.split("/")
            place = places[int(block.removeprefix("block")) - 1]
            own[unit] = f"{place}.{inner.get(layer, layer)}"
    return own


def _efficientnet(units: Sequence[str]) -> dict[str, str]:
    stages = efficientnet.STAGES
    places = [f"{s}.{i}" for s, stage in enumerate(stages, start=1) for i in range(stage.blocks)]
    last = len(stages) + 1
    own = {"conv01": "features.0.0", "bn01": "features.0.1", "linear": "classifier.1"}
    own |= {"head_conv": f"features.{last}.0", "head_bn": f"features.{last}.1"}
    for unit in units:
        if "/" in unit:
            block, layer = unit.split("/")
            place = places[int(block.removeprefix("block")) - 1]
            first = 1 if f"{block}/expand_conv" in units else 0
            inner = {
                "expand_conv": "0.0",
                "expand_bn": "0.1",
                "depthwise_conv": f"{first}.0",
                "depthwise_bn": f"{first}.1",
                "squeeze_conv": f"{first + 1}.fc1",
                "excite_conv": f"{first + 1}.fc2",
                "project_conv": f"{first + 2}.0",
                "project_bn": f"{first + 2}.1",
            }
            if layer in inner:
                own[unit] = f"features.{place}.block.{inner[layer]}"
    return own


def registry_name(name: str) -> str:
    """The value of `model.name` in a config for one of torchvision's networks.

    Args:
      name: torchvision's name of the network.
    """
    return f"{PREFIX}{name}"
