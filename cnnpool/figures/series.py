"""One curve of a figure as numbers: what is drawn, and what stands in the CSV beside it.

A figure of classifiers is drawn from its series alone, so that picture and table agree.
"""

from collections.abc import Iterable
import csv
import dataclasses
import math
from pathlib import Path

import numpy as np

from cnnpool.figures import picture_data
from cnnpool.figures.seed_average import Average
from cnnpool.files.atomic_write import write_atomically
from cnnpool.shapes import Float, Int

COLUMNS = picture_data.CURVES


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """One curve, or one point of a scatter plot.

    Attributes:
      panel: row and column of the panel, as they are headed; "" where there is only one.
      curve: what the curve is, by its line's style or colour: "trained", "channels shuffled".
      model: the config's name of the network: "vgg11_bn".
      variant: in what it differs from the plain network: "noise 10"; "" for the plain one.
      data: the config's name of the data set: "cifar10".
      x: abscissae.
      y: ordinates, NaN where undefined.
      x_se: standard errors of x; None for none.
      y_se: standard errors of y, NaN where unknown; None for none.
      seeds: networks averaged at every point; None where nothing is averaged.
      points: what each point is: a layer's unit, an eigenvalue; None for nothing.
      epochs: how long the network was trained, by its config; None for what is not said.
      source: where the numbers come from, for messages; not in the CSV.
    """

    panel: tuple[str, str]
    curve: str
    model: str
    variant: str
    data: str
    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]
    x_se: Float[np.ndarray, " points"] | None = None
    y_se: Float[np.ndarray, " points"] | None = None
    seeds: Int[np.ndarray, " points"] | None = None
    points: tuple[str, ...] | None = None
    epochs: int | None = None
    source: str = ""


def of_averages(
    panel: tuple[str, str],
    curve: str,
    owner: tuple[str, str, str],
    *,
    x: Average | np.ndarray,
    y: Average | np.ndarray,
    points: Iterable[object] = (),
    epochs: int | None = None,
    source: str = "",
) -> Series:
    """A series of numbers or of averages over seeds.

    Args:
      panel: row and column.
      curve: what the curve is.
      owner: model, variant and data of the network.
      x: numbers, or averages with standard errors.
      y: likewise; the numbers of seeds are its.
      points: what every point is; nothing if empty.
      epochs: how long the network was trained, by its config.
      source: where the numbers come from, for messages.
    """
    return Series(
        panel,
        curve,
        *owner,
        x=x.mean if isinstance(x, Average) else x,
        y=y.mean if isinstance(y, Average) else y,
        x_se=x.se if isinstance(x, Average) else None,
        y_se=y.se if isinstance(y, Average) else None,
        seeds=y.seeds if isinstance(y, Average) else None,
        points=tuple(map(str, points)) or None,
        epochs=epochs,
        source=source,
    )


def rows(figure: str, series: Series) -> list[tuple]:
    """The rows of one series, in the order of `COLUMNS`; a missing number is an empty cell."""
    size = len(series.x)
    panel = ", ".join(part for part in series.panel if part)
    network = f"{series.model}, {series.variant}" if series.variant else series.model
    epochs = "" if series.epochs is None else series.epochs
    head = (figure, _plain(panel), _plain(series.curve), network, series.data, epochs)
    empty = ("",) * size
    columns = (
        series.points or empty,
        *(_cells(values, size) for values in (series.x, series.y, series.x_se, series.y_se)),
        empty if series.seeds is None else tuple(int(count) for count in series.seeds),
    )
    return [(*head, *cells) for cells in zip(*columns, strict=True)]


def _plain(label: str) -> str:
    return label.replace("$", "")


def _cells(values: np.ndarray | None, size: int) -> tuple[str, ...]:
    if values is None:
        return ("",) * size
    return tuple("" if math.isnan(value) else f"{value:.8g}" for value in values)


def write_csv(path: Path, figure: str, series: Iterable[Series]) -> None:
    """Writes all series of a figure as one tidy table, one line per point.

    Args:
      path: of the CSV; its folder is made if absent.
      figure: "fig2", for the first column.
      series: in the order of drawing.
    """

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for one in series:
                writer.writerows(rows(figure, one))

    write_atomically(path, write)
