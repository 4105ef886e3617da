r"""Draws figures and prints tables of any networks, and those of the paper, from result files.

For any networks, including your own; each of these has its own flags, see `figures depth --help`:

    python -m cnnpool.figures depth mine.nc other.nc --color=network --style=transform
    python -m cnnpool.figures report mine.nc other.nc
    python -m cnnpool.figures perturbations cat.jpg dog.jpg --deltas=1,3
    python -m cnnpool.figures sweep sweep.nc --x=learning_rate

| item | shows |
|---|---|
| depth | D, G, R against depth; any dimension, coordinate or file by colour, line or panel |
| report | one HTML page about networks; from items.toml, the pages of this project's results |
| perturbations | x, tau(x) and x + eta for the images of a run, of a config or your own |
| sweep | error, D, G, R against the parameters that a sweep varies |

Items of the paper:

    python -m cnnpool.figures fig4 --results a.nc b.nc --out fig4.png
    python -m cnnpool.figures table1 --results a.nc b.nc --out table1.md
    python -m cnnpool.figures widths --results h64.nc h256.nc h1000.nc --out widths.png
    python -m cnnpool.figures fig2 --results vgg11.nc vgg11_bn.nc --out fig2 --format=svg

| item | shows | for |
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
| widths | slopes of fig4, filters of table1 against the number of channels | 1-D runs |
| shuffles | what each kind of shuffle does to D, G, R | image classifiers |
| paired | what differs between networks of the same seeds | two files |
| claims | each claim as a statistic with a verdict | convolutional networks |

fig4 and table1 take the files of one run, at stages init and trained. widths takes one file per
width, at stage trained with transforms none and mean_channel_activations, of runs that differ in
width and seeds alone. The others take one file per run, select those that they show, and list the
files that were not used. The data is written next to
the picture, as `NAME.csv`, one line per point: figure, panel, curve, network, data, epochs, point,
x, y, standard errors, and how many networks were averaged.
"""

from collections.abc import Sequence
import importlib

from cnnpool import command_line
from cnnpool.figures import picture_data
from cnnpool.figures.item_names import (
    COMMANDS,
    FORMATS,
    ITEMS,
    PICTURES,
    TEXT_ENDINGS,
    picture_path,
)
from cnnpool.files import storage


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    if argv and argv[0] in COMMANDS:
        importlib.import_module(f"cnnpool.figures.{COMMANDS[argv[0]]}").main(argv[1:])
        return
    parser = command_line.parser(__doc__, "cnnpool.figures")
    parser.add_argument("item", choices=ITEMS, help="what to make")
    parser.add_argument(
        "--results", type=storage.path, nargs="+", required=True, help="result files"
    )
    parser.add_argument("--out", type=storage.path, help="picture (png, pdf, svg) or markdown file")
    parser.add_argument("--format", choices=FORMATS, help="of a picture (the ending of --out; png)")
    args = parser.parse_args(argv)
    out = args.out
    if args.item in PICTURES:
        out = picture_path(args.item, out, args.format)
        picture_data.check_writable(out)
    elif args.format is not None:
        parser.error(f"{args.item} is no picture; leave out --format={args.format}")
    elif out is not None and out.suffix not in ("", *TEXT_ENDINGS):
        endings = " or ".join(TEXT_ENDINGS)
        parser.error(f"{args.item} is written as Markdown; expected --out in {endings}, got {out}")
    elif out is not None:
        command_line.check_writable(out)
    from cnnpool.figures import items  # slow to import, so only now

    print(items.make(args.item, args.results, out))
    if out is not None:
        print(f"\nin {out}")


if __name__ == "__main__":
    command_line.run(main)
