"""The report: pages and one self-contained HTML file, and clear errors of its two data files."""

import base64
from html.parser import HTMLParser

import h5py
import pytest

from cnnpool.figures import __main__ as figures
from cnnpool.figures import report, report_pages, report_text
from cnnpool.figures.report_items import read_items
from cnnpool.figures.report_provenance import read_records, record_of

PICTURE = b"\x89PNG\r\n\x1a\nmade up"
ITEMS = """
[[item]]
title = "Figure 2"
subject = "R < 1 & falls"
folder = "fig2"
made = "fig2/fig2.png"
verdict = "partly"
claim = "It falls, see [Table 1](table1/README.md)."
caption = "VGG11's <R_k>."
rows = [{what = "R_K", paper = "< 0.1", ours = "0.12 ± 0.01"}, {what = "|x|", ours = "1"}]
disagrees = \"\"\"
**Half** of it:

- one,
two
- three

| a | b |
|---|---|
| 1 | `2` |
\"\"\"

[[item]]
title = "Table 1"
subject = "filters"
folder = "table1"
verdict = "open"
claim = "Positive."
command = "python -m launch.reproduce fig4"
rows = []
"""
RECORDS = """
[[record]]
what = "Figure 2"
files = ["fig2/"]
commands = ["python -m cnnpool.figures fig2 --results NAME/networks/a.nc --out fig2.png"]

[[record]]
what = "Networks"
files = ["networks/{name}.nc"]
commands = ["python -m cnnpool.eval --workdir=runs/{name} --out={name}.nc"]
each = [{name = "a"}, {name = "b"}]
hardware = "one core"
note = "By hand."
"""


@pytest.fixture
def folder(tmp_path):
    """A project's folder of results, with a README above it."""
    root = tmp_path / "found"
    (root / "fig2").mkdir(parents=True)
    (root / "fig2" / "fig2.png").write_bytes(PICTURE)
    (root / "networks").mkdir()
    write_network(root / "networks" / "a.nc", "cifar10 (TFDS; JPEG copies of the images)")
    (root / "items.toml").write_text(ITEMS)
    (root / "provenance.toml").write_text(RECORDS.replace("NAME", "found"))
    begin, end = report_pages.BLOCK_BEGIN, report_pages.BLOCK_END
    (tmp_path / "README.md").write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    return root


def write_network(path, source):
    with h5py.File(path, "w") as file:
        file.attrs.update(config="{}", data_source=source)


class Page(HTMLParser):
    """Texts, tags and attributes of a page; refuses tags that are not closed in order."""

    VOID = ("meta", "img", "!doctype")

    def __init__(self, text):
        super().__init__()
        self.texts, self.attributes, self.open = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_html_page_holds_everything_itself(folder, tmp_path):
    out = tmp_path / "out" / "report.html"
    text = report.write(folder / "items.toml", html_file=out)
    assert "partly reproduced Figure 2: R < 1 & falls" in text
    page = Page(out.read_text())
    for expected in ("Figure 2: R < 1 & falls", "VGG11's <R_k>.", "< 0.1", "0.12 ± 0.01"):
        assert expected in page.texts
    assert page.texts.count("partly reproduced †") == page.texts.count("not yet measured") == 2
    (source,) = [value for _, name, value in page.attributes if name == "src"]
    assert source == "data:image/png;base64," + base64.b64encode(PICTURE).decode()
    anchors = {value for _, name, value in page.attributes if name == "id"}
    links = {value for _, name, value in page.attributes if name == "href"}
    assert anchors == {"item1", "item2"}
    assert links == {"#item1", "#item2", "table1/README.md", "provenance.md#networks-a.nc"}
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    assert str(tmp_path) not in out.read_text()
    assert not (folder / "report.html").exists()


def test_every_page_is_written(folder, tmp_path):
    figures.main(["report", "--results", str(folder / "items.toml")])
    overview = (folder / "README.md").read_text()
    row = "| [Figure 2](fig2/README.md): R < 1 & falls | partly reproduced † | R_K | < 0.1 |"
    assert row in overview
    assert "[Table 1](table1/README.md): filters | not yet measured |  |  |  |" in overview
    assert Page((folder / "report.html").read_text()).texts
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("\nafter\n")
    assert "old" not in readme
    assert "| partly reproduced | [Figure 2](found/fig2/README.md)† |" in readme


def test_the_page_of_an_item_is_relative_to_its_folder(folder):
    pages = report.generated(folder / "items.toml")
    page = pages[folder / "fig2" / "README.md"]
    for expected in (
        "# Figure 2: R < 1 & falls",
        "![Figure 2](fig2.png)",
        "see [Table 1](../table1/README.md)",
        r"| \|x\| |  | 1 |",
        "```\npython -m cnnpool.figures fig2 --results found/networks/a.nc --out fig2.png\n```",
        "| [a.nc](../provenance.md#networks-a.nc) |  |  | one core |  |",
        "[All results](../README.md)",
    ):
        assert expected in page
    other = pages[folder / "table1" / "README.md"]
    assert "```\npython -m launch.reproduce fig4\n```" in other
    assert "| paper | ours |" not in other


