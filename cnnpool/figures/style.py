"""The look that all figures share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from cnnpool.atomic_write import write_atomically

INIT = {"color": "0.55", "linestyle": "-", "marker": "o", "markersize": 3}
TRAINED = {"color": "tab:blue", "linestyle": "-", "marker": "o", "markersize": 3}
TRAINED_DOTTED = {"color": "tab:blue", "linestyle": ":", "marker": "s", "markersize": 3}
THEORY = {"color": "black", "linestyle": "--", "linewidth": 1}
GUIDE = {"color": "tab:red", "linestyle": "-", "linewidth": 0.7}
BAND_ALPHA = 0.25

RC: dict[str, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 150,
    "font.size": 9,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
}


def plain_log_ticks(axis: Axis) -> None:
    """Labels a logarithmic axis at 1, 2 and 5 times powers of ten, without exponents."""
    for set_locator, set_formatter, digits in (
        (axis.set_major_locator, axis.set_major_formatter, (1.0,)),
        (axis.set_minor_locator, axis.set_minor_formatter, (2.0, 5.0)),
    ):
        set_locator(LogLocator(subs=digits))
        set_formatter(StrMethodFormatter("{x:g}"))


def save(draw: Callable[[], Figure], path: Path) -> None:
    """Draws in the common style and writes PNG, PDF or SVG, by the path's ending."""
    with mpl.rc_context(RC):  # type: ignore[arg-type]
        figure = draw()
        write_atomically(path, lambda beside: figure.savefig(beside, bbox_inches="tight"))
