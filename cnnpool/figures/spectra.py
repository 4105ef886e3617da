"""Filter spectra gamma_{k,l} against the number l of the frequency: Figures 3 and 10.

A row is a network on a data set, a panel one of its convolutions k, all of a row with the same
y axis. Dotted: initialization; solid: trained; the thin horizontal line is what random filters
have in expectation, the same at every l: by PyTorch's default 1 / (3 fan-in), by that of
torchvision's VGGs 2 / fan-out. The initialization of an imported network is drawn anew by these
rules, where it was measured. Bands are one standard error. The x axis goes from low to high
frequencies; equal eigenvalues lambda of the Laplacian, which have no unique eigenvectors, share one
tick.
"""

from collections.abc import Sequence
import itertools

from matplotlib.figure import Figure
import numpy as np
import xarray as xr

from cnnpool.figures import networks as measured
from cnnpool.figures import panels, seed_average, style
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series

STAGES = ("init", "trained")
VARIABLES = ("gamma", "gamma_se", "gamma_random", "eigenvalue", "filter_frequency")
RANDOM = "random filters"
CURVES = {"initialization": "init", "trained": "trained"}
LOOKS: dict[str, style.Look] = {
    "initialization": {"color": "black", "linestyle": ":"},
    "trained": {"color": style.BLUE, "linestyle": "-", "marker": "o", "markersize": 2},
    RANDOM: {"color": "0.7", "linestyle": "-", "linewidth": 0.8},
}
MOST_TICKS, SHORT = 4, 6  # labels that fit below a small panel: of several digits, of one


def convolutions(dataset: xr.Dataset) -> list[str]:
    """Units with filters of more than one pixel, in forward order."""
    several = dataset["eigenvalue"].isel(frequency=slice(1, None)).notnull().any("frequency")
    return [str(name) for name in dataset["layer"].values[several]]


def series(networks: Sequence[MeasuredNetwork], *, item: str) -> list[Series]:
    """The spectra of all convolutions of networks.

    Args:
      networks: of one figure.
      item: "Figure 3".

    Raises:
      ValueError: if a network lacks a stage or its spectra.
    """
    require(networks, item=item, variables=VARIABLES)
    return [one for network in networks for one in of_network(network, network.title)]


def of_network(network: MeasuredNetwork, row: str = "") -> list[Series]:
    """The spectra of all convolutions of one network, at the stages that were measured.

    Args:
      network: with the variables `VARIABLES`.
      row: of the panels.
    """
    return [
        one
        for k, unit in enumerate(convolutions(network.dataset), start=1)
        for one in _layer_series(network, unit, (row, f"$k$ = {k}"))
    ]


def require(networks: Sequence[MeasuredNetwork], *, item: str, variables: Sequence[str]) -> None:
    """Refuses networks that lack a stage or variable; imported ones need no initialization.

    Args:
      networks: of a figure.
      item: "Figure 3".
      variables: needed.

    Raises:
      ValueError: saying what is missing of which network.
    """
    imported = [one for one in networks if one.is_imported]
    own = [one for one in networks if not one.is_imported]
    measured.require(own, item=item, stages=STAGES, variables=variables)
    measured.require(imported, item=item, stages=("trained",), variables=variables)


def _layer_series(network: MeasuredNetwork, unit: str, panel: tuple[str, str]) -> list[Series]:
    layer = network.dataset[[*VARIABLES]].sel(layer=unit)
    layer = layer.isel(frequency=np.flatnonzero(layer["eigenvalue"].notnull()))
    number = layer["frequency"].values.astype(float)
    points = tuple(f"{value:.6g}" for value in layer["eigenvalue"].values)
    level = np.full(len(number), float(layer["gamma_random"]))
    random = network.series(panel, RANDOM, x=number, y=level, points=points)
    return [random] + [
        network.series(
            panel,
            curve,
            x=number,
            y=seed_average.over_seeds(layer.sel(stage=stage), "gamma"),
            points=points,
        )
        for curve, stage in CURVES.items()
        if network.has(stage, "none")
    ]


def eigenvalue_ticks(eigenvalues: Sequence[str]) -> tuple[list[float], list[str]]:
    """Where the ticks of a panel lie, and their labels.

    Args:
      eigenvalues: of l = 1, 2, ..., as text, ascending.

    Returns:
      One place for every run of equal eigenvalues, in its middle; and labels, some of them empty
      where there are too many for a small panel.
    """
    places, labels, start = [], [], 1
    for value, run in itertools.groupby(eigenvalues):
        count = len(list(run))
        places.append(start + (count - 1) / 2)
        labels.append(f"{float(value):.2g}")
        start += count
    count = len(labels) if len(labels) <= SHORT else MOST_TICKS
    shown = np.linspace(0, len(labels) - 1, count).round().astype(int)
    return places, [label if i in shown else "" for i, label in enumerate(labels)]


def draw(curves: Sequence[Series]) -> Figure:
    """Draws spectra, one row per network, one column per convolution."""
    figure, axes_of = panels.grid(curves, size=(1.2, 1.5), margin=1.5, sharey="row")
    for one in curves:
        panels.line(axes_of[one.panel], one, {"linewidth": 1.1} | LOOKS[one.curve])
        if one.curve == RANDOM:
            axes_of[one.panel].set_xticks(*eigenvalue_ticks(one.points or ()))
    panels.log_y(axes_of)
    for axes in axes_of.values():
        axes.tick_params(which="both", labelsize=6.5)
    panels.title_rows(axes_of, lambda panel: "")
    panels.title_columns(axes_of)
    figure.supylabel("$\\gamma_{k,l}$", fontsize=9)
    figure.supxlabel("Laplacian eigenvalue $\\lambda_l$, low to high frequencies $l$", fontsize=9)
    panels.legend(figure, panels.curve_handles(LOOKS, curves))
    return figure
