"""Figure 2: relative sensitivity R_k against relative depth, VGG networks.

The paper's: VGG11 and VGG11-bn on CIFAR-10 at the left, VGGs of torchvision on ImageNet at the
right; full lines the trained networks, dashed ones the same with shuffled channels. R falls with
depth, less so without the interaction of channels: both kinds of pooling are there.

Ours: whatever VGG networks on natural images are given, a panel a data set; a data set of which
there is no file has none. Networks at initialization are added in grey where they were measured.
"""

from collections.abc import Sequence

from cnnpool.figures import depth_curves, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import Network
from cnnpool.figures.series import Series

ITEM = "Figure 2"


def series(networks: Sequence[Network]) -> list[Series]:
    """The curves of the figure.

    Raises:
      ValueError: if there is no VGG on natural images, or one lacks a curve.
    """
    chosen = measured.choose(
        networks,
        lambda one: measured.on_plain_images(one) and style.network(one.model).family == style.VGG,
        item=ITEM,
        needs="VGG networks on CIFAR-10 or ImageNet, without noise in the training set",
    )
    return depth_curves.relative_sensitivity_series(chosen, item=ITEM)


draw = depth_curves.draw_relative_sensitivity