def test_lossy_images_are_marked_until_the_networks_are_replaced(folder):
    def lossy():
        return [
            report_pages.MARK in text for text in report.generated(folder / "items.toml").values()
        ]

    assert any(lossy())
    write_network(folder / "networks" / "a.nc", "cifar10 (originals)")
    assert not any(lossy())


def test_a_readme_that_names_no_item_of_lossy_images_does_not_explain_the_mark(folder, tmp_path):
    items = folder / "items.toml"
    items.write_text(items.read_text().replace('verdict = "partly"', 'verdict = "beyond"'))
    pages = report.generated(items)
    assert report_pages.MARK in pages[folder / "README.md"]
    assert report_pages.MARK not in pages[tmp_path / "README.md"]


def test_a_readme_without_the_two_comments_is_left_alone(folder, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("of somebody else\n")
    assert readme not in report.generated(folder / "items.toml")
    assert report_pages.with_block(report_pages.BLOCK_BEGIN, "new") == report_pages.BLOCK_BEGIN


def test_provenance_lists_every_command_of_each(folder):
    text = report.generated(folder / "items.toml")[folder / "provenance.md"]
    assert "Files: [networks/a.nc](networks/a.nc), [networks/b.nc](networks/b.nc)" in text
    assert "--workdir=runs/a --out=a.nc\npython -m cnnpool.eval --workdir=runs/b --out=b.nc" in text
    assert "By hand." in text


def test_a_file_belongs_to_one_record_and_one_entry_of_each(folder):
    records = read_records(folder / "provenance.toml")
    assert record_of("fig2/a/b.csv", records).what == "Figure 2"
    networks = record_of("networks/b.nc", records)
    assert networks.commands_of("networks/b.nc") == (
        "python -m cnnpool.eval --workdir=runs/b --out=b.nc",
    )
    for file in ("networks/c.nc", "networks/a.nc2", "fig22/a.png"):
        with pytest.raises(ValueError, match=f"{file}: expected exactly one record .* got none"):
            record_of(file, records)
    with pytest.raises(ValueError, match="got Figure 2; Figure 2"):
        record_of("fig2/fig2.png", [*records, records[0]])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('verdict = "open"', 'verdict = "yes"', "item 2: verdict is 'yes'; expected reproduced"),
        ('title = "Table 1"', 'title = " "', "item 2: title must be text, got ' '"),
        ('made = "fig2/fig2.png"', "made = 3", "item 1: made must be text, got 3"),
        ("rows = []", 'rows = "a"', "item 2: rows must be a list, got 'a'"),
        ("rows = []", 'rows = [{what = "a"}]', "item 2, row 1: expected the fields what, ours"),
        ("rows = []", 'rows = [{what = "a", ours = 1}]', "row 1: ours must be text, got 1"),
        ("rows = []", "rows = []\nextra = 1", "item 2: expected the fields .* got title, .*extra"),
        ("rows = []", "rows = []\nmore = [1]", "item 2: more must be text, got 1"),
        ("rows = []", 'rows = []\nmade = "a"', "item 2: expected either made, .* or command"),
        ("rows = []", "rows = [", "is no TOML"),
        (ITEMS, "", r"expected \[\[item\]\] tables alone"),
        ("[[item]]", "[[items]]", r"expected \[\[item\]\] tables alone, got items"),
    ],
)
def test_a_wrong_field_of_an_item_is_named(folder, old, new, message):
    path = folder / "items.toml"
    assert old in ITEMS
    path.write_text(ITEMS.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_items(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('what = "Networks"', 'whatt = "Networks"', "record 2: expected the fields what, files"),
        ('note = "By hand."', "note = 1", "record 2: note must be text, got 1"),
        ('files = ["fig2/"]', 'files = "fig2/"', "record 1: files must be a list"),
        ('files = ["fig2/"]', "files = []", "record 1: files must not be empty"),
        ('files = ["fig2/"]', "files = [1]", "record 1: files must be text, got 1"),
        ('{name = "b"}', '{names = "b"}', r"record 2: what stands in braces .*\{'names': 'b'\}"),
        ('{name = "b"}', "3", "record 2: what stands in braces .* got 3"),
    ],
)
def test_a_wrong_field_of_a_record_is_named(folder, old, new, message):
    path = folder / "provenance.toml"
    assert old in RECORDS
    path.write_text(RECORDS.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_records(path)


def test_an_absent_file_is_an_error_that_names_the_command(folder):
    (folder / "fig2" / "fig2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file fig2/fig2\.png; make it with `python -m"):
        report.generated(folder / "items.toml")


def test_little_markdown_becomes_html():
    found = report_text.html(
        "a <b>\n`c_d` [e](f#g)\n\n- **h**\n  i\n- j\n\n| k | l |\n|---|---|\n| \\| | n |"
    )
    assert '<p>a &lt;b&gt; <code>c_d</code> <a href="f#g">e</a></p>' in found
    assert "<ul><li><strong>h</strong>\n  i</li><li>j</li></ul>" in found
    assert "<thead><tr><th>k</th><th>l</th></tr></thead>" in found
    assert "<tbody><tr><td>|</td><td>n</td></tr></tbody>" in found


def test_only_relative_links_are_moved():
    text = "[a](b/c.md#d) [e](https://f) [g](#h) [i](../j)"
    assert report_text.relinked(text, "b") == "[a](c.md#d) [e](https://f) [g](#h) [i](../../j)"
