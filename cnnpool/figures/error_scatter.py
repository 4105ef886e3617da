"""Test error against D_f, G_f, R_f of the output, on log-log axes: Figure 5 and noise.

One point a network: means over its seeds, error bars of one standard error. A network without any
test error is drawn at half a test image, hollow, and counts there in the correlations; where the
number of test images is unknown it is left out, as is every point without logarithms.
"""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

from cnnpool import correlation
from cnnpool.correlation import Correlation
from cnnpool.figures import layers, panels, seed_average, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import Network
from cnnpool.figures.series import Series

QUANTITIES = ("D", "G", "R")
STAGE, TRANSFORM = "trained", "none"
NO_ERROR = "no test error"
TABLE_HEAD = (
    "| networks | test error against | points | Pearson's r of logarithms [95 %] "
    "| Spearman's rho [95 %] |\n|---|---|---|---|---|"
)


def series(
    networks: Sequence[Network], *, item: str, curve_of: Callable[[Network], str]
) -> list[Series]:
    """The points of all networks: for each of D, G, R a series of one point a network.

    Args:
      networks: of one figure.
      item: "Figure 5".
      curve_of: what a network's points are called.

    Raises:
      ValueError: if a network was not measured after training.
    """
    measured.require(networks, item=item, stages=[STAGE], transforms=[TRANSFORM])
    return [_point(one, name, curve_of(one)) for name in QUANTITIES for one in networks]


def _point(network: Network, quantity: str, curve: str) -> Series:
    cell = layers.output(network.at_nominal()).sel(stage=STAGE, transform=TRANSFORM)
    cell = cell.expand_dims("point")
    error = seed_average.over_seeds(cell, "test_error")
    perfect = bool(error.mean[0] == 0)
    if perfect:
        images = network.test_images
        error = error._replace(mean=np.array([np.nan if images is None else 0.5 / images]))
    return network.series(
        ("", quantity),
        curve,
        x=seed_average.over_seeds(cell, quantity),
        y=error,
        points=[NO_ERROR] if perfect else [],
    )


def is_drawable(point: Series) -> bool:
    """Whether both coordinates of a point have logarithms."""
    return bool(point.x[0] > 0 and point.y[0] > 0)


def correlations(points: Sequence[Series], quantity: str) -> tuple[Correlation, Correlation]:
    """Pearson's r of the logarithms and Spearman's rho of test error and D_f, G_f or R_f."""
    chosen = [one for one in points if one.panel[1] == quantity and is_drawable(one)]
    x, y = (np.array([getattr(one, axis)[0] for one in chosen]) for axis in "xy")
    return correlation.log_pearson(x, y), correlation.spearman(x, y)


def table_rows(points: Sequence[Series], kind: str) -> list[str]:
    """Correlations with D, G and R as rows below `TABLE_HEAD`.

    Args:
      points: of several networks.
      kind: which networks these are, in words.
    """
    rows = []
    for quantity in QUANTITIES:
        pearson, spearman = correlations(points, quantity)
        rows.append(f"| {kind} | {quantity}_f | {pearson.points} | {pearson} | {spearman} |")
    return rows


def remarks(points: Sequence[Series]) -> str:
    """What has no place on logarithmic axes, and what became of it; "" if nothing."""
    networks = {(one.model, one.variant) for one in points}
    absent = {(one.model, one.variant) for one in points if not is_drawable(one)}
    perfect = {(one.model, one.variant) for one in points if one.points == (NO_ERROR,)} - absent
    parts = []
    if perfect:
        parts.append(
            f"{len(perfect)} of {len(networks)} networks without test error, drawn hollow at half "
            "a test image"
        )
    if absent:
        parts.append(
            f"{len(absent)} of {len(networks)} networks left out where there is no logarithm"
        )
    return "; ".join(parts)


def draw(
    points: Sequence[Series], *, color_of: Callable[[Series], Any], handles: Sequence[Line2D]
) -> Figure:
    """Draws test error against D, G, R, with correlation coefficients as titles.

    Args:
      points: of `series`.
      color_of: the colour of a point.
      handles: of the legend.
    """
    figure, axes_of = panels.grid(points, size=(2.5, 2.9), margin=1.6, sharey=True)
    for one in filter(is_drawable, points):
        _draw_point(axes_of[one.panel], one, color_of(one))
    panels.log_y(axes_of)
    for panel, axes in axes_of.items():
        pearson, spearman = correlations(points, panel[1])
        axes.set(xscale="log", xlabel=f"${panel[1]}_f$")
        axes.set_title(f"$r$: {pearson}\n$\\rho$: {spearman}", fontsize=8)
        style.readable_log_ticks(axes.xaxis)
    axes_of[points[0].panel].set_ylabel("test error")
    if remarks(points):
        figure.suptitle(remarks(points), fontsize=8)
    panels.legend(figure, handles)
    return figure


def _draw_point(axes: Axes, point: Series, color: Any) -> None:
    perfect = point.points == (NO_ERROR,)
    if perfect:
        axes.axhline(point.y[0], **style.FLOOR)
    axes.errorbar(
        point.x,
        point.y,
        xerr=point.x_se,
        yerr=None if perfect else point.y_se,
        color=color,
        marker=style.network(point.model).marker,
        markersize=6,
        markerfacecolor="white" if perfect else color,
        linestyle="none",
        elinewidth=0.8,
    )
