"""R_k against the displacement of the diffeomorphisms, for several cut-offs.

The paper measures at a displacement of one pixel and cut-off 3 and does not show others. R_k is
meaningful where it does not depend on them: where its curves are flat and coincide.

Ours: trained networks on natural images, one row per network, the output in the last column and
some layers before it; one colour per cut-off. Hollow markers: diffeomorphisms that are not
natural, by the temperatures of docs/protocol.md (displacements below half a pixel, or overhangs).
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from cnnpool.figures import layers, panels, seed_average, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series

ITEM = "delta_cutoff"
STAGE, TRANSFORM = "trained", "none"
NATURAL, UNNATURAL = "natural", "not natural"


def series(networks: Sequence[MeasuredNetwork]) -> list[Series]:
    """R against delta, one curve per network, layer and cut-off.

    Raises:
      ValueError: if no network was measured at several displacements or cut-offs.
    """
    chosen = measured.choose(
        networks,
        lambda one: (
            one.has_displacements
            and max(one.outline.sizes["delta"], one.outline.sizes["cutoff"]) > 1
        ),
        item=ITEM,
        needs=(
            "networks on natural images at several displacements and cut-offs (`"
            f"{measured.command([STAGE], [TRANSFORM], '--deltas=0.3,1,3 --cutoffs=3,10')}`)"
        ),
    )
    measured.require(chosen, item=ITEM, stages=[STAGE], transforms=[TRANSFORM], at_nominal=False)
    return [one for network in chosen for one in _network_series(network)]


def _network_series(network: MeasuredNetwork) -> list[Series]:
    shown = network.dataset.sel(stage=STAGE, transform=TRANSFORM).sortby(["delta", "cutoff"])
    found = []
    for title, layer in layers.some(shown).items():
        for cutoff in layer["cutoff"].values:
            part = layer.sel(cutoff=cutoff)
            found.append(
                network.series(
                    (network.title, title),
                    f"$c$ = {cutoff:g}",
                    x=part["delta"].values.astype(float),
                    y=seed_average.over_seeds(part, "R"),
                    points=[NATURAL if flag else UNNATURAL for flag in part["natural"].values],
                )
            )
    return found


def draw(curves: Sequence[Series]) -> Figure:
    """Draws the figure, one row per network, one column per layer, one colour per cut-off."""
    cutoffs = list(dict.fromkeys(one.curve for one in curves))
    colors = dict(zip(cutoffs, style.sequence(len(cutoffs)), strict=True))
    figure, axes_of = panels.grid(curves, size=(1.9, 2.0), margin=1.4, sharex=True, sharey="row")
    for one in curves:
        panels.line(axes_of[one.panel], one, {"color": colors[one.curve], "linewidth": 1})
        _markers(axes_of[one.panel], one, colors[one.curve])
    for axes in axes_of.values():
        axes.axhline(1, **style.REFERENCE)
        axes.set_xscale("log")
    for axes in axes_of.values():
        style.plain_log_ticks(axes.xaxis)
    panels.log_y(axes_of)
    panels.title_rows(
        axes_of, lambda panel: "$R_k$" if panels.is_first_column(axes_of, panel) else ""
    )
    panels.title_columns(axes_of)
    panels.label_bottom(axes_of, "displacement $\\delta$ (pixels)")
    dots = [
        panels.marker_handle(label, marker="o", face=face)
        for label, face in ((NATURAL, "black"), (UNNATURAL, "white"))
    ]
    title = panels.band_title(curves)
    panels.legend(figure, [*panels.color_handles(colors), *dots], title=title)
    return figure


def _markers(axes: Axes, one: Series, color: Any) -> None:
    natural = np.array([point == NATURAL for point in one.points or ()])
    for chosen, face in ((natural, color), (~natural, "white")):
        axes.plot(
            one.x[chosen],
            one.y[chosen],
            linestyle="none",
            marker="o",
            markersize=4,
            color=color,
            markerfacecolor=face,
        )
