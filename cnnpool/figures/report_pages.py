"""The report as Markdown: overview, one page per item, provenance of files, the README's table."""

from collections.abc import Iterable, Sequence
import posixpath
import re
import textwrap

from cnnpool.figures.report_folder import ResultsFolder
from cnnpool.figures.report_items import VERDICTS, Item
from cnnpool.figures.report_provenance import Record, record_of
from cnnpool.figures.report_text import cell, relinked

MADE_BY = (
    "<!-- Made by `python -m cnnpool.figures report --results results/items.toml`;\n"
    "     edit items.toml and provenance.toml instead. -->\n"
)
PICTURES = (".png", ".svg")
MARK = "†"
NUMBERS = ("quantity", "paper", "ours")
HTML = "report.html"
CLAIMS = "claims.md"
NETWORKS = "Where the networks come from"
LOSSY_NOTE = "trained on lossy JPEG copies of CIFAR-10's images, which moves these numbers."
BLOCK_BEGIN, BLOCK_END = "<!-- verdicts: made by cnnpool.figures report -->", "<!-- end -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def page_of(item: Item) -> str:
    """The page of an item, relative to the folder of results."""
    return f"{item.folder}/README.md"


def verdict(folder: ResultsFolder, item: Item) -> str:
    """In words, marked where networks were trained on lossy images."""
    mark = f" {MARK}" if folder.is_of_lossy_images(item) else ""
    return VERDICTS[item.verdict] + mark


def overview(folder: ResultsFolder) -> str:
    """results/README.md."""
    paper = [item for item in folder.items if item.verdict != "beyond"]
    beyond = [item for item in folder.items if item.verdict == "beyond"]
    has_claims = (folder.root / CLAIMS).is_file()
    parts = [
        f"{MADE_BY}\n# Results",
        _paragraph(
            "Each link leads to the figure, the paper's claim, our numbers beside the paper's, "
            "what disagrees and why, and the command. Everything on one page, pictures included: "
            f"[{HTML}]({HTML}). Commits, hardware and time of every file: "
            "[provenance.md](provenance.md)."
            + (f" Every claim as a statistic: [{CLAIMS}]({CLAIMS})." if has_claims else "")
        ),
        _paragraph(
            "± is the standard error over networks unless a page says otherwise. R_1 is R after "
            "the first layer, R_K at the output."
        ),
        table(("item", "verdict", *NUMBERS), (_overview_row(folder, item) for item in paper)),
    ]
    if beyond:
        rows = (_beyond_row(folder, item) for item in beyond)
        parts += ["## Beyond the paper", table(("item", *NUMBERS), rows)]
    if any(folder.is_of_lossy_images(item) for item in folder.items):
        parts.append(_paragraph(f"{MARK} Some networks were {LOSSY_NOTE}"))
    return "\n\n".join(parts) + "\n"


def _overview_row(folder: ResultsFolder, item: Item) -> tuple[str, ...]:
    return _link(item), verdict(folder, item), *_first_numbers(item)


def _beyond_row(folder: ResultsFolder, item: Item) -> tuple[str, ...]:
    mark = f" {MARK}" if folder.is_of_lossy_images(item) else ""
    return _link(item) + mark, *_first_numbers(item)


def _link(item: Item) -> str:
    return f"[{item.title}]({page_of(item)}): {item.subject}"


def _first_numbers(item: Item) -> tuple[str, str, str]:
    if not item.rows:
        return "", "", ""
    first = item.rows[0]
    return first.what, first.paper, first.ours


