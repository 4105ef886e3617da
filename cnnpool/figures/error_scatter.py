"""Test error against D_f, G_f, R_f of the output, on log-log axes: Figure 5 and noise.

One point per network: means over the seeds in which D, G, R and the error are finite, with error
bars of one standard error. Networks whose test error is zero, and those whose output is dead in
every seed, cannot be plotted on these axes: they are left out of the picture and the correlations,
and listed by name. The intervals of the correlations come from resampling networks, or whole
architectures.
"""

from collections.abc import Callable, Hashable, Sequence
import textwrap
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

from cnnpool.figures import correlation, layers, panels, seed_average, style
from cnnpool.figures import networks as measured
from cnnpool.figures.correlation import Correlation
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.seed_average import Average
from cnnpool.figures.series import Series, of_averages

QUANTITIES = ("D", "G", "R")
ERROR = "test_error"
STAGE, TRANSFORM = "trained", "none"
DEAD, NO_ERROR, NO_LOGARITHM = "dead in every seed", "no test error", "D, G or R is 0"
RESAMPLING_SEED = 0
NOTE_WIDTH = 130  # characters below three panels
TABLE_HEAD = (
    "| networks | test error against | points | resampled | Pearson's r of logarithms [95 %] "
    "| Spearman's rho [95 %] |\n|---|---|---|---|---|---|"
)


class Unit(NamedTuple):
    """The unit that the bootstrap resamples.

    Attributes:
      plural: its name in the plural: "networks".
      of: function that returns the unit that a point belongs to.
    """

    plural: str
    of: Callable[[Series], Hashable]


NETWORKS = Unit("networks", lambda one: (one.model, one.variant))
ARCHITECTURES = Unit("architectures", lambda one: one.model)


def series(
    networks: Sequence[MeasuredNetwork],
    *,
    item: str,
    curve_of: Callable[[MeasuredNetwork], str],
    row: str = "",
) -> list[Series]:
    """The points of all networks: for each of D, G, R, one series with one point per network.

    A point's name says why it is not drawn: `DEAD`, `NO_ERROR` or `NO_LOGARITHM`; None if it is.

    Args:
      networks: of one figure.
      item: "Figure 5".
      curve_of: function that returns the name of a network's points.
      row: the row of panels, where a figure has several.

    Raises:
      ValueError: if a network was not measured after training.
    """
    measured.require(networks, item=item, stages=[STAGE], transforms=[TRANSFORM])
    averages = [_averages(one) for one in networks]
    return [
        of_averages(
            (row, name),
            curve_of(one),
            one.identity,
            x=found[name],
            y=found[ERROR],
            points=_why_left_out(found),
            epochs=one.epochs,
            source=one.source,
        )
        for name in QUANTITIES
        for one, found in zip(networks, averages, strict=True)
    ]


def _averages(network: MeasuredNetwork) -> dict[str, Average]:
    """D, G, R and test error of the output, all over the same seeds."""
    cell = layers.output(network.at_nominal()).sel(stage=STAGE, transform=TRANSFORM)
    names = (*QUANTITIES, ERROR)
    alive = seed_average.where_finite(cell.expand_dims("point"), names)
    return {name: seed_average.over_seeds(alive, name) for name in names}


def _why_left_out(found: dict[str, Average]) -> list[str]:
    if found[ERROR].seeds[0] == 0:
        return [DEAD]
    if found[ERROR].mean[0] == 0:
        return [NO_ERROR]
    if any(found[name].mean[0] <= 0 for name in QUANTITIES):
        return [NO_LOGARITHM]
    return []


def drawn(points: Sequence[Series]) -> list[Series]:
    """The points that are drawn and count in the correlations."""
    return [one for one in points if one.points is None]


