"""Curves of D_k, G_k, R_k against relative depth k/K: Figures 2, 6 and 7.

Full lines are the original networks, dashed ones those with shuffled input channels, dotted ones
those with both axes of every kernel shuffled, dash-dotted ones those with batch statistics taken
again after the shuffle, and thin gray ones the networks at initialization, where these were
measured. With batch normalization, the full gray lines use the separate statistics of x, tau(x) and
x + eta, as the authors measure, and the dashed ones the frozen statistics of x. Several shuffles
are averaged as logarithms.
Bands are one standard error (`seed_average`). The input itself, k = 0, has R = 1 by construction
and is not drawn.
"""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnpool.figures import depth_panels, layers, panels, seed_average, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series

STAGES = ("trained",)
TRANSFORMS = ("none", "channel_shuffle")
RECALIBRATED = "shuffled, recalibrated"
INITIALIZATION, FROZEN = "initialization", "initialization, frozen statistics"
CURVES = {
    "original": ("trained", "none"),
    "channels shuffled": ("trained", "channel_shuffle"),
    "both axes shuffled": ("trained", "channel_shuffle_both"),
    RECALIBRATED: ("trained", "channel_shuffle_recalibrated"),
    INITIALIZATION: ("init", "none"),
    FROZEN: ("init", "none"),
}
_THIN: style.Look = {"linewidth": 0.7, "color": "0.7", "markersize": 2}
LOOKS: dict[str, style.Look] = {
    "original": {"linestyle": "-"},
    "channels shuffled": {"linestyle": "--", "markerfacecolor": "white"},
    "both axes shuffled": {"linestyle": ":", "marker": "none"},
    RECALIBRATED: {"linestyle": "-.", "marker": "none"},
    INITIALIZATION: {"linestyle": "-", **_THIN},
    FROZEN: {"linestyle": "--", **_THIN},
}


def measured_curves(network: MeasuredNetwork) -> dict[str, tuple[str, str]]:
    """The curves of a network, and the stage and transform that each is measured at."""
    curves = dict(CURVES)
    if network.has_batch_norm and network.has("init", "own_statistics"):
        curves[INITIALIZATION] = ("init", "own_statistics")
    else:
        del curves[FROZEN]
    if not network.has_batch_norm:
        del curves[RECALIBRATED]
    return {name: cell for name, cell in curves.items() if network.has(*cell)}


def series(network: MeasuredNetwork, quantity: str, panel: tuple[str, str]) -> list[Series]:
    """The curves of one network that were measured.

    Args:
      network: with the curves of `CURVES`, or some.
      quantity: "D", "G" or "R".
      panel: where they are drawn.
    """
    shown = layers.with_depth(network.at_nominal())
    found = []
    for curve, (stage, transform) in measured_curves(network).items():
        cell = shown.sel(stage=stage, transform=transform)
        found.append(
            network.series(
                panel,
                curve,
                x=layers.relative_depth(shown),
                y=seed_average.over_seeds(cell, quantity),
                points=shown["layer"].values,
            )
        )
    return found


def relative_sensitivity_series(networks: Sequence[MeasuredNetwork], *, item: str) -> list[Series]:
    """R_k of networks, one panel per data set.

    Args:
      networks: of one figure.
      item: "Figure 2".

    Raises:
      ValueError: if a network lacks a curve, naming it.
    """
    measured.require(networks, item=item, stages=STAGES, transforms=TRANSFORMS)
    return [
        one
        for network in networks
        for one in series(network, "R", ("", style.data_label(network.data)))
    ]


def draw_relative_sensitivity(curves: Sequence[Series]) -> Figure:
    """Figures 2 and 7: R_k against k/K, one panel per data set."""
    return draw(curves, quantity_of=lambda panel: "R", sharey=True)


def draw(
    curves: Sequence[Series], *, quantity_of: Callable[[tuple[str, str]], str], sharey: bool
) -> Figure:
    """Draws curves against relative depth, panels by rows and columns.

    Args:
      curves: of `series`.
      quantity_of: "D", "G" or "R", by panel.
      sharey: whether all panels have one y axis.
    """
    return depth_panels.draw(
        curves,
        _line,
        order=lambda one: -list(CURVES).index(one.curve),
        quantity_of=quantity_of,
        x_label="relative depth $k/K$",
        handles=[*panels.network_handles(curves), *panels.curve_handles(LOOKS, curves)],
        legend_title=panels.band_title(curves),
        sharey=sharey,
        finish=_whole_depth,
    )


def _line(axes: Axes, one: Series) -> None:
    look = panels.network_look(one.model, one.variant) | LOOKS[one.curve]
    panels.line(axes, one, look, band=one.curve not in (INITIALIZATION, FROZEN))


def _whole_depth(axes_of: panels.Panels) -> None:
    for axes in axes_of.values():
        axes.set_xlim(0, 1.03)
