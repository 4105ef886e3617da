"""From the name of a figure, table or report to its files."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import xarray as xr

from cnnpool.figures import (
    claims,
    classifier_figures,
    fig4,
    networks,
    paired,
    style,
    table1,
    widths,
)
from cnnpool.figures.item_names import picture_path
from cnnpool.figures.series import write_csv
from cnnpool.files import results
from cnnpool.files.atomic_write import write_text


def _fig4(files: Sequence[Path], out: Path) -> str:
    dataset = _one_run(files)
    style.save(lambda: fig4.draw(dataset), out)
    write_csv(out.with_suffix(".csv"), "fig4", fig4.series(dataset))
    return fig4.slopes_markdown(dataset)


def _widths(files: Sequence[Path], out: Path) -> str:
    curves = widths.series([_one_run([file]) for file in files])
    style.save(lambda: widths.draw(curves), out)
    write_csv(out.with_suffix(".csv"), widths.ITEM, curves)
    return widths.markdown(curves)


def _table1(files: Sequence[Path], out: Path | None) -> str:
    return _written(table1.markdown(_one_run(files)), out)


def _claims(files: Sequence[Path], out: Path | None) -> str:
    return _written(claims.markdown(networks.read(files)), out)


def _paired(files: Sequence[Path], out: Path | None) -> str:
    return _written(paired.markdown(networks.read(files)), out)


def _written(text: str, out: Path | None) -> str:
    if out is not None:
        write_text(out, text)
    return text


def _one_run(files: Sequence[Path]) -> xr.Dataset:
    dataset = results.merge_stages([results.read(path) for path in files])
    if "mean_filter" not in dataset:
        raise ValueError(
            "fig4, table1 and widths are of simple CNNs on a ring, runs of configs/scale1d.py; "
            f"got {', '.join(map(str, files))}, of a classifier"
        )
    return dataset


PICTURES: dict[str, Callable[[Sequence[Path], Path], str]] = {
    "fig4": _fig4,
    widths.ITEM: _widths,
    **{item: partial(classifier_figures.make, item) for item in classifier_figures.FIGURES},
}
TEXTS: dict[str, Callable[[Sequence[Path], Path | None], str]] = {
    "table1": _table1,
    "claims": _claims,
    "paired": _paired,
}


def make(item: str, files: Sequence[Path], out: Path | None) -> str:
    """Makes one item.

    Args:
      item: a key of `PICTURES` or `TEXTS`.
      files: result files.
      out: the path to write, with its suffix for a picture; None only prints a table.

    Returns:
      Text to print: which networks were drawn, slopes, correlations, the table.

    Raises:
      ValueError: if a file does not hold what the item needs, or `out` is no picture's name.
    """
    if item in PICTURES:
        return PICTURES[item](files, picture_path(item, out, None))
    return TEXTS[item](files, out)
