r"""Draws a figure, prints a table or writes the report, from result files.

    python -m cnnpool.figures fig4 --results a.nc b.nc --out fig4.png
    python -m cnnpool.figures table1 --results a.nc b.nc --out table1.md
    python -m cnnpool.figures fig2 --results vgg11.nc vgg11_bn.nc --out fig2 --format=svg
    python -m cnnpool.figures report --results results/items.toml

| item | shows | of |
|---|---|---|
| fig2, fig7 | R_k against depth, channels shuffled or not | VGGs; others; natural images |
| fig3, fig9, fig10 | filter spectra | VGG11, VGG11-bn; imported deeper VGGs; AlexNet, LeNet |
| fig4, table1 | D, G, A of simple CNNs; their mean filters | one 1-D run |
| fig5 | test error against D, G, R | networks on 2-D scale detection |
| fig6 | D, G, R against depth | convolutional networks on 2-D scale detection |
| fig8 | mean frequency of filters against depth | convolutional networks |
| noise | test error against D, G, R | CIFAR-10 with and without noise in training |
| delta_cutoff | R against displacement and cut-off | natural images |
| dynamics | D, G, R against the epoch | networks measured at several epochs |
| shuffles | what each kind of shuffle does to D, G, R | deep networks |
| paired | what differs between networks of the same seeds | two files |
| claims | each claim as a statistic with a verdict | convolutional networks |
| report | all results as pages | items.toml, provenance.toml; see cnnpool.figures.report |

fig4 and table1 take the files of one run, at stages init and trained. The others take one file a
run and choose from all that are given those that they show; what was not used is said. Beside a
picture lies its data, `NAME.csv`, a line a point: figure, panel, curve, network, data, epochs,
point, x, y, standard errors, and how many networks were averaged.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import xarray as xr

from cnnpool import command_line
from cnnpool.figures import claims, deep_figures, fig4, networks, paired, report, style, table1
from cnnpool.figures.series import write_csv
from cnnpool.files import results, storage
from cnnpool.files.atomic_write import write_text

FORMATS = ("png", "pdf", "svg")


def _fig4(files: Sequence[Path], out: Path) -> str:
    dataset = _one_run(files)
    style.save(lambda: fig4.draw(dataset), out)
    write_csv(out.with_suffix(".csv"), "fig4", fig4.series(dataset))
    return fig4.slopes_markdown(dataset)


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


def _report(files: Sequence[Path], out: Path | None) -> str:
    if len(files) != 1:
        raise ValueError("report needs one file, --results items.toml")
    return report.write(files[0], html_file=out)


def _one_run(files: Sequence[Path]) -> xr.Dataset:
    dataset = results.merge_stages([results.read(path) for path in files])
    if "mean_filter" not in dataset:
        raise ValueError(
            f"fig4 and table1 are of simple CNNs on a ring, runs of configs/scale1d.py; got "
            f"{', '.join(map(str, files))}, of a deep network"
        )
    return dataset


PICTURES: dict[str, Callable[[Sequence[Path], Path], str]] = {
    "fig4": _fig4,
    **{item: partial(deep_figures.make, item) for item in deep_figures.FIGURES},
}
TEXTS: dict[str, Callable[[Sequence[Path], Path | None], str]] = {
    "table1": _table1,
    "claims": _claims,
    "paired": _paired,
    "report": _report,
}
ITEMS = (*PICTURES, *TEXTS)


def make(item: str, files: Sequence[Path], out: Path | None) -> str:
    """Makes one item.

    Args:
      item: of `ITEMS`.
      files: result files; of the report its items.toml.
      out: where to, a picture's with its ending; a table may be printed only, and of the report
        this is its HTML page, without it report.html beside items.toml.

    Returns:
      Text to print: which networks were drawn, slopes, correlations, the table.

    Raises:
      ValueError: if a file does not hold what the item needs, or `out` is no picture's name.
    """
    if item in PICTURES:
        return PICTURES[item](files, picture_path(item, out, None))
    return TEXTS[item](files, out)


def picture_path(item: str, out: Path | None, picture_format: str | None) -> Path:
    """Where a picture goes, its ending completed.

    Raises:
      ValueError: if `out` is None, or has another ending than the format.
    """
    allowed = FORMATS if picture_format is None else (picture_format,)
    if out is not None and not out.suffix:
        return out.with_name(f"{out.name}.{picture_format or 'png'}")
    if out is None or out.suffix.removeprefix(".") not in allowed:
        raise ValueError(
            f"{item} needs --out with one of the endings {', '.join(f'.{end}' for end in allowed)}"
            f"; got {out}"
        )
    return out


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.figures")
    parser.add_argument("item", choices=ITEMS, help="what to make")
    parser.add_argument(
        "--results", type=storage.path, nargs="+", required=True, help="result files"
    )
    parser.add_argument(
        "--out", type=storage.path, help="picture (png, pdf, svg), markdown or html file"
    )
    parser.add_argument("--format", choices=FORMATS, help="of a picture (the ending of --out; png)")
    args = parser.parse_args(argv)
    out = args.out
    if args.item in PICTURES:
        out = picture_path(args.item, out, args.format)
    elif args.format is not None:
        parser.error(f"{args.item} is no picture; leave out --format={args.format}")
    print(make(args.item, args.results, out))
    if out is not None:
        print(f"\nin {out}")


if __name__ == "__main__":
    command_line.run(main)