def correlations(
    points: Sequence[Series], quantity: str, *, unit: Unit
) -> tuple[Correlation, Correlation]:
    """Pearson's r of the logarithms and Spearman's rho of test error and D_f, G_f or R_f.

    Args:
      points: of `series`, of one row of panels.
      quantity: "D", "G" or "R".
      unit: what the bootstrap draws.
    """
    chosen = [one for one in drawn(points) if one.panel[1] == quantity]
    x, y = (np.array([getattr(one, axis)[0] for one in chosen]) for axis in "xy")
    units = [unit.of(one) for one in chosen]
    return (
        correlation.log_pearson(x, y, seed=RESAMPLING_SEED, units=units),
        correlation.spearman(x, y, seed=RESAMPLING_SEED, units=units),
    )


def table_rows(points: Sequence[Series], kind: str, *, unit: Unit) -> list[str]:
    """Correlations with D, G and R as rows below `TABLE_HEAD`.

    Args:
      points: the points of several networks.
      kind: which networks these are, in words.
      unit: the unit that the bootstrap resamples.
    """
    drawable = {unit.of(one) for one in drawn(points)}
    rows = []
    for quantity in QUANTITIES:
        pearson, spearman = correlations(points, quantity, unit=unit)
        rows.append(
            f"| {kind} | {quantity}_f | {pearson.points} | {len(drawable)} {unit.plural} "
            f"| {pearson} | {spearman} |"
        )
    return rows


def remarks(points: Sequence[Series]) -> list[str]:
    """One line per reason for leaving networks out, with their names."""
    names: dict[str, dict[str, None]] = {}  # by reason, without repetition and in order
    rows = {one.panel[0] for one in points}
    for one in points:
        for reason in one.points or ():
            name = panels.network_label(one.model, one.variant, set())
            name += f" ({one.panel[0]})" if len(rows) > 1 else ""
            names.setdefault(reason, {})[name] = None
    return [f"left out, {reason}: {'; '.join(found)}" for reason, found in names.items()]


def markdown(rows: Sequence[str], points: Sequence[Series]) -> str:
    """The table of correlations, how their intervals were made, and what is left out.

    Args:
      rows: the rows, from `table_rows`.
      points: the points of all networks.
    """
    intervals = (
        f"95 % intervals: percentiles of {correlation.RESAMPLES} bootstrap resamples of the units "
        f"in column `resampled`; none for fewer than {correlation.LEAST_UNITS}"
    )
    lines = [intervals, *remarks(points)]
    return "\n\n".join(["\n".join([TABLE_HEAD, *rows]), *lines])


def draw(
    points: Sequence[Series],
    *,
    color_of: Callable[[Series], Any],
    handles: Sequence[Line2D],
    unit: Unit,
) -> Figure:
    """Draws test error against D, G, R, with correlation coefficients as titles.

    Args:
      points: of `series`.
      color_of: function that returns the colour of a point.
      handles: entries of the legend.
      unit: the unit that the bootstrap resamples.
    """
    figure, axes_of = panels.grid(points, size=(2.5, 2.9), margin=1.6, sharey=True)
    for one in drawn(points):
        _draw_point(axes_of[one.panel], one, color_of(one))
    panels.log_y(axes_of)
    for panel, axes in axes_of.items():
        in_row = [one for one in points if one.panel[0] == panel[0]]
        pearson, spearman = correlations(in_row, panel[1], unit=unit)
        axes.set(xscale="log", xlabel=f"${panel[1]}_f$")
        axes.set_title(f"$r$: {pearson}\n$\\rho$: {spearman}", fontsize=8)
        style.readable_log_ticks(axes.xaxis)
    panels.title_rows(
        axes_of, lambda panel: "test error" if panels.is_first_column(axes_of, panel) else ""
    )
    notes = [f"95 % intervals: bootstrap over {unit.plural}", *remarks(points)]
    wrapped = [textwrap.fill(note, NOTE_WIDTH) for note in notes]
    figure.supxlabel("\n".join(wrapped), fontsize=7.5)
    panels.legend(figure, handles, title=panels.band_title(drawn(points)))
    return figure


def _draw_point(axes: Axes, point: Series, color: Any) -> None:
    axes.errorbar(
        point.x,
        point.y,
        xerr=point.x_se,
        yerr=point.y_se,
        **panels.network_look(point.model, point.variant) | {"color": color, "markersize": 6},
        linestyle="none",
        elinewidth=0.8,
    )