def item_page(folder: ResultsFolder, item: Item) -> str:
    """The page of one item."""

    def here(file: str) -> str:
        return posixpath.relpath(file, item.folder)

    parts = [f"{MADE_BY}\n# {item.title}: {item.subject}", f"**{verdict(folder, item)}**"]
    if folder.is_of_lossy_images(item):
        parts.append(_paragraph(f"{MARK} Some networks were {LOSSY_NOTE}"))
    for file in item.files:
        name = posixpath.basename(file)
        picture = "!" if file.endswith(PICTURES) else ""
        parts.append(f"{picture}[{item.title if picture else name}]({here(file)})")
    parts.append(relinked(item.caption.strip(), item.folder))
    parts.append(f"**The paper:** {relinked(item.claim.strip(), item.folder)}")
    if item.rows:
        rows = [(row.what, row.paper, row.ours) for row in item.rows]
        parts.append(relinked(table(("", "paper", "ours"), rows), item.folder))
    if item.disagrees:
        parts += [f"## {remarks_heading(item)}", relinked(item.disagrees.strip(), item.folder)]
    parts += ["## Command", _code(folder.commands(item))]
    if sources := networks_table(folder, item):
        parts += [f"## {NETWORKS}", relinked(sources, item.folder)]
    parts.append(f"[All results]({here('README.md')})")
    return "\n\n".join(part for part in parts if part) + "\n"


def remarks_heading(item: Item) -> str:
    """Over what is said of an item's numbers."""
    return "Remarks" if item.verdict in ("beyond", "open") else "What disagrees, and why"


def networks_table(folder: ResultsFolder, item: Item) -> str:
    """The result files that an item is made from, with links relative to the folder of results."""
    rows = []
    for file in folder.inputs(item):
        record = record_of(file, folder.records)
        where = f"[{posixpath.basename(file)}](provenance.md#{_anchor(record)})"
        rows.append((where, record.trained_at, record.measured_at, record.hardware, record.time))
    head = ("file", "trained at", "measured at", "hardware", "time")
    return table(head, rows) if rows else ""


def provenance(folder: ResultsFolder) -> str:
    """results/provenance.md."""
    rows = [
        (
            f"[{record.what}](#{_anchor(record)})",
            record.trained_at,
            record.measured_at,
            record.hardware,
            record.time,
        )
        for record in folder.records
        if record.hardware  # not of what is only drawn
    ]
    parts = [
        f"{MADE_BY}\n# Where the files come from",
        "Commits are of this project. WORDS in capitals stand for folders of your own.",
        table(("files", "trained at", "measured at", "hardware", "time"), rows),
        *(_record_section(record) for record in folder.records),
    ]
    return "\n\n".join(parts) + "\n"


def _record_section(record: Record) -> str:
    files = ", ".join(f"[{file}]({file})" for file in record.files)
    parts = [
        f'<a id="{_anchor(record)}"></a>\n\n## {record.what}',
        f"Files: {files}",
        f"Config: `{record.config}`" if record.config else "",
        record.note.strip(),
        _code(record.commands),
    ]
    return "\n\n".join(part for part in parts if part)


def _anchor(record: Record) -> str:
    """The anchor of a record in provenance.md; it stays the same when records are added."""
    return re.sub(r"[^\w.]+", "-", record.files[0]).strip("-")


def _code(commands: Sequence[str]) -> str:
    return "```\n" + "\n".join(commands) + "\n```"


def verdicts_block(folder: ResultsFolder, prefix: str) -> str:
    """The verdicts on the paper's items, for the project's README, between its two comments.

    Args:
      folder: the results.
      prefix: of links, the folder of results as the README sees it.
    """
    rows = []
    paper = [item for item in folder.items if item.verdict != "beyond"]
    for key, words in VERDICTS.items():
        items = [item for item in paper if item.verdict == key]
        if items:
            links = (
                f"[{item.title}]({prefix}/{page_of(item)})"
                + (MARK if folder.is_of_lossy_images(item) else "")
                for item in items
            )
            rows.append((words, ", ".join(links)))
    text = (
        f"Our numbers beside the paper's: [results]({prefix}/README.md), "
        f"or everything on one page: [{HTML}]({prefix}/{HTML})."
    )
    if any(folder.is_of_lossy_images(item) for item in paper):
        text += f" {MARK} Some networks were {LOSSY_NOTE}"
    head = ("verdict", "items of the paper")
    return "\n\n".join([BLOCK_BEGIN, table(head, rows), _paragraph(text), BLOCK_END])


def with_block(readme: str, block: str) -> str:
    """A README with the text between its two comments replaced; as it is, where it has none."""
    before, begin, rest = readme.partition(BLOCK_BEGIN)
    _, end, after = rest.partition(BLOCK_END)
    return f"{before}{block}{after}" if begin and end else readme
