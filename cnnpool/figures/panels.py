"""Grids of panels from the rows and columns that series name, and what is drawn in them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

from cnnpool.figures import style
from cnnpool.figures.series import Series

Panels = dict[tuple[str, str], Axes]

ANY_BAND = "mean over seeds, ± se\n($n$ = 1: over images or filters)"
LEAST_SHARE_OF_MEAN = 1e-2  # where mean - se is not positive, a band on log axes ends here


def grid(
    series: Sequence[Series],
    *,
    size: tuple[float, float],
    margin: float,
    new: Callable[..., Figure] = Figure,
    **share: Any,
) -> tuple[Figure, Panels]:
    """A figure with one panel for every (row, column) of the series.

    Args:
      series: their rows and columns appear in this order.
      size: the size of one panel, inches.
      margin: inches for the legend at the right.
      new: makes the figure; `pyplot.figure` where it is to be shown.
      **share: `sharex`, `sharey` of `Figure.subplots`.

    Returns:
      The figure and its panels; places in the grid without series stay empty.
    """
    rows, columns = (list(dict.fromkeys(one.panel[axis] for one in series)) for axis in (0, 1))
    width, height = size
    figure = new(figsize=(width * len(columns) + margin, height * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False, **share)
    used = {one.panel for one in series}
    panels = {}
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if (row, column) in used:
                panels[row, column] = axes[i, j]
            else:
                axes[i, j].set_axis_off()
    return figure, panels


def is_first_column(panels: Panels, panel: tuple[str, str]) -> bool:
    """Whether a panel is the leftmost of its row."""
    return next(place for place in panels if place[0] == panel[0]) == panel


def log_y(panels: Panels) -> None:
    """Logarithmic y axes with readable ticks, when all is drawn.

    The scales come first: setting the scale of one axis takes the ticks of all that share it.
    """
    for axes in panels.values():
        axes.set_yscale("log")
    for axes in panels.values():
        style.readable_log_ticks(axes.yaxis)


def label_bottom(panels: Panels, label: str) -> None:
    """Labels the x axis of the lowest panel of every column."""
    lowest = {column: axes for (_, column), axes in panels.items()}
    for axes in lowest.values():
        axes.set_xlabel(label)
        axes.tick_params(axis="x", which="both", labelbottom=True)


def title_rows(panels: Panels, label_of: Callable[[tuple[str, str]], str]) -> None:
    """Writes a row's name, broken at commas, beside its leftmost panel, and labels y axes.

    Args:
      panels: whose rows have names.
      label_of: the y label of a panel; "" for none.
    """
    for panel, axes in panels.items():
        row = panel[0].replace(", ", "\n") if is_first_column(panels, panel) else ""
        axes.set_ylabel("\n".join(part for part in (row, label_of(panel)) if part), fontsize=8)


def title_columns(panels: Panels) -> None:
    """Writes a column's name above its uppermost panel."""
    titled: set[str] = set()
    for (_, column), axes in panels.items():
        if column not in titled:
            axes.set_title(column, fontsize=9)
            titled.add(column)


def line(axes: Axes, one: Series, look: style.Look, *, band: bool = True) -> None:
    """Draws a curve, and a band of one standard error where it is known."""
    axes.plot(one.x, one.y, **look)
    if band and one.y_se is not None and np.isfinite(one.y_se).any():
        low = np.maximum(one.y - one.y_se, one.y * LEAST_SHARE_OF_MEAN)
        axes.fill_between(
            one.x, low, one.y + one.y_se, color=look["color"], alpha=style.BAND_ALPHA, linewidth=0
        )


def network_look(model: str, variant: str = "") -> style.Look:
    """Colour and marker of a network; the marker of one of another width is hollow."""
    look = style.network(model)
    fill = "none" if "width" in variant else "full"
    return {
        "color": look.color,
        "marker": look.marker,
        "markersize": 3.5,
        "linewidth": 1.2,
        "fillstyle": fill,
    }


def network_handles(series: Iterable[Series]) -> list[Line2D]:
    """A legend entry for every network, with how many were averaged."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for one in series:
        counts = [] if one.seeds is None else [int(one.seeds.max())]
        seeds.setdefault((one.model, one.variant), set()).update(counts)
    return [
        Line2D([], [], **network_look(model, variant), label=network_label(model, variant, counts))
        for (model, variant), counts in sorted(
            seeds.items(), key=lambda item: (style.network_order(item[0][0]), item[0][1])
        )
    ]


def network_label(model: str, variant: str, seeds: set[int]) -> str:
    """A network in a legend: "VGG11-bn, noise 10 (n = 5)"."""
    name = ", ".join(part for part in (style.network(model).label, variant) if part)
    counts = ", ".join(map(str, sorted(seeds)))
    return f"{name} ($n$ = {counts})" if counts else name


def curve_handles(looks: Mapping[str, style.Look], series: Iterable[Series]) -> list[Line2D]:
    """A legend entry for every kind of curve that is there, without markers."""
    there = {one.curve for one in series}
    plain: dict[str, style.Look] = {
        curve: {"color": "black"} | look | {"marker": "none"} for curve, look in looks.items()
    }
    return [Line2D([], [], **plain[curve], label=curve) for curve in plain if curve in there]


def color_handles(colors: Mapping[str, Any]) -> list[Line2D]:
    """A legend entry for every colour."""
    return [Line2D([], [], color=color, linewidth=3, label=name) for name, color in colors.items()]


def marker_handle(label: str, *, marker: str, face: str) -> Line2D:
    """A legend entry of a marker without a line."""
    return Line2D(
        *([], []), linestyle="none", marker=marker, color="black", markerfacecolor=face, label=label
    )


def band_title(series: Iterable[Series]) -> str:
    """What curves and their bands are, by how many networks were averaged.

    Of several networks mean and standard error are over seeds, of a single one the error is over
    images (`seed_average`).
    """
    counts = {
        int(one.seeds.max()) for one in series if one.seeds is not None and one.seeds.max() > 0
    }
    several = sorted(counts - {1})
    parts = []
    if several:
        numbers = " or ".join(map(str, several))
        parts.append(f"mean over {numbers} seeds, ± se")
    if 1 in counts:
        parts.append("± se over images ($n$ = 1)")
    return "\n".join(parts)


def legend(figure: Figure, handles: Sequence[Line2D], *, title: str = ANY_BAND) -> None:
    """Puts a legend at the right of all panels, where it covers nothing.

    Args:
      figure: to get it.
      handles: its entries.
      title: what curves and bands are, see `band_title`.
    """
    figure.legend(
        handles=handles,
        loc="outside right upper",
        title=title,
        title_fontsize=7.5,
        alignment="left",
    )
