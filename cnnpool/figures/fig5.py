"""Figure 5: test error against D_f, G_f and R_f of the output, networks on 2-D scale detection.

The paper's: a wide range of architectures (the authors' programs: LeNet, AlexNet, five VGGs, three
ResNets, EfficientNet-B0), xi = 14, g = 2, 1024 training images. The error correlates with D_f,
anti-correlates with G_f, and correlates best with R_f.

Ours: the networks that are given, one point each, with Pearson's r of the logarithms, Spearman's
rho and their 95 % intervals by resampling networks.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure

from cnnpool.figures import error_scatter, panels, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series

ITEM = "Figure 5"


def series(networks: Sequence[MeasuredNetwork]) -> list[Series]:
    """The points of the figure.

    Raises:
      ValueError: if there is no network on scale detection, or one was not measured trained.
    """
    chosen = measured.choose(
        networks,
        lambda one: one.data == measured.SCALE_DETECTION,
        item=ITEM,
        needs="networks on scale2d",
    )
    return error_scatter.series(chosen, item=ITEM, curve_of=lambda one: "trained")


def draw(points: Sequence[Series]) -> Figure:
    """Draws the figure, one colour and marker per network."""
    handles = panels.network_handles(error_scatter.drawn(points))
    for handle in handles:
        handle.set_linestyle("none")
    return error_scatter.draw(
        points,
        color_of=lambda one: style.network(one.model).color,
        handles=handles,
        unit=error_scatter.NETWORKS,
    )


def markdown(points: Sequence[Series]) -> str:
    """The correlations as a table, and which networks are left out."""
    rows = error_scatter.table_rows(points, "all, scale detection", unit=error_scatter.NETWORKS)
    return error_scatter.markdown(rows, points)
