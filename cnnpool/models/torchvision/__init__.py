"""torchvision's networks for ImageNet, one family per file, whose weights can be imported."""

from collections.abc import Callable

from flax import linen as nn
from ml_collections import ConfigDict

from cnnpool.models.torchvision import alexnet, efficientnet, resnet, vgg

PREFIX = "torchvision_"

BUILDERS: dict[str, Callable[[ConfigDict], nn.Module]] = {
    **dict.fromkeys(alexnet.NETWORKS, alexnet.build),
    **dict.fromkeys(vgg.NETWORKS, vgg.build),
    **dict.fromkeys(resnet.NETWORKS, resnet.build),
    **dict.fromkeys(efficientnet.NETWORKS, efficientnet.build),
}
# The names that torchvision gives them.
NAMES = tuple(name.removeprefix(PREFIX) for name in BUILDERS)
