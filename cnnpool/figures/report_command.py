r"""Writes one HTML page of any networks, or the pages of this project's results.

    python -m cnnpool.figures report mine.nc other.nc
    python -m cnnpool.figures report runs/*.nc --label mine.nc=Mine --out=networks.html
    python -m cnnpool.figures report --results results/items.toml

From result files (.nc) it makes one self-contained page, report.html unless --out says otherwise,
with curves of D, G and R, which layer pools what, filter spectra where a file has them, dead
layers, warnings, and where each file comes from.

From an items.toml it makes the pages of the results in the same folder: the paper's items with
their verdicts (see cnnpool.figures.report); --out is the HTML page.
"""

from collections.abc import Sequence
from pathlib import Path

from cnnpool import command_line
from cnnpool.figures import flags
from cnnpool.files import storage

_ITEMS = ".toml"


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.figures report")
    parser.add_argument("files", type=storage.path, nargs="*", help="result files, or items.toml")
    parser.add_argument("--results", type=storage.path, nargs="+", help="the same")
    flags.add_labels(parser)
    parser.add_argument("--out", type=storage.path, help="the page (report.html)")
    args = parser.parse_args(argv)
    files = [*args.files, *(args.results or [])]
    items = [path for path in files if path.suffix == _ITEMS]
    if not files or (items and len(files) > 1):
        parser.error("give result files (.nc), or one items.toml")
    if items and args.label:
        parser.error("--label is of networks: it goes with result files")
    out = args.out
    if out is not None and out.suffix not in (".html", ".htm"):
        parser.error(f"--out={out}: a page is written; expected a name that ends in .html")
    page = out or Path("report.html")
    if files or out is not None:
        command_line.check_writable(page)
    if items:
        from cnnpool.figures import report  # slow to import, so only now; so below

        print(report.write(items[0], html_file=out))
        if out is not None:
            print(f"\nin {out}")
        return
    from cnnpool.figures import network_report

    print(network_report.write(files, page, dict(args.label)))
    print(f"\nin {page}")
