"""D, G and R against depth for any networks: `figures depth`, `data.cnnpool.plot()`, reports.

One curve for each network, stage, transform and whatever else was measured (`cells`). Colours,
lines and panels follow the names that are asked for; any other difference between curves is shown
by colour.
Several networks of one run are averaged; error bars are one standard error (`seed_average`).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
import numpy as np
import xarray as xr

from cnnpool.figures import cells, depth_panels, layers, networks, panels, seed_average, style
from cnnpool.figures.cells import Cell
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series, write_csv
from cnnpool.files import schema

QUANTITIES = "DGR"
_COLORS = (
    *(style.BLUE, style.VERMILION, style.GREEN, style.PURPLE),
    *(style.ORANGE, style.SKY, style.BLACK, style.BROWN),
)
_LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)))
_MARKERS = "osD^vPX"
_FEW = 2  # numbers, from which on their order is shown by colours from dark to light


@dataclasses.dataclass(frozen=True)
class Options:
    """How curves are distinguished, and which of their values are shown.

    Attributes:
      color: name that colours stand for; "" for every difference that style and facet do not show.
      style: name that line styles stand for; "" for none.
      facet: name that rows of panels stand for; "" for one row.
      select: {name: values} of the curves that are wanted.
      labels: {file or group: label} of networks.
      quantities: the quantities to plot, some of D, G and R.
      relative: whether the depth is k/K.
      all_units: whether all units are shown, not only the last one of every layer.
    """

    color: str = ""
    style: str = ""
    facet: str = ""
    select: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    quantities: str = QUANTITIES
    relative: bool = False
    all_units: bool = False

    def __post_init__(self):
        """Raises ValueError if there is another quantity."""
        unknown = set(self.quantities) - set(QUANTITIES)
        if unknown or not self.quantities or len(set(self.quantities)) < len(self.quantities):
            raise ValueError(f"expected some of D, G and R, got {self.quantities!r}")


class Curve(NamedTuple):
    """A curve, and the words that determine its colour and its line style."""

    series: Series
    color: str
    style: str


class Drawn(NamedTuple):
    """Curves, and the order and meaning of their colours and lines.

    Attributes:
      curves: in the order of their panels.
      colors: {words: colour}.
      styles: {words: line style}; empty where line styles follow the colours.
      counts: {words of a colour: "n = 3"}, how many networks were averaged.
      title: what colours and line styles stand for.
    """

    curves: list[Curve]
    colors: dict[str, Any]
    styles: dict[str, Any]
    counts: dict[str, str]
    title: str


def of_networks(given: Sequence[MeasuredNetwork], options: Options) -> Drawn:
    """The curves of the given networks.

    Raises:
      ValueError: if a name is unknown, or there is nothing to draw.
    """
    if options.all_units and options.relative:
        raise ValueError("all units are shown against depth itself: leave out one of the two")
    asked = [name for name in (options.color, options.style, options.facet) if name]
    found = cells.cells(given, asked, labels=options.labels, select=options.select)
    options = _with_usual_names(found, options)
    fixed = [name for name in (options.color, options.style, options.facet) if name]
    colored = [*([options.color] if options.color else []), *cells.telling(found, fixed)]
    styled = [options.style] if options.style else []
    faceted = [options.facet] if options.facet else []
    everything = list(dict.fromkeys([*colored, *styled])) or ["transform"]
    curves = [
        Curve(_series(cell, quantity, row, everything, options), words, line)
        for row in cells.values(found, faceted)
        for quantity in options.quantities
        for cell in found
        if cell.words(faceted) == row
        for words, line in [(cell.words(colored), cell.words(styled))]
    ]
    words = cells.values(found, colored)
    return Drawn(
        curves,
        dict(zip(words, _colors(found, colored, len(words)), strict=True)),
        {name: _cycled(_LINES, n) for n, name in enumerate(cells.values(found, styled)) if styled},
        {one: _count(one, colored, found) for one in words},
        ", ".join(name for name in (*colored, *styled) if name != cells.NETWORK),
    )


def _with_usual_names(found: Sequence[Cell], options: Options) -> Options:
    """By default, colours show networks and line styles transforms, where there are several."""
    if options.color or options.style:
        return options
    several = [
        name
        for name in (cells.NETWORK, "transform")
        if len({str(cell.place.get(name)) for cell in found}) > 1 and name != options.facet
    ]
    if several != [cells.NETWORK, "transform"]:
        return options
    return dataclasses.replace(options, color=cells.NETWORK, style="transform")


def _series(cell: Cell, quantity: str, row: str, names: Sequence[str], options: Options) -> Series:
    shown = _shown(cell.data, all_units=options.all_units)
    average = seed_average.over_seeds(shown, quantity)
    column = f"${quantity}_k$"
    one = len(options.quantities) == 1 and options.facet
    return Series(
        ("", row) if one else (row, column),
        cell.words(names),
        model=str(cell.place[cells.NETWORK]),
        variant="",
        data=str(cell.place["data"]),
        x=_x(shown, options),
        y=average.mean,
        y_se=average.se,
        seeds=average.seeds,
        points=tuple(map(str, shown["layer"].values)),
        epochs=_epochs(cell.network),
        source=cell.network.source,
    )


def _epochs(network: MeasuredNetwork) -> int | None:
    return network.config.get("training", {}).get("epochs")


def _shown(data: xr.Dataset, *, all_units: bool) -> xr.Dataset:
    """The units to plot; all of them where none has a depth."""
    if "depth" not in data.variables or data["depth"].isnull().all():
        return data.assign_coords(depth=("layer", np.arange(1.0, data.sizes["layer"] + 1)))
    return data if all_units else layers.with_depth(data)


def _x(shown: xr.Dataset, options: Options) -> np.ndarray:
    depth = schema.layer_depth(shown["depth"].values)
    if options.relative:
        return depth / depth.max()
    if not options.all_units:
        return depth
    # The units of a layer one behind the other, the last one at its depth.
    counts, seen = Counter(depth), Counter[float]()
    places = []
    for k in depth:
        seen[k] += 1
        places.append(k - 1 + seen[k] / counts[k])
    return np.array(places)


def _colors(found: Sequence[Cell], names: Sequence[str], count: int) -> list[Any]:
    if count > _FEW and cells.are_numbers(found, names):
        return list(style.sequence(count))
    return [_cycled(_COLORS, place) for place in range(count)]


def _cycled(choices: Sequence[Any], place: int) -> Any:
    return choices[place % len(choices)]


def _count(words: str, names: Sequence[str], found: Sequence[Cell]) -> str:
    """How many networks are averaged in the curves of a colour, and how many are alive."""
    counts = set()
    for cell in found:
        if cell.words(names) == words:
            average = seed_average.over_seeds(_shown(cell.data, all_units=False), "R")
            there = cell.data.sizes["seed"]
            alive = min((int(count) for count in average.seeds if count), default=0)
            counts.add(f"{alive} of {there}" if alive < there else str(there))
    return f"$n$ = {', '.join(sorted(counts))}"


def draw(
    drawn: Drawn,
    options: Options,
    new: Callable[..., Figure] = Figure,
    *,
    with_legend: bool = True,
) -> Figure:
    """Draws the curves, facets in rows and D, G, R in columns.

    Args:
      drawn: the curves, from `of_networks`.
      options: the options that they were made with.
      new: makes the figure, see `panels.grid`.
      with_legend: whether it has one beside the panels.
    """
    looks = {one.series: _look(one, drawn) for one in drawn.curves}
    series = [one.series for one in drawn.curves]
    alone = len(options.quantities) == 1

    def line(axes: Any, one: Series) -> None:
        depth_panels.bars(axes, one, looks[one])

    return depth_panels.draw(
        series,
        line,
        quantity_of=lambda panel: options.quantities if alone else panel[1].strip("$")[0],
        x_label="relative depth $k/K$" if options.relative else "depth $k$",
        handles=_handles(drawn) if with_legend else [],
        legend_title=_legend_title(drawn),
        margin=1.7 if with_legend else 0.0,
        sharey="row" if alone else "col",
        new=new,
        finish=lambda axes_of: _integers(axes_of, options),
    )


def legend(drawn: Drawn) -> Figure:
    """The legend alone, for several figures that have none."""
    figure = Figure(figsize=(0.1, 0.1))
    figure.legend(
        handles=_handles(drawn),
        title=_legend_title(drawn),
        title_fontsize=7.5,
        alignment="left",
        loc="upper left",
        ncols=2,
    )
    return figure


def _legend_title(drawn: Drawn) -> str:
    bands = panels.band_title([one.series for one in drawn.curves])
    return "\n".join(part for part in (drawn.title, bands) if part)


def _integers(axes_of: panels.Panels, options: Options) -> None:
    for axes in axes_of.values():
        if options.relative:
            axes.set_xlim(0, 1.03)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _look(one: Curve, drawn: Drawn) -> style.Look:
    place = list(drawn.colors).index(one.color)
    line = drawn.styles[one.style] if drawn.styles else _cycled(_LINES[:4], place)
    return _line_look(drawn.colors[one.color], line, _cycled(_MARKERS, place)) | {
        "elinewidth": 0.8,
        "capsize": 1.5,
    }


def _line_look(color: Any, line: Any, marker: str) -> style.Look:
    return {
        "color": color,
        "linestyle": line,
        "marker": marker,
        "markersize": 3,
        "linewidth": 1,
    }


def _handles(drawn: Drawn) -> list[Line2D]:
    several = len(drawn.colors) > 1
    colors = [
        Line2D(
            [],
            [],
            label=f"{words} ({drawn.counts[words]})" if words else drawn.counts[words],
            **_line_look(
                color,
                "-" if drawn.styles else _cycled(_LINES[:4], place),
                _cycled(_MARKERS, place),
            ),
        )
        for place, (words, color) in enumerate(drawn.colors.items())
        if several or not drawn.styles
    ]
    lines = [
        Line2D([], [], label=words, color="black", linestyle=line, linewidth=1)
        for words, line in drawn.styles.items()
    ]
    return [*colors, *lines]


def make(files: Sequence[Path], out: Path, options: Options) -> str:
    """Draws result files and writes the curves next to the picture, as `out` with the suffix .csv.

    Returns:
      What was drawn, one line per network.

    Raises:
      ValueError: if a name is unknown, or there is nothing to draw.
    """
    given = networks.read(list(dict.fromkeys(files)))
    drawn = of_networks(given, options)
    style.save(lambda: draw(drawn, options), out)
    series = [one.series for one in drawn.curves]
    write_csv(out.with_suffix(".csv"), "depth", series)
    shown = {one.source: one.model for one in series}
    lines = [f"drawn: {label}; {source}" for source, label in shown.items()]
    others = [f"not drawn: {one.source}" for one in given if one.source not in shown]
    return "\n".join([*lines, *others])
