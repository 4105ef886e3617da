"""What torchvision calls the layers of its networks.

In AlexNet and VGG a layer is a place in a list; in ResNet and EfficientNet a path of stages,
blocks and places in them.
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
# Behind the features of each family.
HEADS = {"alexnet": "classifier.", "vgg": "classifier.", "resnet": "fc.", "eff": "classifier."}
FEATURES = "features."


def head(name: str) -> str:
    """What the names of all parameters behind the features of a network begin with.

    Args:
      name: of a network, as torchvision calls it.
    """
    return next(prefix for family, prefix in HEADS.items() if name.startswith(family))


def layer_names(name: str, units: Sequence[str]) -> dict[str, str]:
    """torchvision's name of every unit that can have parameters.

    Args:
      name: of the network, as torchvision calls it.
      units: of our network, in forward order.
    """
    if name.startswith("resnet"):
        return _resnet(name, units)
    if name.startswith("efficientnet"):
        return _efficientnet(units)
    return _sequential(units)


def tensor_name(layers: dict[str, str], path: str) -> str:
    """torchvision's name of a parameter or statistic.

    Args:
      layers: of `layer_names`.
      path: LAYER/LEAF.
    """
    layer, leaf = path.rsplit("/", 1)
    return f"{layers[layer]}.{_LEAVES[leaf]}"


def _sequential(units: Sequence[str]) -> dict[str, str]:
    """AlexNet and VGG: every unit has a place, in the features or behind the adaptive pool."""
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
    """What a network of torchvision is called in a config.

    Args:
      name: as torchvision calls it.
    """
    return f"{PREFIX}{name}"
