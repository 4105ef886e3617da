"""Files that are whole or not there, also where the machine loses its power."""

import os

from cnnpool.files.atomic_write import write_atomically


def test_what_is_renamed_is_on_the_disk_first(tmp_path, monkeypatch):
    calls, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append(os.fstat(number).st_size))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("renamed"), replace(*paths)))
    write_atomically(tmp_path / "a.txt", lambda beside: beside.write_text("whole"))
    assert calls == [5, "renamed"]
    write_atomically(tmp_path / "a.txt", lambda beside: beside.write_text("often"), durable=False)
    assert calls[2:] == ["renamed"]
    assert (tmp_path / "a.txt").read_text() == "often"
