"""Panels of D, G or R against depth, for the paper's figures and for anyone's networks."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

from cnnpool.figures import panels, style
from cnnpool.figures.panels import Panels
from cnnpool.figures.series import Series

LEAST_OF_MEAN = 0.01  # where mean - se is not positive, an error bar on log axes ends here


def draw(
    curves: Sequence[Series],
    line: Callable[[Axes, Series], Any],
    *,
    quantity_of: Callable[[tuple[str, str]], str],
    x_label: str,
    handles: Sequence[Line2D],
    legend_title: str,
    sharey: bool | str,
    size: tuple[float, float] = (2.9, 2.6),
    margin: float = 1.7,
    new: Callable[..., Figure] = Figure,
    order: Callable[[Series], int] = lambda one: 0,
    finish: Callable[[Panels], None] = lambda axes_of: None,
) -> Figure:
    """Draws curves against depth, panels by rows and columns.

    Args:
      curves: in the order of their panels.
      line: draws one of them.
      quantity_of: "D", "G" or "R", by panel.
      x_label: below the lowest panels.
      handles: entries of the legend.
      legend_title: what curves and their errors are.
      sharey: whether all panels have one y axis, or those of a column.
      size: the size of one panel, inches.
      margin: the width of the legend's margin.
      new: makes the figure, see `panels.grid`.
      order: the order of drawing; later curves lie on top of earlier ones.
      finish: function that completes the panels once the curves are drawn.
    """
    figure, axes_of = panels.grid(
        curves, size=size, margin=margin, new=new, sharex=True, sharey=sharey
    )
    for one in sorted(curves, key=order):
        line(axes_of[one.panel], one)
    for panel, axes in axes_of.items():
        if quantity_of(panel) == "R":
            axes.axhline(1, **style.REFERENCE)
    finish(axes_of)
    panels.log_y(axes_of)
    panels.title_rows(axes_of, lambda panel: f"${quantity_of(panel)}_k$")
    panels.title_columns(axes_of)
    panels.label_bottom(axes_of, x_label)
    if handles:
        panels.legend(figure, handles, title=legend_title)
    return figure


def bars(axes: Axes, one: Series, look: style.Look) -> None:
    """Draws a curve with error bars of one standard error."""
    if one.y_se is None:
        raise ValueError(f"{one.curve} has no standard errors")
    low = np.minimum(one.y_se, (1 - LEAST_OF_MEAN) * one.y)
    axes.errorbar(one.x, one.y, np.stack([low, one.y_se]), **look)
