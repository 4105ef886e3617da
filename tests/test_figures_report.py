"""The report: one self-contained page, and clear errors of verdicts.json."""

import base64
from html.parser import HTMLParser
import json

import pytest

from cnnpool.figures import __main__ as figures
from cnnpool.figures import report

PICTURE = b"\x89PNG\r\n\x1a\nmade up"


@pytest.fixture
def entries():
    return [
        {
            "title": "Figure 2: R < 1 & falls",
            "picture": "fig2/fig2.png",
            "caption": "VGG11's <R_k>.",
            "command": "python -m launch.reproduce fig2 --preset=cpu",
            "verdict": "partly",
            "rows": [{"what": "R_K", "paper": "< 0.1", "ours": "0.12 ± 0.01"}],
        },
        {
            "title": "Table 1",
            "picture": None,
            "caption": "Filters.",
            "command": "python -m launch.reproduce fig4",
            "verdict": "not",
            "rows": [],
        },
    ]


@pytest.fixture
def verdicts(tmp_path, entries):
    """A function that writes entries, with the picture they name."""

    def write(found):
        (tmp_path / "fig2").mkdir(exist_ok=True)
        (tmp_path / "fig2" / "fig2.png").write_bytes(PICTURE)
        path = tmp_path / "verdicts.json"
        path.write_text(found if isinstance(found, str) else json.dumps(found))
        return path

    return write


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


def test_the_page_holds_everything_itself(verdicts, entries, tmp_path):
    text = figures.make("report", [verdicts(entries)], tmp_path / "out" / "report.html")
    assert "partly reproduced Figure 2" in text
    page = Page((tmp_path / "out" / "report.html").read_text())
    for expected in ("Figure 2: R < 1 & falls", "VGG11's <R_k>.", "< 0.1", "0.12 ± 0.01"):
        assert expected in page.texts
    assert page.texts.count("partly reproduced") == page.texts.count("not reproduced") == 2
    (source,) = [value for _, name, value in page.attributes if name == "src"]
    assert source == "data:image/png;base64," + base64.b64encode(PICTURE).decode()
    anchors = {value for _, name, value in page.attributes if name == "id"}
    links = {value for _, name, value in page.attributes if name == "href"}
    assert links == {f"#{anchor}" for anchor in anchors} == {"#item1", "#item2"}
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    assert str(tmp_path) not in (tmp_path / "out" / "report.html").read_text()


def test_an_entry_without_rows_has_no_table_and_without_picture_no_image(verdicts, entries):
    (entry,) = report.read_entries(verdicts(entries[1:]))
    out = verdicts(entries).with_name("a.html")
    report.write_report([entry], out)
    page = Page(out.read_text())
    tags = [tag for tag, _, _ in page.attributes]
    assert "img" not in tags
    assert "paper" not in page.texts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "yes"}, "entry 2: verdict is 'yes'; expected reproduced, partly, not, beyond"),
        ({"title": " "}, "entry 2: title must be text, got ' '"),
        ({"picture": 3}, "entry 2: picture must be text, got 3"),
        ({"rows": None}, "entry 2: rows must be a list, got None"),
        ({"rows": [{"what": "a"}]}, "entry 2, row 1: expected the fields what, paper, ours; got w"),
        ({"rows": [{"what": "a", "paper": 1, "ours": "b"}]}, "row 1: paper must be text, got 1"),
        ({"extra": 1}, "entry 2: expected the fields title, picture, .* got title, .*extra"),
    ],
)
def test_a_wrong_field_is_named(verdicts, entries, change, message):
    entries[1] |= change
    with pytest.raises(ValueError, match=message):
        report.read_entries(verdicts(entries))


def test_what_is_no_list_of_entries_is_refused(verdicts, entries, tmp_path):
    for found, message in (
        ("{", "is no JSON"),
        ("{}", "expected a list of entries"),
        ("[]", "expected a list of entries"),
        ("[1]", "entry 1: expected the fields .* got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            report.read_entries(verdicts(found))
    with pytest.raises(ValueError, match="report needs one file"):
        figures.make("report", [verdicts(entries)], None)


def test_an_absent_or_foreign_picture_is_an_error_that_names_the_command(verdicts, entries):
    entries[0]["picture"] = "fig3.png"
    (entry, _) = report.read_entries(verdicts(entries))
    with pytest.raises(FileNotFoundError, match=r"no picture .*fig3\.png; make it with `python -m"):
        report.write_report([entry], verdicts(entries).with_name("a.html"))
    with pytest.raises(ValueError, match="expected a png or svg picture"):
        report.write_report(
            [entry._replace(picture=entry.picture.with_suffix(".pdf"))],
            verdicts(entries).with_name("a.html"),
        )
