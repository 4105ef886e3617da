"""Figure 4: D_k and G_k of the simple CNNs against the receptive field size A_k.

Points are the ReLU layers k = 1..K. The x axis is the theory's A_k for every curve;
the measured A_k is shown in a separate panel (docs/protocol.md, Scale detection in one dimension).
"""

from collections.abc import Iterator
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
import xarray as xr

from cnnpool.figures import panels, seed_average, style
from cnnpool.figures.power_law import Slope, log_log_slope, slope_over_seeds
from cnnpool.figures.seed_average import Average
from cnnpool.figures.series import Series, of_averages

FIT_RANGE = (2, 9)  # fixed before anything was measured
OTHER_RANGES = ((1, 9), (4, 12))
PAPER_EXPONENT = {"D": -2.0, "G": 1.0}
EXACT = "constant filters, exact"


class Curve(NamedTuple):
    """One curve of the figure: which networks, and how it is drawn."""

    label: str
    stage: str
    transform: str
    look: dict


CURVES = (
    Curve("initialization", "init", "none", style.INIT),
    Curve("trained", "trained", "none", style.TRAINED),
    Curve("trained, mean channel", "trained", "mean_channel_activations", style.TRAINED_DOTTED),
)


class SlopeRow(NamedTuple):
    """The slope of one curve over one range of layers."""

    curve: str
    quantity: str
    first: int
    last: int
    measured: Slope
    predicted: float


def relu_layers(dataset: xr.Dataset) -> xr.Dataset:
    """The layers that the figure plots: convolutions after their ReLU, k = 1..K."""
    names = [name for name in dataset["layer"].values if str(name).startswith("relu")]
    return dataset.sel(layer=names)


def present_curves(dataset: xr.Dataset) -> Iterator[tuple[Curve, xr.Dataset]]:
    """The curves whose stage and transform the dataset holds.

    Raises:
      ValueError: if it holds none, saying what to measure.
    """
    layers = relu_layers(dataset)
    found = [
        (curve, layers.sel(stage=curve.stage, transform=curve.transform))
        for curve in CURVES
        if curve.stage in layers["stage"] and curve.transform in layers["transform"]
    ]
    if not found:
        raise ValueError(
            "Figure 4 needs stages init and trained with transforms none and "
            f"mean_channel_activations; got stages {list(layers['stage'].values)}, transforms "
            f"{list(layers['transform'].values)}"
        )
    yield from found


def slope_rows(dataset: xr.Dataset) -> list[SlopeRow]:
    """Slopes of log D and log G against log A_k over the fixed range and the others.

    A range ends at the last layer; one of fewer than two layers is left out.
    """
    rows = []
    depth = int(relu_layers(dataset)["depth"].max())
    for first, end in (FIT_RANGE, *OTHER_RANGES):
        last = min(end, depth)
        if last <= first:
            continue
        for curve, cell in present_curves(dataset):
            part = cell.isel(layer=(cell["depth"] >= first) & (cell["depth"] <= last))
            sizes = part["A_theory"].values
            for name in ("D", "G"):
                values = part[name].transpose("seed", "layer").values
                predicted = log_log_slope(sizes, part[f"{name}_theory"].values)
                measured = slope_over_seeds(sizes, values)
                rows.append(SlopeRow(curve.label, name, first, last, measured, predicted))
    return rows


def slopes_markdown(dataset: xr.Dataset) -> str:
    """The slopes as a markdown table."""
    lines = [
        "| curve | quantity | layers k | slope ± se over seeds | exact finite ring | paper |",
        "|---|---|---|---|---|---|",
    ]
    for row in slope_rows(dataset):
        paper = PAPER_EXPONENT[row.quantity] if row.curve != CURVES[0].label else None
        lines.append(
            f"| {row.curve} | {row.quantity}_k | {row.first}..{row.last} "
            f"| {row.measured.mean:+.3f} ± {row.measured.se:.3f} "
            f"| {row.predicted:+.3f} | {'' if paper is None else f'{paper:+.0f}'} |"
        )
    return "\n".join(lines)


def series(dataset: xr.Dataset) -> list[Series]:
    """All curves of the figure: D, G and A measured (A not of mean channels), and the theory's."""
    curves = [
        _series(name, curve.label, cell["A_theory"], seed_average.over_seeds(cell, name))
        for curve, cell in present_curves(dataset)
        for name in ("D", "G", "A")
        if name != "A" or curve.transform == "none"
    ]
    layers = relu_layers(dataset)
    for name in ("D", "G"):
        exact = layers[f"{name}_theory"].values
        curves.append(_series(name, EXACT, layers["A_theory"], exact))
    return curves


def _series(quantity: str, curve: str, sizes: xr.DataArray, y: Average | np.ndarray) -> Series:
    names = sizes["layer"].values
    owner = ("simple_cnn", "", "scale1d")
    return of_averages(("", quantity), curve, owner, x=sizes.values, y=y, points=names)


def draw(dataset: xr.Dataset) -> Figure:
    """The figure: D_k and G_k against A_k, and A_k measured against A_k predicted."""
    figure = Figure(figsize=(10.5, 3.3), layout="constrained")
    all_axes = dict(zip("DGA", figure.subplots(1, 3), strict=True))
    looks = {curve.label: curve.look for curve in CURVES} | {EXACT: style.THEORY}
    for one in series(dataset):
        panels.line(all_axes[one.panel[1]], one, looks[one.curve] | {"label": one.curve})
    for name in ("D", "G"):
        axes = all_axes[name]
        _guide(axes, relu_layers(dataset), name)
        axes.set(xscale="log", yscale="log", xlabel="$A_k$ (theory, pixels)", ylabel=f"${name}_k$")
        style.plain_log_ticks(axes.xaxis)
        style.plain_log_ticks(axes.yaxis)
    sizes = relu_layers(dataset)["A_theory"].values
    all_axes["A"].plot(sizes, sizes, **style.THEORY, label="measured = theory")
    all_axes["A"].set(xlabel="$A_k$ (theory, pixels)", ylabel="$A_k$ (measured, pixels)")
    all_axes["D"].legend()
    all_axes["A"].legend()
    seeds = dataset.sizes["seed"]
    all_axes["D"].set_title(f"mean of {seeds} network{'s' if seeds > 1 else ''}, ± se", fontsize=8)
    return figure


def _guide(axes: Axes, layers: xr.Dataset, name: str) -> None:
    sizes, predicted = layers["A_theory"].values, layers[f"{name}_theory"].values
    exponent = PAPER_EXPONENT[name]
    guide = 0.6 * predicted[1] * (sizes / sizes[1]) ** exponent
    axes.plot(sizes, guide, **style.GUIDE, label=f"slope {exponent:+.0f} (paper)")
