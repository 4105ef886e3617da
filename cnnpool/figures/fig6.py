"""Figure 6: D_k, G_k and R_k against relative depth, networks on 2-D scale detection.

The paper's: AlexNet in the first row, VGG11, VGG11-bn and VGG13-bn in the second; D left, G
middle, R right; dot-dashed lines are networks with shuffled channels, which change nearly nothing:
on this task pooling is spatial.

Ours: whatever convolutional networks on scale detection are given, one row per family, shuffled
channels dashed as in Figures 2 and 7.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure

from cnnpool.figures import depth_curves, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series

ITEM = "Figure 6"
QUANTITIES = ("D", "G", "R")


def series(networks: Sequence[MeasuredNetwork]) -> list[Series]:
    """The curves of the figure.

    Raises:
      ValueError: if there is no convolutional network on scale detection, or one lacks a curve.
    """
    chosen = measured.choose(
        networks,
        lambda one: (
            one.data == measured.SCALE_DETECTION
            and style.network(one.model).family != style.FULLY_CONNECTED
        ),
        item=ITEM,
        needs="convolutional networks on scale2d",
    )
    measured.require(
        chosen, item=ITEM, stages=depth_curves.STAGES, transforms=depth_curves.TRANSFORMS
    )
    return [
        one
        for network in chosen
        for quantity in QUANTITIES
        for one in depth_curves.series(
            network, quantity, (style.network(network.model).family, f"${quantity}_k$")
        )
    ]


def draw(curves: Sequence[Series]) -> Figure:
    """Draws the figure, one row per family of networks."""
    return depth_curves.draw(curves, quantity_of=lambda panel: panel[1][1], sharey=False)
