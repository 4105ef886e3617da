"""The results as pages that a person can read, from items.toml and provenance.toml.

    python -m cnnpool.figures report --results results/items.toml

writes beside items.toml README.md (a table of the paper's items, with verdicts), provenance.md
(where the files come from), FOLDER/README.md (one page per item) and report.html (all on one page,
pictures embedded: it needs no other file); and, in the README.md of the folder above, what stands
between the comments `report_pages.BLOCK_BEGIN` and `BLOCK_END`, if it has them. What the two files
hold: `cnnpool.figures.report_items`, `cnnpool.figures.report_provenance`.
"""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from cnnpool.figures import report_page, report_pages
from cnnpool.figures.report_folder import ResultsFolder
from cnnpool.figures.report_items import VERDICTS, Item
from cnnpool.figures.report_text import html, inline
from cnnpool.files.atomic_write import write_text

TITLE = "How deep CNNs lose spatial information: what was reproduced"
MEDIA_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


def generated(items_file: Path, *, html_file: Path | None = None) -> dict[Path, str]:
    """Every page with its text.

    Args:
      items_file: items.toml; provenance.toml lies beside it.
      html_file: report.html, if not beside it.

    Raises:
      ValueError: if one of the two files is wrong, or a picture neither png nor svg.
      FileNotFoundError: if a file is not there that an item names.
    """
    folder = ResultsFolder(items_file)
    root = folder.root
    for item in folder.items:
        _check_present(folder, item)
    pages = {
        root / "README.md": report_pages.overview(folder),
        root / "provenance.md": report_pages.provenance(folder),
        html_file or root / report_pages.HTML: page(folder),
    }
    for item in folder.items:
        pages[root / report_pages.page_of(item)] = report_pages.item_page(folder, item)
    readme = root.resolve().parent / "README.md"
    if readme.is_file() and report_pages.BLOCK_BEGIN in readme.read_text("utf-8"):
        block = report_pages.verdicts_block(folder, root.resolve().name)
        pages[readme] = report_pages.with_block(readme.read_text("utf-8"), block)
    return pages


def write(items_file: Path, *, html_file: Path | None = None) -> str:
    """Writes every page; returns which item has which verdict, one line per item."""
    for path, text in generated(items_file, html_file=html_file).items():
        write_text(path, text)
    return summary(ResultsFolder(items_file).items)


def summary(items: Sequence[Item]) -> str:
    """Which item has which verdict, one line per item."""
    return "\n".join(f"{VERDICTS[item.verdict]:18s}{item.title}: {item.subject}" for item in items)


def _check_present(folder: ResultsFolder, item: Item) -> None:
    for file in item.files:
        if not (folder.root / file).is_file():
            commands = "; ".join(folder.commands(item))
            raise FileNotFoundError(f"{item.title}: no file {file}; make it with `{commands}`")


def page(folder: ResultsFolder) -> str:
    """report.html."""
    anchors = [f"item{n}" for n in range(1, len(folder.items) + 1)]
    overviews = [_overview_row(folder, *pair) for pair in zip(folder.items, anchors, strict=True)]
    sections = [_section(folder, *pair) for pair in zip(folder.items, anchors, strict=True)]
    lossy = any(folder.is_of_lossy_images(item) for item in folder.items)
    note = f"{report_pages.MARK} Some networks were {report_pages.LOSSY_NOTE}" if lossy else ""
    return report_page.PAGE.substitute(
        title=escape(TITLE),
        style=report_page.STYLE,
        overview="\n".join(overviews),
        note=f"<p>{escape(note)}</p>" if note else "",
        sections="\n".join(sections),
    )


def _overview_row(folder: ResultsFolder, item: Item, anchor: str) -> str:
    return report_page.OVERVIEW_ROW.substitute(_common(folder, item, anchor))


def _section(folder: ResultsFolder, item: Item, anchor: str) -> str:
    rows = "\n".join(
        report_page.ROW.substitute(
            what=inline(row.what), paper=inline(row.paper), ours=inline(row.ours)
        )
        for row in item.rows
    )
    pictures = [file for file in item.files if file.endswith(report_pages.PICTURES)]
    images = "\n".join(_image(item, folder.root / file) for file in pictures)
    return report_page.SECTION.substitute(
        _common(folder, item, anchor),
        claim=_part("The paper", item.claim),
        figure=report_page.FIGURE.substitute(image=images, caption=inline(item.caption.strip())),
        table=report_page.TABLE.substitute(rows=rows) if rows else "",
        disagrees=_part(report_pages.remarks_heading(item), item.disagrees),
        command=escape("\n".join(folder.commands(item))),
        sources=_part(report_pages.NETWORKS, report_pages.networks_table(folder, item)),
    )


def _part(heading: str, text: str) -> str:
    return f"<h3>{escape(heading)}</h3>\n{html(text)}" if text else ""


def _common(folder: ResultsFolder, item: Item, anchor: str) -> dict[str, str]:
    return {
        "anchor": anchor,
        "title": escape(f"{item.title}: {item.subject}"),
        "verdict": item.verdict,
        "words": escape(report_pages.verdict(folder, item)),
    }


def _image(item: Item, picture: Path) -> str:
    return report_page.IMAGE.substitute(
        media=MEDIA_TYPES[picture.suffix],
        content=base64.b64encode(picture.read_bytes()).decode(),
        title=escape(item.title),
    )
