r"""Draws D, G and R against depth for any networks, from any result files.

    python -m cnnpool.figures depth *.nc
    python -m cnnpool.figures depth *.nc --color=network --style=transform --facet=cutoff
    python -m cnnpool.figures depth a.nc b.nc --label a.nc=Mine --label b.nc=Theirs --quantities=R
    python -m cnnpool.figures depth *.nc --select stage=trained --select transform=none --relative

There is a curve for every network, stage, transform, delta, cutoff and kind of noise that a file
holds. --color, --style and --facet name what colours, line styles and panels stand for: network,
file, model, data, any dimension of the files (including seed and shuffle, which are averaged over
otherwise), and any coordinate, such as the parameters of a sweep. Differences that are not named
are shown by colour. Networks that have the same name are distinguished by their file names.

Error bars are one standard error: over the networks (seeds) of a run, or over images where there is
only one; they include the spread over random shuffles. Networks that are dead in a layer are left
out there, and the legend says so: n = 2 of 4. The data is written next to the picture, NAME.csv.
"""

from collections.abc import Sequence

from cnnpool import command_line
from cnnpool.figures import flags, picture_data
from cnnpool.figures.item_names import FORMATS, picture_path
from cnnpool.files import storage


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.figures depth")
    parser.add_argument("files", type=storage.path, nargs="+", help="result files")
    parser.add_argument("--color", default="", metavar="NAME", help="what colours tell apart")
    parser.add_argument("--style", default="", metavar="NAME", help="what lines tell apart")
    parser.add_argument("--facet", default="", metavar="NAME", help="what panels tell apart")
    parser.add_argument(
        "--select",
        type=flags.pair,
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="only these curves; may be given several times",
    )
    flags.add_labels(parser)
    parser.add_argument("--quantities", default="DGR", help="of D, G and R (%(default)s)")
    parser.add_argument("--relative", action="store_true", help="against relative depth k/K")
    parser.add_argument(
        "--all_units", action="store_true", help="not only the last unit of every layer"
    )
    parser.add_argument(
        "--out", type=storage.path, default="depth", help="picture: png, pdf, svg (depth.png)"
    )
    parser.add_argument("--format", choices=FORMATS, help="of the picture (the ending of --out)")
    args = parser.parse_args(argv)
    out = picture_path("depth", args.out, args.format)
    picture_data.check_writable(out)
    from cnnpool.figures import depth  # slow to import, so only now

    options = depth.Options(
        color=args.color,
        style=args.style,
        facet=args.facet,
        select={name: [v for n, v in args.select if n == name] for name, _ in args.select},
        labels=dict(args.label),
        quantities=args.quantities,
        relative=args.relative,
        all_units=args.all_units,
    )
    print(depth.make(args.files, out, options))
    print(f"\nin {out}")
