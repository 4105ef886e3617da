'''The items of the paper as data: items.toml, checked when it is read.

One table an item, in the order of the pages:

    [[item]]
    title = "Figure 2, left"
    subject = "R_k against depth, VGGs on CIFAR-10"
    folder = "fig2"                  # of its page, beside items.toml
    made = "fig2/fig2.png"           # picture, table or result file; its command: provenance.toml
    verdict = "partly"               # reproduced, partly, not, open, or beyond
    claim = "R_k falls with depth."  # the paper's
    caption = "What is shown, of which networks."
    rows = [                         # the first one stands in the table of results/README.md
      {what = "log10 R_1 / R_K, VGG11", paper = "falls", ours = "+0.38 ± 0.03"},
    ]
    disagrees = """
    What disagrees with the paper, and why.
    """

A row has no `paper` where the paper says nothing. `more` lists further files that the page shows.
An item of which nothing is made yet has `command` instead of `made`. Texts are Markdown:
paragraphs, lists, tables, **bold**, `code`, and links, which are relative to the folder of
items.toml.
'''

import dataclasses
from pathlib import Path
from typing import Any

from cnnpool.figures.toml_tables import check_fields, check_list, check_text, read_tables

VERDICTS = {
    "reproduced": "reproduced",
    "partly": "partly reproduced",
    "not": "not reproduced",
    "open": "not yet measured",
    "beyond": "beyond the paper",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One number or claim, ours and the paper's; `paper` is empty where the paper says nothing."""

    what: str
    ours: str
    paper: str = ""


@dataclasses.dataclass(frozen=True)
class Item:
    """One item of the paper, or beyond it.

    Attributes:
      title: "Figure 2, left".
      subject: what it is about, in a line.
      folder: the folder of its page.
      verdict: a key of `VERDICTS`.
      claim: the paper's claim.
      rows: ours against the paper's, the most telling first.
      made: the file that is its result; "" where nothing is made yet.
      more: further files that its page shows.
      caption: what is shown, of which networks.
      disagrees: what disagrees with the paper, and why.
      command: the command that would make it, where nothing is made yet.
    """

    title: str
    subject: str
    folder: str
    verdict: str
    claim: str
    rows: tuple[Row, ...]
    made: str = ""
    more: tuple[str, ...] = ()
    caption: str = ""
    disagrees: str = ""
    command: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Its result and what else its page shows."""
        return ((self.made,) if self.made else ()) + self.more


def read_items(path: Path) -> list[Item]:
    """The items of an items.toml.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: if it is no TOML, or an item lacks a field or has a wrong one.
    """
    found = read_tables(path, "item")
    return [_item(fields, f"{path}, item {n}") for n, fields in enumerate(found, start=1)]


def _item(fields: Any, where: str) -> Item:
    check_fields(fields, Item, where)
    for name in fields.keys() - {"rows", "more"}:
        check_text(fields[name], f"{where}: {name}")
    if fields["verdict"] not in VERDICTS:
        raise ValueError(
            f"{where}: verdict is {fields['verdict']!r}; expected {', '.join(VERDICTS)}"
        )
    if ("made" in fields) == ("command" in fields):
        raise ValueError(
            f"{where}: expected either made, whose command is in provenance.toml, or command, "
            "where nothing is made yet"
        )
    rows = check_list(fields["rows"], f"{where}: rows")
    for n, row in enumerate(rows, start=1):
        check_fields(row, Row, f"{where}, row {n}")
        for name in row:
            check_text(row[name], f"{where}, row {n}: {name}")
    more = check_list(fields.get("more", []), f"{where}: more")
    for name in more:
        check_text(name, f"{where}: more")
    return Item(**fields | {"rows": tuple(Row(**row) for row in rows), "more": tuple(more)})
