"""One process a directory; a lease never outlives its owner."""

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from cnnpool.runs import lease
from cnnpool.runs.lease import WorkdirBusyError, hold, is_held
from tests.paths import ROOT

BEAT = 0.1


@pytest.fixture
def no_locks(monkeypatch):
    """A file system that does not know locks."""

    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lease.fcntl, "flock", refuse)


def other_host(folder, beat=0, pid=1):
    record = {"host": "elsewhere", "pid": pid, "owner": "other", "beat": beat}
    beside = folder / "beside.json"  # whole at any moment, as a real one
    beside.write_text(json.dumps(record))
    beside.replace(folder / lease.LEASE)


def start_owner(folder, seconds=60):
    code = f"""
        import pathlib, time
        from cnnpool.runs.lease import hold
        with hold(pathlib.Path({str(folder)!r})):
            print("held", flush=True)
            time.sleep({seconds})
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "held\n"
    return owner


def test_a_second_process_refuses_and_names_the_first(tmp_path):
    owner = start_owner(tmp_path)
    try:
        assert is_held(tmp_path)
        with pytest.raises(WorkdirBusyError, match=rf"process {owner.pid} on "), hold(tmp_path):
            pass
        assert is_held(tmp_path), "refusing takes nothing away"
    finally:
        owner.kill()
        owner.communicate()
    assert not is_held(tmp_path), "SIGKILL ends the lease at once on the same machine"
    began = time.monotonic()
    with hold(tmp_path):
        assert is_held(tmp_path)
    assert time.monotonic() - began < 1
    assert not is_held(tmp_path)


def test_a_living_lease_of_another_machine_is_respected(tmp_path, monkeypatch, no_locks):
    other_host(tmp_path)
    beats = iter(range(1, 100))
    monkeypatch.setattr(lease.time, "sleep", lambda _: other_host(tmp_path, beat=next(beats)))
    with pytest.raises(WorkdirBusyError, match="process 1 on elsewhere"), hold(tmp_path):
        pass
    assert is_held(tmp_path)


def test_a_dead_lease_of_another_machine_is_taken_over(tmp_path, no_locks):
    other_host(tmp_path)
    began = time.monotonic()
    with hold(tmp_path, beat_seconds=BEAT):
        assert time.monotonic() - began >= lease.DEAD_AFTER * BEAT
        assert json.loads((tmp_path / lease.LEASE).read_text())["pid"] == os.getpid()


@pytest.fixture
def short_beats(monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", BEAT)


@pytest.mark.parametrize("hours", [6, -6, 0])
def test_a_dead_lease_is_nobody_s_whatever_its_time(hours, tmp_path, short_beats, capsys):
    """The clock of a file server may be wrong by any amount; one that is right is believed."""
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
        other_host(folder)
        then = time.time() + 3600 * hours
        os.utime(folder / lease.LEASE, (then, then))
    began = time.monotonic()
    assert lease.held(folders) == (set(folders) if hours == 0 else set())
    seconds = time.monotonic() - began
    assert seconds < 2 * lease.DEAD_AFTER * BEAT, "all are watched at once"
    assert ("for heartbeats from" in capsys.readouterr().err) == (hours != 0)
    began = time.monotonic()
    lease.held(folders)
    assert time.monotonic() - began < BEAT, "what was watched is known"


@pytest.mark.parametrize("seconds", [120, -120])
def test_a_heart_that_beats_is_alive_whatever_its_time(seconds, tmp_path, short_beats):
    stop = threading.Event()

    def live():
        for beat in itertools.count():
            other_host(tmp_path, beat)
            then = time.time() + seconds
            os.utime(tmp_path / lease.LEASE, (then, then))
            if stop.wait(BEAT / 2):
                return

    heart = threading.Thread(target=live)
    heart.start()
    try:
        time.sleep(BEAT)
        for _ in range(3):
            assert is_held(tmp_path)
            time.sleep(BEAT)
    finally:
        stop.set()
        heart.join()
    time.sleep(lease.DEAD_AFTER * BEAT)
    is_held(tmp_path)  # the last beat is seen
    assert not is_held(tmp_path)


def test_the_heart_beats(tmp_path):
    def beat():
        return json.loads((tmp_path / lease.LEASE).read_text())["beat"]

    with hold(tmp_path, beat_seconds=BEAT):
        first = beat()
        time.sleep(5 * BEAT)
        assert beat() > first


def test_an_owner_that_was_thought_dead_ends_when_it_wakes_up(tmp_path):
    """Stopped for so long that another took the directory over, it writes nothing more."""
    code = f"""
        import pathlib, time
        from cnnpool.runs.lease import hold
        with hold(pathlib.Path({str(tmp_path)!r}), beat_seconds={BEAT}):
            print("held", flush=True)
            time.sleep(60)
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout.readline() == "held\n"
    owner.send_signal(signal.SIGSTOP)
    time.sleep(2 * BEAT)
    other_host(tmp_path)
    owner.send_signal(signal.SIGCONT)
    _, err = owner.communicate(timeout=30)
    assert owner.returncode == 1
    assert "taken over by process 1 on elsewhere" in err


def test_a_damaged_lease_is_none(tmp_path):
    for text in ("", "[1]", '{"host": "x"}'):
        (tmp_path / lease.LEASE).write_text(text)
        assert not is_held(tmp_path)
        with hold(tmp_path):
            pass
