"""Draws a figure or prints a table of the paper from result files.

    python -m cnnpool.figures fig4 --results a.nc b.nc --out fig4.png
    python -m cnnpool.figures table1 --results a.nc b.nc --out table1.md

The files are of one run, at the stages that the item needs (Figure 4 and Table 1:
init and trained). fig4 prints its slopes; a table is printed and written as markdown.
"""

from collections.abc import Sequence
from pathlib import Path

from cnnpool import command_line, results
from cnnpool.atomic_write import write_atomically
from cnnpool.figures import fig4, style, table1

ITEMS = ("fig4", "table1")
PICTURES = (".png", ".pdf", ".svg")


def make(item: str, files: Sequence[Path], out: Path | None) -> str:
    """Draws or writes one item.

    Args:
      item: "fig4" or "table1".
      files: result files.
      out: where to; a table may be printed only.

    Returns:
      Text to print: the slopes of fig4, or the table.

    Raises:
      ValueError: if a file does not hold what the item needs.
    """
    networks = [results.require_sensitivities(results.read(path), str(path)) for path in files]
    dataset = results.merge_stages(networks)
    if item == "fig4":
        if out is None or out.suffix not in PICTURES:
            raise ValueError(f"fig4 needs --out with one of the endings {', '.join(PICTURES)}")
        style.save(lambda: fig4.draw(dataset), out)
        return fig4.slopes_markdown(dataset)
    text = table1.markdown(dataset)
    if out is not None:
        write_atomically(out, lambda path: path.write_text(text))
    return text


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.figures")
    parser.add_argument("item", choices=ITEMS, help="what to make")
    parser.add_argument("--results", type=Path, nargs="+", required=True, help="result files")
    parser.add_argument("--out", type=Path, help="picture (png, pdf, svg) or markdown file")
    args = parser.parse_args(argv)
    print(make(args.item, args.results, args.out))
    if args.out is not None:
        print(f"\nin {args.out}")


if __name__ == "__main__":
    command_line.run(main)
