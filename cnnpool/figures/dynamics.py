"""D_k, G_k and R_k against the epoch: how the sensitivities are learned.

The paper says that the correlation with the error is not seen at initialization and is learned; it
shows no dynamics.

Ours: networks that were measured at several epochs, one row per network, D, G and R in columns,
one colour per layer, the output darkest. Epoch 0 is the initialization, `last` the last epoch. The
best network, stage `trained`, is from a different epoch in every seed and is not drawn.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure
import numpy as np
import xarray as xr

from cnnpool.figures import layers, panels, seed_average, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series

ITEM = "dynamics"
QUANTITIES = ("$D_k$", "$G_k$", "$R_k$")
BEST, TRANSFORM = "trained", "none"


def epochs(dataset: xr.Dataset) -> dict[int, str]:
    """{epoch: stage} for the stages that are the same epoch in every seed, ascending."""
    stages = [str(stage) for stage in dataset["stage"].values]
    known = zip(dataset["epoch"].values, stages, strict=True)
    return dict(sorted((int(epoch), stage) for epoch, stage in known if stage != BEST))


def series(networks: Sequence[MeasuredNetwork]) -> list[Series]:
    """The curves of all networks that were measured at two epochs or more.

    Raises:
      ValueError: if there is none.
    """
    chosen = measured.choose(
        networks,
        lambda one: "epoch" in one.outline and len(epochs(one.outline)) > 1,
        item=ITEM,
        needs=(
            "networks at several epochs, which checkpoint.keep_epochs of their config keeps (`"
            f"{measured.command(['all'], [TRANSFORM])}`)"
        ),
    )
    for network in chosen:
        stages = [*epochs(network.dataset).values()]
        measured.require([network], item=ITEM, stages=stages, transforms=[TRANSFORM])
    return [one for network in chosen for one in _network_series(network)]


def _network_series(network: MeasuredNetwork) -> list[Series]:
    stages = epochs(network.dataset)
    shown = network.at_nominal().sel(stage=list(stages.values()), transform=TRANSFORM)
    return [
        network.series(
            (network.title, quantity),
            title,
            x=np.array(list(stages), float),
            y=seed_average.over_seeds(layer, quantity[1]),
            points=stages.values(),
        )
        for quantity in QUANTITIES
        for title, layer in layers.some(shown).items()
    ]


def draw(curves: Sequence[Series]) -> Figure:
    """Draws the figure, one row per network."""
    depths = sorted({one.curve for one in curves})
    colors = dict(zip(depths, reversed(style.sequence(len(depths))), strict=True))
    figure, axes_of = panels.grid(curves, size=(2.4, 2.1), margin=1.4, sharex="row")
    for one in curves:
        look = {"color": colors[one.curve], "marker": "o", "markersize": 3, "linewidth": 1.2}
        panels.line(axes_of[one.panel], one, look)
    for panel, axes in axes_of.items():
        last = axes.dataLim.x1
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(-0.15, 1.2 * last)
        axes.xaxis.set_major_formatter("{x:g}")
        if panel[1] == QUANTITIES[-1]:
            axes.axhline(1, **style.REFERENCE)
    panels.log_y(axes_of)
    panels.title_rows(axes_of, lambda panel: panel[1])
    panels.label_bottom(axes_of, "epoch")
    panels.legend(figure, panels.color_handles(colors), title=panels.band_title(curves))
    return figure
