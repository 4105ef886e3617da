"""Files that are whole or not there, also where the machine loses its power."""

import errno
import os

import pytest

from cnnpool.files.atomic_write import write_atomically, write_text


def test_what_is_renamed_is_on_the_disk_first(tmp_path, monkeypatch):
    calls, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append(os.fstat(number).st_size))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("renamed"), replace(*paths)))
    write_atomically(tmp_path / "a.txt", lambda beside: beside.write_text("whole"))
    assert calls == [5, "renamed"]
    write_atomically(tmp_path / "a.txt", lambda beside: beside.write_text("often"), durable=False)
    assert calls[2:] == ["renamed"]
    assert (tmp_path / "a.txt").read_text() == "often"


def test_a_full_disk_is_named_with_the_file_and_what_was_there_is_kept(tmp_path):
    def write(beside):
        beside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")  # of a write: without a name

    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(OSError, match=r"a\.csv cannot be written: No space left on device") as full:
        write_atomically(tmp_path / "a.csv", write)
    assert full.value.errno == errno.ENOSPC
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.csv": "old"}


def test_an_error_of_another_file_is_not_said_to_be_of_this_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: .*absent"):
        write_atomically(tmp_path / "a", lambda beside: (tmp_path / "absent").read_bytes())


def test_a_link_stays_and_its_file_is_written(tmp_path):
    (tmp_path / "scratch").mkdir()
    link = tmp_path / "a.csv"
    link.symlink_to(tmp_path / "scratch" / "b.csv")
    for text in ("new", "newer"):
        write_text(link, text)
        assert link.is_symlink()
        assert (tmp_path / "scratch" / "b.csv").read_text() == text


def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # stands for /dev/null and /dev/stdout, which root could replace
    with pytest.raises(OSError, match="pipe is a device or a pipe; expected the name of a file"):
        write_text(tmp_path / "pipe", "a")
    assert not (tmp_path / "pipe").is_file()
    with pytest.raises(IsADirectoryError, match="is a folder; expected the name of the file"):
        write_text(tmp_path, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
