"""Paths as people type them."""

import argparse
from pathlib import Path
import pwd

import pytest

from cnnpool.configs import arrays as arrays_config
from cnnpool.data import arrays, image_arrays, image_folder
from cnnpool.files import storage
from cnnpool.files.storage import StorageError
from cnnpool.launch import sweep_file
from cnnpool.launch.engines import slurm
from cnnpool.launch.jobs import Job


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("read", [storage.path, storage.on_disk])
def test_a_tilde_is_the_home_directory(read, home):
    assert read("~/runs/a") == home / "runs" / "a"
    assert read("~") == home
    assert read("a/~b") == Path("a/~b")
    root = pwd.getpwuid(0)
    assert read(f"~{root.pw_name}/a") == Path(root.pw_dir) / "a"


@pytest.mark.parametrize("read", [storage.path, storage.on_disk])
@pytest.mark.parametrize("text", ["$SCRATCH/runs/a", "${SCRATCH}/runs/a"])
def test_a_variable_that_no_shell_saw_has_its_value(read, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert read(text) == Path("/scratch/me/runs/a")
    monkeypatch.setenv("SCRATCH", "gs:/a")
    with pytest.raises(StorageError, match=r"gs:/a/runs/a: expected two slashes"):
        read(text)
    monkeypatch.delenv("SCRATCH")
    with pytest.raises(StorageError, match="the variable SCRATCH is not set; give the path"):
        read(text)
    (tmp_path / text).parent.parent.mkdir()
    assert read(text) == Path(text), "something of that very name is there"
    for plain in ("a$", "$(date)/a", "5$/a"):
        assert read(plain) == Path(plain)


def test_a_path_from_anywhere_is_absolute_unless_it_already_means_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.from_anywhere("a/../b") == str(tmp_path / "b")
    for fixed in ("/data/a", "~/a", "$SCRATCH/a", "${SCRATCH}/a", "gs://bucket/a"):
        assert storage.from_anywhere(fixed) == fixed
    (tmp_path / "$SCRATCH").mkdir()
    assert storage.from_anywhere("$SCRATCH/a") == str(tmp_path / "$SCRATCH" / "a")


@pytest.mark.parametrize("read", [storage.path, storage.on_disk])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty text; is a shell variable not set"),
        (" ", "got an empty text"),
        ("gs:/bucket/a", "two slashes"),
        ("s3:bucket", "two slashes"),
        ("~nobody-of-that-name/a", "Give the path without ~"),
    ],
)
def test_what_is_no_place_is_refused(read, text, message):
    with pytest.raises(StorageError, match=message):
        read(text)


def test_without_a_home_a_tilde_is_an_error_of_one_line(monkeypatch):
    def unknown(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(
        StorageError, match=r"~/a: Could not determine home.* Give the path without"
    ):
        storage.path("~/a")


def test_flags_and_fields_of_data_and_sweeps_know_it(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "setup.sh").touch()
    assert f"source {home}/setup.sh" in slurm.script(
        Path("list"), slurm.Options(setup="~/setup.sh")
    )
    parser = argparse.ArgumentParser()
    sweep_file.add_arguments(parser)
    args = parser.parse_args(["--sweep=~/s.py", "--root=~/jobs"])
    assert (args.sweep, args.root) == (home / "s.py", home / "jobs")
    config = arrays_config.get_config()
    with config.unlocked():
        config.data.data_dir = "~/data"
    for read in (arrays.build, image_arrays.fingerprint, image_folder.fingerprint):
        with pytest.raises(Exception, match=f"{home}/data"):
            read(config.data)
    job = Job(config).with_data_dir("~/data")
    assert job.config.data.data_dir == f"{home}/data"
