"""Whose commit stands in the record."""

import shutil
import subprocess

import pytest

from cnnpool.runs import provenance
from tests.paths import ROOT


def git(folder, *words):
    names = ["-c", "user.email=a@b", "-c", "user.name=n"]
    done = subprocess.run(
        ["git", *names, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A git repository with one commit."""
    (tmp_path / "there").mkdir()
    git(tmp_path / "there", "init", "-q")
    git(tmp_path / "there", "commit", "-q", "--allow-empty", "-m", "theirs")
    return tmp_path / "there"


def installed(folder, monkeypatch):
    """The package, as pip installs it into a folder."""
    (folder / "cnnpool" / "runs").mkdir(parents=True)
    module = shutil.copy(provenance.__file__, folder / "cnnpool" / "runs" / "provenance.py")
    monkeypatch.setattr(provenance, "__file__", str(module))


@pytest.mark.parametrize("where", ["venv/site-packages", "."])
def test_a_commit_of_another_project_is_not_ours(where, repository, monkeypatch):
    installed(repository / where, monkeypatch)
    assert provenance.commit() == "unknown"
    (repository / "pyproject.toml").write_text('[project]\nname = "theirs"\n')
    assert provenance.commit() == "unknown"


def test_a_checkout_of_ours_says_its_commit(repository, monkeypatch):
    installed(repository, monkeypatch)
    shutil.copy(ROOT / "pyproject.toml", repository)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "ours")
    head = git(repository, "rev-parse", "--short=12", "HEAD")
    assert provenance.commit() == head
    changed = (repository / "pyproject.toml").read_text() + "# changed"
    (repository / "pyproject.toml").write_text(changed)
    assert provenance.commit() == f"{head}-dirty"


def test_variables_of_another_repository_do_not_count(repository, monkeypatch):
    before = provenance.commit()
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(repository))
    assert provenance.commit() == before
    assert before != "unknown" or not (ROOT / ".git").exists()


def test_without_git_nothing_is_known(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() == "unknown"
