"""Test error against D_f, G_f, R_f with and without white noise in the training set.

The paper's abstract: the correlations of test error with the sensitivities "still hold when white
noise is added to the images of the training set"; it shows no figure.

Ours: networks on CIFAR-10, one point per network and noise level s (the norm of the noise on every
normalized image, config.data.image_noise); the colour is s, the marker the network. Correlations
over all points are the titles; those at each level are in the table that is printed. Noise levels
of one architecture are not independent: the bootstrap resamples whole architectures, with all their
levels and widths, or single networks where there are too few architectures. The upper row is
measured (the error too) under the noise of the training, the lower one on clean images (`eval
--no-image_noise`); networks trained without noise are in both.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure

from cnnpool.figures import correlation, error_scatter, panels, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series

ITEM = "noise"
DATA = "cifar10"
NOISY, CLEAN = "images with noise", "clean images"


def series(networks: Sequence[MeasuredNetwork]) -> list[Series]:
    """The points of the figure.

    Raises:
      ValueError: if no network has noise in its training set, or one was not measured trained.
    """
    there = [one for one in networks if one.data == DATA]
    noisy = [one for one in there if one.measured_under_noise or not one.image_noise]
    clean = [one for one in there if not one.measured_under_noise]
    points = [
        point
        for row, given in ((NOISY, noisy), (CLEAN, clean))
        if any(one.image_noise for one in given)
        for point in _points(row, given)
    ]
    if not points:
        raise ValueError(
            f"{ITEM} needs a network with noise in its training set; train with "
            "`python -m cnnpool.train --config=configs/cifar10.py --config.data.image_noise=10 "
            "--workdir=RUN`"
        )
    return points


def _points(row: str, networks: Sequence[MeasuredNetwork]) -> list[Series]:
    chosen = measured.choose(networks, lambda one: True, item=ITEM, needs="networks on CIFAR-10")
    ordered = sorted(chosen, key=lambda one: one.image_noise)
    return error_scatter.series(ordered, item=ITEM, curve_of=_level, row=row)


def _level(network: MeasuredNetwork) -> str:
    return f"$s$ = {network.image_noise:g}"


def levels(points: Sequence[Series]) -> list[str]:
    """The noise levels, ascending."""
    return sorted({one.curve for one in points}, key=lambda level: float(level.split()[-1]))


def unit(points: Sequence[Series]) -> error_scatter.Unit:
    """The unit that the bootstrap resamples: architectures, or networks if a row has too few."""
    architectures: dict[str, set[str]] = {one.panel[0]: set() for one in points}
    for one in error_scatter.drawn(points):
        architectures[one.panel[0]].add(one.model)
    enough = min(map(len, architectures.values())) >= correlation.LEAST_UNITS
    return error_scatter.ARCHITECTURES if enough else error_scatter.NETWORKS


def draw(points: Sequence[Series]) -> Figure:
    """Draws the figure, one colour per noise level, one marker per network."""
    shown = error_scatter.drawn(points)
    there = levels(shown)
    colors = dict(zip(there, style.sequence(len(there)), strict=True))
    models = sorted({one.model for one in shown}, key=style.network_order)
    markers = [
        panels.marker_handle(look.label, marker=look.marker, face="black")
        for look in map(style.network, models)
    ]
    handles = [*markers, *panels.color_handles(colors)]
    return error_scatter.draw(
        points, color_of=lambda one: colors[one.curve], handles=handles, unit=unit(points)
    )


def markdown(points: Sequence[Series]) -> str:
    """The correlations on noisy and clean images, over all levels and at each, as a table."""
    rows = []
    for kind in dict.fromkeys(one.panel[0] for one in points):
        in_row = [one for one in points if one.panel[0] == kind]
        rows += error_scatter.table_rows(in_row, f"{kind}, all", unit=unit(points))
        for level in levels(in_row):
            at_level = [one for one in in_row if one.curve == level]
            name = f"{kind}, {level.replace('$', '')}"
            rows += error_scatter.table_rows(at_level, name, unit=unit(at_level))
    return error_scatter.markdown(rows, points)
