"""Figure 8: how high the spatial frequencies of filters are, against relative depth.

The paper's: F^2 / (sum_l lambda_l) sum_l lambda_l gamma_{k,l} / <||w||^2> for CIFAR-10, ImageNet
and scale detection: 0 for constant filters, 1 for white ones. Training lowers it.

Ours: one panel per data set, one colour per network, of those that are given; dotted at
initialization, solid after training; 1 x 1 convolutions, which have no frequency, are left out.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure
import numpy as np

from cnnpool.figures import layers, panels, seed_average, spectra, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series

ITEM = "Figure 8"
LOOKS: dict[str, style.Look] = {
    "initialization": {"linestyle": ":", "linewidth": 0.8, "markersize": 2},
    "trained": {"linestyle": "-"},
}


def series(networks: Sequence[MeasuredNetwork]) -> list[Series]:
    """The curves of the figure.

    Raises:
      ValueError: if there is no convolutional network, or one lacks a stage or its spectra.
    """
    chosen = measured.choose(
        networks,
        lambda one: (
            style.network(one.model).family != style.FULLY_CONNECTED and one.image_noise == 0
        ),
        item=ITEM,
        needs="convolutional networks, without noise in the training set",
    )
    spectra.require(chosen, item=ITEM, variables=spectra.VARIABLES)
    return [
        _curve(network, curve, stage)
        for network in chosen
        for curve, stage in spectra.CURVES.items()
        if network.has(stage, "none")
    ]


def _curve(network: MeasuredNetwork, curve: str, stage: str) -> Series:
    units = spectra.convolutions(network.dataset)
    places = np.isin(network.dataset["layer"].values, units)
    cell = network.dataset.sel(stage=stage, layer=units)
    return network.series(
        ("", style.data_label(network.data)),
        curve,
        x=layers.relative_depth(network.dataset)[places],
        y=seed_average.over_seeds(cell, "filter_frequency"),
        points=units,
    )


def draw(curves: Sequence[Series]) -> Figure:
    """Draws the figure, one panel per data set."""
    figure, axes_of = panels.grid(curves, size=(2.9, 2.6), margin=1.7, sharex=True, sharey=True)
    for one in curves:
        look = panels.network_look(one.model, one.variant) | LOOKS[one.curve]
        panels.line(axes_of[one.panel], one, look, band=one.curve == "trained")
    for axes in axes_of.values():
        axes.axhline(1, **style.REFERENCE)
        axes.set_xlim(0, 1.03)
    next(iter(axes_of.values())).set_ylabel("filter frequency\n(0: constant, 1: white)")
    panels.title_columns(axes_of)
    panels.label_bottom(axes_of, "relative depth $k/K$")
    panels.legend(figure, [*panels.network_handles(curves), *panels.curve_handles(LOOKS, curves)])
    return figure
