"""The committed results: every file is named, every command parses, every page is what is made."""

import re
import subprocess

import h5py
import pytest

from cnnpool.figures import report
from cnnpool.figures.report_folder import PROVENANCE, ResultsFolder
from cnnpool.figures.report_items import VERDICTS
from cnnpool.figures.report_provenance import record_of
from cnnpool.files import content_checksum
from tests.command_check import check
from tests.paths import ROOT

RESULTS = ROOT / "results"
ITEMS = RESULTS / "items.toml"
COMMIT = re.compile(r'"commit\\*": \\*"([0-9a-f]{7})')  # also in JSON within JSON


@pytest.fixture(scope="module")
def folder():
    return ResultsFolder(ITEMS)


@pytest.fixture(scope="module")
def pages():
    return report.generated(ITEMS)


def committed_files():
    """The files under results/ that git knows, those that are only staged among them."""
    found = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True)
    if found.returncode != 0:
        pytest.skip(f"git does not tell which files are committed: {found.stderr}")
    return [ROOT / line for line in found.stdout.splitlines() if (ROOT / line).is_file()]


def test_every_page_is_what_the_command_makes(pages):
    changed = [
        str(path) for path, text in pages.items() if not path.is_file() or path.read_text() != text
    ]
    assert changed == [], f"make them with `python -m cnnpool.figures report --results {ITEMS}`"
    assert ROOT / "README.md" in pages


def test_every_file_is_named_by_exactly_one_record(folder, pages):
    data = {ITEMS, RESULTS / PROVENANCE}
    wrong = []
    for path in committed_files():
        if path in data or path in pages:
            continue
        try:
            record_of(path.relative_to(RESULTS).as_posix(), folder.records)
        except ValueError as error:
            wrong.append(str(error))
    assert wrong == []


def test_every_result_file_has_a_checksum():
    files = [path for path in committed_files() if path.suffix == ".nc"]
    assert files
    changed = [
        path for path in files if content_checksum.is_unchanged(path.read_bytes()) is not True
    ]
    assert changed == []


def test_every_file_that_is_named_is_there(folder):
    absent = [
        file
        for record in folder.records
        for file in record.files
        if not (RESULTS / file).exists() or (file.endswith("/") != (RESULTS / file).is_dir())
    ]
    assert absent == []


def test_every_command_parses(folder):
    commands = [one for record in folder.records for one in record.commands]
    commands += [item.command for item in folder.items if item.command]
    wrong = []
    for command in dict.fromkeys(commands):
        try:
            check(command)
        except ValueError as error:
            wrong.append(str(error))
    assert wrong == []
    assert len(commands) > 50


def test_what_a_figure_is_drawn_from_is_there(folder):
    drawn = [
        one
        for record in folder.records
        for one in record.commands
        if one.startswith("python -m cnnpool.figures")
    ]
    files = {file for command in drawn for file in re.findall(r"results/\S+\.nc", command)}
    assert [file for file in sorted(files) if not (ROOT / file).is_file()] == []
    assert len(files) > 20


def commits_of(path):
    """The commits at which a result file was measured, and at which its networks were trained."""
    with h5py.File(path) as whole:
        networks = [whole] if "commit" in whole.attrs else list(whole.values())
        measured = {network.attrs["commit"][:7] for network in networks}
        trained = [
            str(network.attrs.get(name, ""))
            for network in networks
            for name in ("trained_by", "parts")
        ]
    return measured, set(COMMIT.findall("".join(trained)))


def test_commits_are_those_that_the_result_files_hold(folder):
    wrong = []
    for path in committed_files():
        if path.suffix != ".nc":
            continue
        record = record_of(path.relative_to(RESULTS).as_posix(), folder.records)
        measured, trained = commits_of(path)
        if not measured <= set(record.measured_at.split(", ")):
            wrong.append(f"{path}: measured at {measured}, not {record.measured_at}")
        if record.trained_at and not set(record.trained_at.split(", ")) <= trained:
            wrong.append(f"{path}: trained at {trained}, not {record.trained_at}")
    assert wrong == []


def test_links_and_pictures_of_the_pages_are_there(pages):
    absent = []
    for path, text in pages.items():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            name, _, anchor = target.partition("#")
            if re.match(r"\w+:", target):
                continue
            file = (path.parent / name).resolve() if name else path
            if not file.exists() or (
                path.parent != RESULTS.parent and anchor and f'id="{anchor}"' not in pages[file]
            ):
                absent.append(f"{path}: {target}")
    assert absent == []


def test_the_overview_is_one_page_and_names_every_item(folder, pages):
    text = pages[RESULTS / "README.md"]
    assert len(text.split()) < 1000
    for item in folder.items:
        assert f"[{item.title}]({item.folder}/README.md)" in text
        assert item.rows, f"{item.title} has no number for the table"
        assert VERDICTS[item.verdict] in text or item.verdict == "beyond"
    assert len({item.folder for item in folder.items}) == len(folder.items)
    for number in range(2, 11):  # Figure 1 is a sketch
        assert f"[Figure {number}" in text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("python -m cnnpool.eval --workdir=a --out=b --shufles=3", "unknown .*--shufles=3"),
        ("python -m cnnpool.eval --workdir=a", "--out"),
        ("python -m cnnpool.train --config=configs/cifar10.py --workdir=a --config.sede=1", "sede"),
        ("python -m cnnpool.train --config=configs/cifar11.py --workdir=a", "cifar11"),
        ("python -m cnnpool.train --config=configs/cifar10.py", "missing .*workdir"),
        ("python -m cnnpool.trian --workdir=a", "cnnpool.trian"),
        ("launch/local_slurn.sh start", "no file launch/local_slurn.sh"),
        ("python -m cnnpool.figures fig12 --results a.nc", "fig12"),
    ],
)
def test_a_command_that_does_not_parse_is_found(command, message):
    with pytest.raises(ValueError, match=message):
        check(command)
