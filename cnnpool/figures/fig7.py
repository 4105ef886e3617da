"""Figure 7: relative sensitivity R_k against relative depth, other networks than VGGs.

The paper's: LeNet and AlexNet on CIFAR-10 at the left, AlexNet of torchvision on ImageNet at the
right; drawn as Figure 2.

Ours: whatever convolutional networks but VGGs are given, on natural images: LeNet and AlexNet,
and ResNets and EfficientNet too, which the paper does not show.
"""

from collections.abc import Sequence

from cnnpool.figures import depth_curves, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import Network
from cnnpool.figures.series import Series

ITEM = "Figure 7"


def series(networks: Sequence[Network]) -> list[Series]:
    """The curves of the figure.

    Raises:
      ValueError: if there is no such network on natural images, or one lacks a curve.
    """
    others = (style.VGG, style.FULLY_CONNECTED)
    chosen = measured.choose(
        networks,
        lambda one: measured.on_plain_images(one) and style.network(one.model).family not in others,
        item=ITEM,
        needs="LeNet or AlexNet on CIFAR-10 or ImageNet, without noise in the training set",
    )
    return depth_curves.relative_sensitivity_series(chosen, item=ITEM)


draw = depth_curves.draw_relative_sensitivity
