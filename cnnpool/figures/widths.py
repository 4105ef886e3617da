"""How the slopes of Figure 4 and the filters of Table 1 depend on the number of channels.

The paper shows one width, H = 1000, and compares with constant filters. For each width: the slopes
of log D and log G against log A_k over the layers of `fig4.FIT_RANGE`, and the mean over layers 2
to 9 and taps of the channel-averaged filters; means over networks and their standard errors.
"""

from collections.abc import Sequence
import json
from typing import NamedTuple

from matplotlib.figure import Figure
import numpy as np
import xarray as xr

from cnnpool.figures import fig4, style, table1
from cnnpool.figures.power_law import log_log_slope
from cnnpool.figures.seed_average import Average, over_seeds
from cnnpool.figures.series import Series, of_averages

ITEM = "widths"
SINGLE = "single networks"
PAPER = "paper, one network"
FILTER = "mean filter"
CURVES = fig4.CURVES[1:]  # those of trained networks
LABELS = {"D": "slope of $D_k$", "G": "slope of $G_k$", FILTER: "mean filter, layers 2 to 9"}
LOOKS: dict[str, style.Look] = {
    **{curve.label: curve.look for curve in fig4.CURVES},
    SINGLE: {"color": "0.6", "linestyle": "none", "marker": ".", "markersize": 4},
    fig4.EXACT: style.THEORY,
    PAPER: {"color": "tab:red", "linestyle": "none", "marker": "*", "markersize": 7},
}


class Width(NamedTuple):
    """The networks of one width.

    Attributes:
      channels: H.
      dataset: their measurement, at stage trained.
    """

    channels: int
    dataset: xr.Dataset


def in_order(datasets: Sequence[xr.Dataset]) -> list[Width]:
    """Sorts measurements by width.

    Raises:
      ValueError: if a width occurs twice, the runs differ in more than width and seeds, or a curve
        was not measured.
    """
    configs = [json.loads(one.attrs["config"]) for one in datasets]
    for config in configs:  # neither of these changes a number
        config["training"].pop("skip_zero_gradients", None)
        config["measurement"].pop("batch_size", None)
    channels = [config["model"].pop("width") for config in configs]
    if len(set(channels)) < len(channels):
        raise ValueError(f"{ITEM} needs one file per width; got widths {sorted(channels)}")
    for width, config in zip(channels, configs, strict=True):
        for section in ("data", "model", "training", "measurement"):
            if config[section] != configs[0][section]:
                raise ValueError(
                    f"{ITEM} compares runs that differ in width and seeds alone; those of widths "
                    f"{channels[0]} and {width} have {section} {configs[0][section]} and "
                    f"{config[section]}"
                )
    for one in datasets:
        there = [curve.label for curve, _ in fig4.present_curves(one)]
        if not {curve.label for curve in CURVES}.issubset(there):
            raise ValueError(
                f"{ITEM} needs stage trained with transforms "
                f"{' and '.join(curve.transform for curve in CURVES)}; got the curves {there}"
            )
    pairs = zip(channels, datasets, strict=True)
    return [Width(*pair) for pair in sorted(pairs, key=lambda pair: pair[0])]


def series(datasets: Sequence[xr.Dataset]) -> list[Series]:
    """Slopes of D and G of every curve of Figure 4 but the first, and mean filters, by width."""
    widths = in_order(datasets)
    found = []
    for quantity in ("D", "G"):
        for curve in CURVES:
            values = [_slopes(one.dataset, curve, quantity) for one in widths]
            found += _curve(quantity, curve.label, widths, values)
        exact = [_exact(one.dataset, quantity) for one in widths]
        found.append(_series(quantity, fig4.EXACT, _channels(widths), np.array(exact)))
    filters = [_mean_filters(one.dataset) for one in widths]
    found += _curve(FILTER, CURVES[0].label, widths, filters)
    if table1.filters(widths[0].dataset, "trained").shape[1:] != np.shape(table1.PAPER_TRAINED):
        return found  # of another protocol than the paper's
    paper = np.mean(table1.PAPER_TRAINED[1 : table1.POSITIVE_LAYERS])
    return [*found, _series(FILTER, PAPER, np.array([1000.0]), np.array([paper]))]


