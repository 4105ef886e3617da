r"""Prints one table and draws one plot of a sweep: test error, D, G, R against what it varies.

    python -m launch.collect --sweep=launch/sweeps/grid.py --preset=tiny --out=grid.nc
    python -m cnnpool.figures sweep grid.nc
    python -m cnnpool.figures sweep grid.nc --x=batch_size --out=grid.png

launch.collect makes the parameters that a sweep varies coordinates of its file; other result files
will do where their networks have such scalar coordinates. D, G and R are those of the output after
training, at the nominal displacement and cut-off, without a transform. Bars are one standard error,
over networks (seeds), or over images of one alone; "2 of 4" networks live where others are dead.
"""

from collections.abc import Sequence

from cnnpool import command_line
from cnnpool.figures import picture_data
from cnnpool.figures.item_names import FORMATS, picture_path
from cnnpool.files import storage


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.figures sweep")
    parser.add_argument("files", type=storage.path, nargs="+", help="of launch.collect")
    parser.add_argument("--x", default="", metavar="NAME", help="parameter of the abscissae")
    parser.add_argument("--out", type=storage.path, help="picture: png, pdf, svg (sweep.png)")
    parser.add_argument("--format", choices=FORMATS, help="of the picture (the ending of --out)")
    args = parser.parse_args(argv)
    out = picture_path("sweep", args.out or storage.path("sweep"), args.format)
    picture_data.check_writable(out)
    from cnnpool.figures import sweep  # slow to import, so only now

    print(sweep.make(args.files, out, args.x))
    print(f"\nin {out}")
