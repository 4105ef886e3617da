"""The little Markdown of items.toml: its links from elsewhere, and the same as HTML."""

from html import escape
import posixpath
import re

LINK = re.compile(r"\[([^\]]+)\]\((?!\w+:|#)([^)#]+)(#[^)]*)?\)")
RULE = re.compile(r"\|[\s:|-]+\|")
INLINE = (
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"\[([^\]]+)\]\(([^)]+)\)"), r'<a href="\2">\1</a>'),
)


def relinked(text: str, folder: str) -> str:
    """Links that are relative to a parent folder, made relative to `folder` in it."""

    def moved(found: re.Match) -> str:
        label, target, fragment = found.groups(default="")
        return f"[{label}]({posixpath.relpath(target, folder)}{fragment})"

    return LINK.sub(moved, text)


def cell(text: str) -> str:
    """Text as a cell of a Markdown table, one line."""
    return " ".join(text.split()).replace("|", r"\|")


def html(text: str) -> str:
    """Paragraphs, lists and tables, with bold, code and links."""
    return "\n".join(_block(block.splitlines()) for block in re.split(r"\n\s*\n", text.strip()))


def _block(lines: list[str]) -> str:
    if lines[0].startswith("- "):
        points = re.split(r"\n- ", "\n".join(lines)[2:])
        return "<ul>" + "".join(f"<li>{inline(point)}</li>" for point in points) + "</ul>"
    if len(lines) > 1 and RULE.fullmatch(lines[1].strip()):
        head, _, *body = lines
        rows = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in body)
        return (
            f'<div class="scroll"><table><thead><tr>{_cells(head, "th")}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
    return f"<p>{inline(' '.join(lines))}</p>"


def _cells(row: str, tag: str) -> str:
    parts = re.split(r"(?<!\\)\|", row.strip().strip("|"))
    return "".join(f"<{tag}>{inline(part.strip())}</{tag}>" for part in parts)


def inline(text: str) -> str:
    """One line of text."""
    result = escape(text.replace(r"\|", "|"))
    for pattern, replacement in INLINE:
        result = pattern.sub(replacement, result)
    return result
