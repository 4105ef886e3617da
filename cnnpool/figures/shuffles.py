"""What each kind of channel shuffle does to D, G and R, layer by layer.

log10 of the shuffled network's value over the original's, after training, at the nominal
displacement and cut-off, with 95 % intervals (`intervals`). Zero: the shuffle changes nothing, as
the paper says of scale detection. Above zero in R: without the interaction of channels the network
pools less, as the paper says of natural images.

A control permutes biases and batch-norm vectors alone. It separates them from their filters just as
the shuffle of both axes does, but leaves all connections between channels as they are: what it
changes is no effect of channel pooling.
"""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
import numpy as np

from cnnpool.figures import intervals, layers, panels, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.seed_average import Average
from cnnpool.figures.series import Series

ITEM = "shuffles"
STAGE = "trained"
QUANTITIES = ("D", "G", "R")
LABELS = {
    "channel_shuffle": "inputs",
    "channel_shuffle_both": "both axes",
    "channel_shuffle_recalibrated": "inputs, recalibrated",
}
CONTROL = {"channel_shuffle_vectors": "biases and norms alone"}
_NAMES = LABELS | CONTROL
COLORS = dict(zip(_NAMES, (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE), strict=True))
HEAD = "| network | shuffle | k | unit | networks | D | G | R |\n|---|---|---|---|---|---|---|---|"


def there(network: MeasuredNetwork) -> list[str]:
    """The shuffles of all layers that were measured of a trained network.

    Recalibration is left out where there is no batch normalization: it is the plain shuffle.
    """
    names = [name for name in LABELS if network.has(STAGE, name)]
    if network.has_batch_norm:
        return names
    return [name for name in names if name != "channel_shuffle_recalibrated"]


def _shown(network: MeasuredNetwork) -> list[str]:
    """The same, and the control."""
    return [*there(network), *(name for name in CONTROL if network.has(STAGE, name))]


def ratios(network: MeasuredNetwork, quantity: str, shuffle: str) -> list[intervals.Interval]:
    """log10 of the shuffled over the original quantity, layer by layer."""
    top = intervals.curve(network, quantity, stage=STAGE, transform=shuffle)
    return intervals.difference(top, intervals.curve(network, quantity, stage=STAGE))


def series(networks: Sequence[MeasuredNetwork]) -> list[Series]:
    """The curves of the figure, one row per network, D, G and R in columns.

    Raises:
      ValueError: if no network was measured both shuffled and not.
    """
    chosen = measured.choose(
        networks,
        lambda one: one.image_noise == 0 and one.has(STAGE, "none") and bool(_shown(one)),
        item=ITEM,
        needs=(
            "classifiers, shuffled and not (`"
            f"{measured.command([STAGE], ['none', *LABELS])}`), without noise in the training set"
        ),
    )
    return [one for network in chosen for one in _network_series(network)]


def _network_series(network: MeasuredNetwork) -> Iterator[Series]:
    shown = layers.with_depth(network.at_nominal())
    for quantity in QUANTITIES:
        for shuffle in _shown(network):
            found = ratios(network, quantity, shuffle)
            mean, low, _, count = (np.array(column) for column in zip(*found, strict=True))
            yield network.series(
                (network.title, f"log$_{{10}}$ {quantity} shuffled / {quantity}"),
                _NAMES[shuffle],
                x=layers.relative_depth(shown),
                y=Average(mean, mean - low, count),
                points=shown["layer"].values,
            )


def draw(curves: Sequence[Series]) -> Figure:
    """Draws the figure; bars are 95 % intervals."""
    figure, axes_of = panels.grid(curves, size=(2.4, 1.7), margin=1.8, sharex=True, sharey="row")
    color_of = {_NAMES[name]: color for name, color in COLORS.items()}
    for one in curves:
        shift = (list(color_of).index(one.curve) - 1) * 0.008  # else bars hide one another
        axes_of[one.panel].errorbar(
            one.x + shift,
            one.y,
            yerr=one.y_se,
            color=color_of[one.curve],
            marker="o",
            markersize=2.5,
            linewidth=1,
            elinewidth=0.8,
            capsize=1.5,
        )
    for axes in axes_of.values():
        axes.axhline(0, **style.REFERENCE)
        axes.set_xlim(0, 1.05)
    panels.title_rows(axes_of, lambda panel: "")
    panels.title_columns(axes_of)
    panels.label_bottom(axes_of, "relative depth $k/K$")
    drawn = {one.curve for one in curves}
    handles = panels.color_handles({name: c for name, c in color_of.items() if name in drawn})
    panels.legend(figure, handles, title="mean, 95 % interval")
    return figure


def markdown(curves: Sequence[Series]) -> str:
    """A line a network, shuffle and layer: log10 ratios of D, G and R with their intervals."""
    lines = [HEAD]
    columns = len(QUANTITIES)
    titles = list(dict.fromkeys(one.panel[0] for one in curves))
    for title in titles:
        own = [one for one in curves if one.panel[0] == title]
        per_quantity = len(own) // columns
        for place in range(per_quantity):
            lines += _lines(title, own[place::per_quantity])
    return "\n".join(lines)


def _lines(title: str, quantities: Sequence[Series]) -> Iterator[str]:
    first = quantities[0]
    for k, unit in enumerate(first.points or ()):
        cells = " | ".join(_cell(one, k) for one in quantities)
        count = 0 if first.seeds is None else int(first.seeds[k])
        yield f"| {title} | {first.curve} | {k + 1} | {unit} | {count} | {cells} |"


def _cell(one: Series, k: int) -> str:
    half = 0.0 if one.y_se is None else float(one.y_se[k])
    mean = float(one.y[k])
    return str(intervals.Interval(mean, mean - half, mean + half, 0))
