"""Jobs on this machine: several at once on cores of their own, stopped, killed, gone on with."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from cnnpool.configs import scale2d
from cnnpool.launch import job_states
from cnnpool.launch.engines import local
from cnnpool.launch.engines.engine import EngineError
from cnnpool.launch.engines.local import Local, Options, slots
from cnnpool.launch.jobs import Job, with_fields
from cnnpool.runs import run_status
from cnnpool.runs.run_status import Status
from tests.paths import ROOT


@pytest.fixture
def states(tmp_path):
    """Four jobs that nobody has started."""
    jobs = [Job(with_fields(scale2d.get_config(), seeds=(seed,))) for seed in range(4)]
    return [job_states.of(job, tmp_path, {}) for job in jobs]


def instead(monkeypatch, code):
    """Runs a few lines of Python, which know the job's `folder`, `done` and `log`."""
    head = """
        import os, pathlib, signal, sys, time
        spec = pathlib.Path(sys.argv[1])
        folder, tries = spec.parent, spec.parent / "tries"
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        number = len(tries.read_text())
        def done():
            from cnnpool.launch.jobs import read_spec
            (folder / read_spec(spec).measurements[0].file).touch()
    """
    text = textwrap.dedent(head) + textwrap.dedent(code)
    monkeypatch.setattr(local, "_command", lambda spec: [sys.executable, "-c", text, str(spec)])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_jobs_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5, 6, 7})
    assert [slot.cores for slot in slots(Options(parallel=3), 9)] == [
        (0, 1),
        (2, 3, 4),
        (5, 6, 7),
    ]
    assert len(slots(Options(), 9)) == 8
    assert [slot.cores for slot in slots(Options(), 2)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    on_gpus = slots(Options(devices=("0", "1")), 9)
    assert [(slot.device, len(slot.cores)) for slot in on_gpus] == [("0", 4), ("1", 4)]
    with pytest.raises(EngineError, match="from 1 to 8"):
        slots(Options(parallel=9), 9)
    with pytest.raises(EngineError, match="from 1 to 2"):
        slots(Options(parallel=3, devices=("0", "1")), 9)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)))
    assert [len(slot.cores) for slot in slots(Options(), 3)] == [2, 2, 3], "7 is a prime"


def test_a_job_that_was_stopped_or_killed_is_started_again(states, tmp_path, monkeypatch):
    instead(
        monkeypatch,
        """
        if number == 1: os.kill(os.getpid(), signal.SIGKILL)
        if number == 2: sys.exit(75)
        assert len(os.sched_getaffinity(0)) == 1
        assert (folder.parent / "noted").exists()
        done()
        """,
    )
    engine = Local(Options(parallel=min(2, len(os.sched_getaffinity(0)))))
    engine.start(states[:2], tmp_path, (tmp_path / "noted").touch)
    assert all(one.job.is_finished(one.folder) for one in states[:2])
    assert [(one.folder / "tries").read_text() for one in states[:2]] == ["xxx", "xxx"]
    assert Local(Options()).queue({"x": job_states.read_submission(states[0].folder)}) == {}


def test_failed_jobs_are_named_and_not_repeated(states, tmp_path, monkeypatch):
    instead(monkeypatch, "sys.exit(1)")
    run_status.write(states[0].folder, Status("failed", error="seed 0 diverged"))
    with pytest.raises(EngineError, match=r"seed 0 diverged\n.*exit status 1; see log.txt"):
        Local(Options(parallel=1)).start(states[:2], tmp_path)
    assert (states[0].folder / "tries").read_text() == "x"


def test_a_job_that_is_killed_again_and_again_has_failed(states, tmp_path, monkeypatch):
    """As where memory does not suffice; one that saves in between goes on."""
    instead(
        monkeypatch,
        """
        if number <= 7:
            (folder / "checkpoints" / str(number)).mkdir(parents=True)
            os.kill(os.getpid(), signal.SIGKILL)
        done()
        """,
    )
    Local(Options(parallel=1)).start(states[:1], tmp_path)
    instead(monkeypatch, "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(EngineError, match="killed 5 times by SIGKILL without progress"):
        Local(Options(parallel=1)).start(states[1:2], tmp_path)


LAUNCHER = """
import pathlib, sys, time
from cnnpool.configs import scale2d
from cnnpool.launch import job_states
from cnnpool.launch.engines import local
from cnnpool.launch.jobs import Job, with_fields

root = pathlib.Path(sys.argv[1])
jobs = [Job(with_fields(scale2d.get_config(), seeds=(seed,))) for seed in range(2)]
worker = '''
import ctypes, os, pathlib, signal, sys, time
from cnnpool.launch import run_job
run_job._end_with_parent(int(sys.argv[2]))
folder = pathlib.Path(sys.argv[1]).parent
def stop(*_):
    (folder / "saved").touch()
    os._exit(75)
signal.signal(signal.SIGTERM, stop)
(folder / "began").write_text(str(os.getpid()))
time.sleep(60)
'''
local._command = lambda spec: [sys.executable, "-c", worker, str(spec), str(local.os.getpid())]
states = [job_states.of(job, root, {}) for job in jobs]
local.Local(local.Options(parallel=1)).start(states, root)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_when_the_launcher_ends_its_jobs_save_and_end(tmp_path, number):
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(tmp_path)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )

    def wait_for(pattern):
        deadline = time.monotonic() + 60
        while not (found := list(tmp_path.glob(pattern))):
            assert time.monotonic() < deadline, f"{pattern} never came"
            time.sleep(0.05)
        return found

    (began,) = wait_for("*/began")
    time.sleep(0.2)
    submissions = {"x": job_states.read_submission(began.parent)}
    assert Local(Options()).queue(submissions)["x"].state == job_states.WAITING
    if number == signal.SIGTERM:
        assert Local(Options()).cancel(submissions) == ["x"]
    else:
        launcher.send_signal(number)
    assert launcher.wait(30) != 0
    wait_for("*/saved")
    deadline = time.monotonic() + 10
    while Path(f"/proc/{began.read_text()}").exists():
        assert time.monotonic() < deadline, "a job outlived its launcher"
        time.sleep(0.05)
    assert Local(Options()).queue(submissions) == {}
    assert Local(Options()).cancel(submissions) == []
