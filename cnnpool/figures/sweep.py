"""Test error, D, G and R of a sweep's networks against the parameters that it varies.

`launch.collect` makes the parameters coordinates of its file, with one value per network, so
that any result files with such coordinates will do. D, G and R are those of the output. Networks
with the same parameters are averaged over seeds; bars are one standard error (`seed_average`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
import numpy as np
import xarray as xr

from cnnpool.errors import check_known
from cnnpool.figures import cells, depth_panels, layers, networks, panels, seed_average, style
from cnnpool.figures.cells import Cell
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series, write_csv
from cnnpool.files import parameter_words, sweep_parameters

ERROR = "test error"
QUANTITIES = (ERROR, "D", "G", "R")
_PREFERRED = {"stage": ("trained", "last"), "transform": ("none",), "noise": ("white",)}
_NOMINAL = {"delta": 1.0, "cutoff": 3}


class Row(NamedTuple):
    """The networks of one set of parameters.

    Attributes:
      place: {parameter: value}.
      values: {quantity: (mean, standard error)} for `QUANTITIES`.
      alive: the number of networks whose R is not NaN.
      networks: how many there are.
      source: where they come from.
    """

    place: dict[str, Any]
    values: dict[str, tuple[float, float]]
    alive: int
    networks: int
    source: str


def rows(given: Sequence[MeasuredNetwork]) -> list[Row]:
    """One a network, in the order of the parameters.

    Raises:
      ValueError: if no parameter differs between networks.
    """
    varied = sweep_parameters.of_datasets([one.outline for one in given])
    if not varied:
        raise ValueError(
            "no parameter that all of these networks have differs between them; `python -m "
            "launch.collect` of a sweep makes its parameters coordinates of its file"
        )
    found = [_row(one, varied) for one in given]
    return sorted(found, key=lambda one: [_order(value) for value in one.place.values()])


def _order(value: Any) -> tuple[bool, Any]:
    number = isinstance(value, int | float)
    return not number, value if number else str(value)


def _row(network: MeasuredNetwork, varied: Sequence[str]) -> Row:
    data = results_at_nominal(network)
    output = layers.output(data)
    values = {}
    for quantity in "DGR":
        average = seed_average.over_seeds(output, quantity)
        values[quantity] = (float(average.mean), float(average.se))
        alive = int(average.seeds)
    values[ERROR] = _error(data)
    place = {name: sweep_parameters.value(network.outline, name) for name in varied}
    return Row(place, values, alive, data.sizes["seed"], network.source)


def results_at_nominal(network: MeasuredNetwork) -> xr.Dataset:
    """The networks after training, as they are, at the nominal displacement and cut-off."""
    (cell, *_) = sorted(cells.cells([network]), key=_distance)
    return cell.data


def _distance(cell: Cell) -> list[float]:
    """How far a cell is from the one that is shown, name by name."""
    words = [
        wanted.index(cell.place.get(name)) if cell.place.get(name) in wanted else len(wanted)
        for name, wanted in _PREFERRED.items()
    ]
    sizes = [
        abs(cell.place[name] - value) if name in cell.place else 0.0
        for name, value in _NOMINAL.items()
    ]
    return [*map(float, words), *(0.0 if np.isnan(size) else float(size) for size in sizes)]


def _error(data: xr.Dataset) -> tuple[float, float]:
    if "test_error" not in data:
        return np.nan, np.nan
    average = seed_average.over_seeds(data, "test_error")
    return float(average.mean), float(average.se)


def series(found: Sequence[Row], x: str) -> list[Series]:
    """A curve for every value of the other parameters, in four panels.

    Args:
      found: of `rows`.
      x: the parameter of the abscissae.

    Raises:
      ValueError: if it is no parameter of these networks.
    """
    check_known(x, found[0].place, "--x")
    others: dict[str, list[Row]] = {}
    for row in found:
        words = [parameter_words.word(n, v) for n, v in row.place.items() if n != x]
        others.setdefault(",".join(words), []).append(row)
    places = _places(found, x)
    return [
        Series(
            ("", quantity),
            words or "all",
            model=words or "all",
            variant="",
            data="",
            x=np.array([places[row.place[x]] for row in group], float),
            y=np.array([row.values[quantity][0] for row in group]),
            y_se=np.array([row.values[quantity][1] for row in group]),
            seeds=np.array([row.alive for row in group]),
            points=tuple(parameter_words.word(x, row.place[x]) for row in group),
            source=group[0].source,
        )
        for quantity in QUANTITIES
        for words, group in others.items()
    ]


def _places(found: Sequence[Row], x: str) -> dict[Any, float]:
    """Numbers are where they are, words one beside the other."""
    values = list(dict.fromkeys(row.place[x] for row in found))
    if all(isinstance(one, int | float) for one in values):
        return {one: float(one) for one in values}
    return {one: float(place) for place, one in enumerate(values)}


def draw(curves: Sequence[Series], found: Sequence[Row], x: str) -> Figure:
    """Draws the four panels side by side, a colour for every value of the other parameters."""
    names = list(dict.fromkeys(one.curve for one in curves))
    colors = dict(zip(names, style.sequence(len(names)), strict=True))
    figure, axes_of = panels.grid(curves, size=(2.3, 2.3), margin=1.7, sharex=True)
    for one in curves:
        look = {"color": colors[one.curve], "marker": "o", "markersize": 3, "linewidth": 1}
        depth_panels.bars(axes_of[one.panel], one, look | {"capsize": 1.5, "elinewidth": 0.8})
    places = _places(found, x)
    numbers = all(isinstance(value, int | float) for value in places)
    spread = max(places.values()) / min(places.values()) if numbers and min(places) > 0 else 1
    for (_, quantity), axes in axes_of.items():
        axes.set_title(quantity if quantity == ERROR else f"${quantity}$ of the output", fontsize=9)
        axes.set_xlabel(x.replace("_", " "))
        if numbers and spread > 3:
            axes.set_xscale("log")
        if numbers:
            axes.set_xticks(list(places.values()), [f"{value:g}" for value in places], rotation=45)
            axes.minorticks_off()
        else:
            axes.set_xticks(list(places.values()), list(map(str, places)), rotation=45)
    panels.log_y({panel: axes for panel, axes in axes_of.items() if panel[1] != ERROR})
    if len(names) > 1:
        panels.legend(figure, panels.color_handles(colors), title="")
    return figure


def markdown(found: Sequence[Row]) -> str:
    """One line per network: parameters, test error, D, G, R of the output, how many are alive."""
    names = list(found[0].place)
    lines = [[*names, *QUANTITIES, "networks"], ["---"] * (len(names) + len(QUANTITIES) + 1)]
    for row in found:
        count = str(row.networks)
        lines.append(
            [
                *(str(row.place[name]) for name in names),
                *(_number(quantity, *row.values[quantity]) for quantity in QUANTITIES),
                count if row.alive == row.networks else f"{row.alive} of {count}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(quantity: str, mean: float, error: float) -> str:
    if np.isnan(mean):
        return "unknown" if quantity == ERROR else "undefined"
    shown = "{:.2%}" if quantity == ERROR else "{:.3g}"
    known = np.isfinite(error) and error > 0
    return shown.format(mean) + (f" ± {shown.format(error)}" if known else "")


def make(files: Sequence[Path], out: Path | None, x: str) -> str:
    """Draws a sweep and writes its curves beside the picture; returns its table.

    Args:
      files: of `launch.collect`, or others whose networks have scalar coordinates.
      out: the picture; None draws none.
      x: the parameter of the abscissae; "" takes the first one.

    Raises:
      ValueError: if no parameter differs, or `x` is none.
    """
    return make_of(networks.read(list(dict.fromkeys(files))), out, x)


def make_of(given: Sequence[MeasuredNetwork], out: Path | None, x: str) -> str:
    """The same of networks; see `make`."""
    found = rows(given)
    chosen = x or next(iter(found[0].place))
    curves = series(found, chosen)
    if out is not None:
        style.save(lambda: draw(curves, found, chosen), out)
        write_csv(out.with_suffix(".csv"), "sweep", curves)
    return markdown(found)
