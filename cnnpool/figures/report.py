"""One page of all results, from a list of verdicts: a single HTML file for screen, phone and paper.

    python -m cnnpool.figures report --results results/verdicts.json --out results/report.html

verdicts.json is a list of objects, one an item of the paper, all fields required:

    [{"title": "Figure 2: R_k against depth, VGGs on CIFAR-10",
      "picture": "fig2/fig2.png",
      "caption": "What is shown, of which networks.",
      "command": "python -m launch.reproduce fig2 --preset=cpu",
      "verdict": "partly",
      "rows": [{"what": "R_k at the output", "paper": "below 0.1", "ours": "0.12 ± 0.01"}]}]

`picture` is relative to the json file, png or svg, or null; `verdict` is reproduced, partly, not,
or beyond (what the paper does not show); `rows` may be empty. Texts are plain, not HTML.
Pictures are embedded: the page needs no other file.
"""

import base64
from collections.abc import Sequence
from html import escape
import json
from pathlib import Path
from typing import Any, NamedTuple

from cnnpool.atomic_write import write_text
from cnnpool.figures import report_page

TITLE = "How deep CNNs lose spatial information: what was reproduced"
VERDICTS = {
    "reproduced": "reproduced",
    "partly": "partly reproduced",
    "not": "not reproduced",
    "beyond": "beyond the paper",
}
MEDIA_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


class Row(NamedTuple):
    """One number or claim, the paper's beside ours."""

    what: str
    paper: str
    ours: str


class Entry(NamedTuple):
    """One item of the report.

    Attributes:
      title: "Figure 2: R_k against depth".
      picture: png or svg, or None.
      caption: what is shown.
      command: that makes it.
      verdict: a key of `VERDICTS`.
      rows: ours against the paper's.
    """

    title: str
    picture: Path | None
    caption: str
    command: str
    verdict: str
    rows: tuple[Row, ...]


def read_entries(path: Path) -> list[Entry]:
    """The entries of a verdicts.json.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: if it is no JSON, or an entry lacks a field or has a wrong one.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, list) or not found:
        raise ValueError(f"{path}: expected a list of entries, one an item of the paper")
    return [
        _entry(fields, f"{path}, entry {n}", path.parent) for n, fields in enumerate(found, start=1)
    ]


def _entry(fields: Any, where: str, folder: Path) -> Entry:
    _check_fields(fields, Entry._fields, where)
    for name in ("title", "caption", "command", "verdict"):
        _check_text(fields[name], f"{where}: {name}")
    if fields["verdict"] not in VERDICTS:
        raise ValueError(
            f"{where}: verdict is {fields['verdict']!r}; expected {', '.join(VERDICTS)}"
        )
    if fields["picture"] is not None:
        _check_text(fields["picture"], f"{where}: picture")
    if not isinstance(fields["rows"], list):
        raise ValueError(f"{where}: rows must be a list, got {fields['rows']!r}")
    for n, row in enumerate(fields["rows"], start=1):
        _check_fields(row, Row._fields, f"{where}, row {n}")
        for name in Row._fields:
            _check_text(row[name], f"{where}, row {n}: {name}")
    picture = None if fields["picture"] is None else folder / fields["picture"]
    rows = tuple(Row(**row) for row in fields["rows"])
    return Entry(**fields | {"picture": picture, "rows": rows})


def _check_fields(fields: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(fields, dict) or set(fields) != set(names):
        got = ", ".join(map(str, fields)) if isinstance(fields, dict) else repr(fields)
        raise ValueError(f"{where}: expected the fields {', '.join(names)}; got {got}")


def _check_text(value: Any, where: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where} must be text, got {value!r}")


def write_report(entries: Sequence[Entry], out: Path) -> None:
    """Writes the page.

    Args:
      entries: in the order of the page.
      out: the HTML file.

    Raises:
      ValueError: if a picture is neither png nor svg.
      FileNotFoundError: if a picture is not there.
    """
    anchors = [f"item{n}" for n in range(1, len(entries) + 1)]
    page = report_page.PAGE.substitute(
        title=escape(TITLE),
        style=report_page.STYLE,
        overview="\n".join(map(_overview_row, entries, anchors)),
        sections="\n".join(map(_section, entries, anchors)),
    )
    write_text(out, page)


def _overview_row(entry: Entry, anchor: str) -> str:
    return report_page.OVERVIEW_ROW.substitute(_common(entry, anchor))


def _section(entry: Entry, anchor: str) -> str:
    rows = "\n".join(report_page.ROW.substitute(_escaped(row._asdict())) for row in entry.rows)
    return report_page.SECTION.substitute(
        _common(entry, anchor),
        figure=report_page.FIGURE.substitute(image=_image(entry), caption=escape(entry.caption)),
        table=report_page.TABLE.substitute(rows=rows) if rows else "",
        command=escape(entry.command),
    )


def _common(entry: Entry, anchor: str) -> dict[str, str]:
    fields = {"title": entry.title, "verdict": entry.verdict, "words": VERDICTS[entry.verdict]}
    return {"anchor": anchor} | _escaped(fields)


def _escaped(texts: dict[str, str]) -> dict[str, str]:
    return {name: escape(text) for name, text in texts.items()}


def _image(entry: Entry) -> str:
    if entry.picture is None:
        return ""
    if entry.picture.suffix not in MEDIA_TYPES:
        raise ValueError(f"{entry.title}: expected a png or svg picture, got {entry.picture}")
    if not entry.picture.is_file():
        raise FileNotFoundError(
            f"{entry.title}: no picture {entry.picture}; make it with `{entry.command}`"
        )
    return report_page.IMAGE.substitute(
        media=MEDIA_TYPES[entry.picture.suffix],
        content=base64.b64encode(entry.picture.read_bytes()).decode(),
        title=escape(entry.title),
    )


def summary(entries: Sequence[Entry]) -> str:
    """How many items have which verdict, a line an item."""
    return "\n".join(f"{VERDICTS[entry.verdict]:18s}{entry.title}" for entry in entries)
