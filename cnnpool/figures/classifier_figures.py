"""The figures of image classifiers: from result files to a picture, its data as CSV, and text."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from cnnpool.figures import (
    delta_cutoff,
    dynamics,
    fig5,
    fig6,
    fig8,
    networks,
    noise,
    shuffles,
    style,
)
from cnnpool.figures.figure_rows import ROWS
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series, write_csv


def _no_text(series: Sequence[Series]) -> str:
    return ""


class ClassifierFigure(NamedTuple):
    """One figure.

    Attributes:
      series: the curves of the networks that it shows; ValueError if there are none.
      draw: the picture of the curves.
      markdown: numbers to print.
    """

    series: Callable[[Sequence[MeasuredNetwork]], list[Series]]
    draw: Callable[[Sequence[Series]], Figure]
    markdown: Callable[[Sequence[Series]], str] = _no_text


FIGURES = {
    **{item: ClassifierFigure(row.series, row.draw) for item, row in ROWS.items()},
    "fig5": ClassifierFigure(fig5.series, fig5.draw, fig5.markdown),
    "fig6": ClassifierFigure(fig6.series, fig6.draw),
    "fig8": ClassifierFigure(fig8.series, fig8.draw),
    "noise": ClassifierFigure(noise.series, noise.draw, noise.markdown),
    "delta_cutoff": ClassifierFigure(delta_cutoff.series, delta_cutoff.draw),
    "shuffles": ClassifierFigure(shuffles.series, shuffles.draw, shuffles.markdown),
    "dynamics": ClassifierFigure(dynamics.series, dynamics.draw),
}


def make(item: str, files: Sequence[Path], out: Path) -> str:
    """Draws a figure and writes its curves next to it, as `out` with the suffix .csv.

    Args:
      item: a key of `FIGURES`.
      files: result files, one per run; the figure selects from their networks.
      out: the picture.

    Returns:
      Which networks were drawn and which were not, and the figure's numbers.

    Raises:
      ValueError: if no file holds what the figure shows, or a stage or transform is missing.
    """
    figure = FIGURES[item]
    given = networks.read(files)
    series = figure.series(given)
    style.save(lambda: figure.draw(series), out)
    write_csv(out.with_suffix(".csv"), item, series)
    drawn = {one.source for one in series}
    ordered = networks.in_order(given)
    lines = [_described(one) for one in ordered if one.source in drawn]
    others = [f"  {one.title}: {one.source}" for one in ordered if one.source not in drawn]
    lines += ["not drawn:", *others] if others else []
    return "\n\n".join(part for part in ("\n".join(lines), figure.markdown(series)) if part)


def _described(network: MeasuredNetwork) -> str:
    seeds = network.dataset.sizes["seed"]
    training = f"{network.epochs} epochs" if network.epochs else "imported"
    clean = network.image_noise and not network.measured_under_noise
    images = ", measured on clean images" if clean else ""
    return (
        f"drawn: {network.title}{images}, {seeds} network{'s' if seeds > 1 else ''}, "
        f"{training}; data: {network.dataset.attrs['data_source']}; {network.source}"
    )