def _channels(widths: Sequence[Width]) -> np.ndarray:
    return np.array([float(one.channels) for one in widths])


def _fitted(dataset: xr.Dataset) -> xr.Dataset:
    layers = fig4.relu_layers(dataset)
    first, last = fig4.FIT_RANGE
    return layers.isel(layer=(layers["depth"] >= first) & (layers["depth"] <= last))


def _slopes(dataset: xr.Dataset, curve: fig4.Curve, quantity: str) -> np.ndarray:
    """The slope of each network."""
    cell = _fitted(dataset).sel(stage=curve.stage, transform=curve.transform)
    values = cell[quantity].transpose("seed", "layer").values
    return np.array([log_log_slope(cell["A_theory"].values, one) for one in values])


def _exact(dataset: xr.Dataset, quantity: str) -> float:
    part = _fitted(dataset)
    return log_log_slope(part["A_theory"].values, part[f"{quantity}_theory"].values)


def _mean_filters(dataset: xr.Dataset) -> np.ndarray:
    """The mean filter of each network, over layers 2 to 9 and taps."""
    trained = table1.filters(dataset, "trained")
    chosen = trained.isel(layer=slice(1, table1.POSITIVE_LAYERS))
    return chosen.mean(("layer", "tap")).values


def _curve(
    quantity: str, curve: str, widths: Sequence[Width], values: Sequence[np.ndarray]
) -> list[Series]:
    """Means over the networks of each width, and the networks themselves."""
    averages = [_average(one) for one in values]
    mean = Average(*(np.array(part) for part in zip(*averages, strict=True)))
    found = [_series(quantity, curve, _channels(widths), mean)]
    if curve == CURVES[0].label:
        channels = np.repeat(_channels(widths), [len(one) for one in values])
        found.append(_series(quantity, SINGLE, channels, np.concatenate(values)))
    return found


def _average(values: np.ndarray) -> Average:
    return over_seeds(xr.Dataset({"value": ("seed", values)}), "value")


def _series(quantity: str, curve: str, x: np.ndarray, y: Average | np.ndarray) -> Series:
    return of_averages(("", quantity), curve, ("simple_cnn", "", "scale1d"), x=x, y=y)


def markdown(curves: Sequence[Series]) -> str:
    """Means over networks and their standard errors, by width."""
    averaged = [one for one in curves if one.seeds is not None]
    head = ["H", "networks", *(f"{_plain(one.panel[1])}, {one.curve}" for one in averaged)]
    lines = [f"| {' | '.join(head)} |", "| ---: " * len(head) + "|"]
    for row, channels in enumerate(averaged[0].x):
        counts = max(int(one.seeds[row]) for one in averaged if one.seeds is not None)
        cells = [_cell(one, row) for one in averaged]
        lines.append(f"| {channels:.0f} | {counts} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _plain(quantity: str) -> str:
    return LABELS[quantity].replace("$", "")


def _cell(one: Series, row: int) -> str:
    digits, sign = (5, "") if one.panel[1] == FILTER else (2, "+")
    error = float("nan") if one.y_se is None else one.y_se[row]
    return f"{one.y[row]:{sign}.{digits}f} ± {error:.{digits}f}"


def draw(curves: Sequence[Series]) -> Figure:
    """Slopes of D and of G, and the mean filters, each in a panel, with standard errors."""
    figure = Figure(figsize=(10.5, 3.0), layout="constrained")
    axes_of = dict(zip(LABELS, figure.subplots(1, 3), strict=True))
    for one in curves:
        look = LOOKS[one.curve] | {"label": one.curve, "capsize": 2}
        axes_of[one.panel[1]].errorbar(one.x, one.y, one.y_se, **look)
    for quantity, axes in axes_of.items():
        if quantity in fig4.PAPER_EXPONENT:
            axes.axhline(fig4.PAPER_EXPONENT[quantity], **style.GUIDE, label="paper, asymptotic")
        else:
            axes.set_yscale("log")
            style.readable_log_ticks(axes.yaxis)
        axes.set(xscale="log", xlabel="channels $H$", ylabel=LABELS[quantity])
        style.plain_log_ticks(axes.xaxis)
    axes_of["D"].legend()
    axes_of[FILTER].legend()
    return figure
