"""D, G and R against depth, a curve for everything that was measured."""

import itertools
from typing import Any

from matplotlib import pyplot
from matplotlib.figure import Figure
import matplotlib.style
from matplotlib.ticker import MaxNLocator
import numpy as np
import xarray as xr

from cnnpool.figures import layers, panels, seed_average, style
from cnnpool.files import results

_LINES = ("-", "--", ":", "-.")
_MARKERS = "osD^vP"


def draw(dataset: xr.Dataset, quantities: str) -> Figure:
    """A panel for each of the quantities, some of D, G and R."""
    with matplotlib.style.context(style.RC, after_reset=False):
        return _draw(dataset, quantities)


def _draw(dataset: xr.Dataset, quantities: str) -> Figure:
    shown = layers.with_depth(results.over_shuffles(dataset))
    size = (3.0 * len(quantities) + 1.2, 2.8)
    figure, row = pyplot.subplots(
        1, len(quantities), figsize=size, layout="constrained", squeeze=False, sharex=True
    )
    curves = _curves(shown)
    for quantity, axes in zip(quantities, row[0], strict=True):
        for number, (label, cell) in enumerate(curves.items()):
            average = seed_average.over_seeds(cell, quantity)
            axes.errorbar(
                shown["depth"].values,
                average.mean,
                # On a logarithmic axis no bar reaches 0.
                np.stack([np.minimum(average.se, 0.99 * average.mean), average.se]),
                label=label,
                **_look(number),
            )
        if quantity == "R":
            axes.axhline(1, **style.REFERENCE)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("depth $k$")
        axes.set_ylabel(f"${quantity}_k$")
    panels.log_y({("", quantity): axes for quantity, axes in zip(quantities, row[0], strict=True)})
    if len(curves) > 1:
        figure.legend(*row[0][0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def _look(number: int) -> style.Look:
    """How curve `number` looks: colors, lines and markers repeat at different lengths."""
    colors = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.ORANGE)
    return {
        "color": colors[number % len(colors)],
        "linestyle": _LINES[number % len(_LINES)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "markersize": 3,
        "linewidth": 1,
        "capsize": 1.5,
    }


def _curves(dataset: xr.Dataset) -> dict[str, xr.Dataset]:
    """Cells over seed and layer, by what tells them from one another."""
    axes = [
        name for name in ("stage", "transform", "delta", "cutoff", "noise") if name in dataset.dims
    ]
    varying = [name for name in axes if dataset.sizes[name] > 1]
    cells = {}
    for values in itertools.product(*(dataset[name].values for name in axes)):
        place = dict(zip(axes, values, strict=True))
        words = [_word(name, place[name]) for name in varying]
        cells[", ".join(words) or str(place["transform"])] = dataset.sel(place)
    return cells


def _word(name: str, value: Any) -> str:
    unit = {"delta": "$\\delta$ = {:g}", "cutoff": "$c$ = {:g}", "noise": "{} noise"}
    return unit.get(name, "{}").format(value).replace("none", "original")
