"""Ctrl-C while a command is imported, and where Python swallows it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.paths import ROOT

INTERRUPTED = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(30)"
# As JAX has one; an exception in such a callback is printed, and the program goes on.
SWALLOWED = """
import gc, signal, time
from cnnpool import interrupts

interrupts.hook()
gc.collect()
gc.callbacks.append(lambda phase, info: phase == "stop" and signal.raise_signal(signal.SIGINT))
gc.collect()
gc.callbacks.clear()
time.sleep(30)
"""
OTHER = """
from cnnpool import interrupts

interrupts.hook()


class Failing:
    def __del__(self):
        raise ValueError("in a finalizer")


Failing()
raise ValueError("not caught")
"""


@pytest.fixture(autouse=True)
def children_obey_ctrl_c():
    """Programs that a shell starts in the background ignore SIGINT, and so do their children.

    Children start with the default in the place of a handler. A function of the child process
    would need a fork, of which JAX warns.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def python(*arguments, path=""):
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(path), str(ROOT)])},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "cnnpool.train", "--config=scale1d:quick"),
        ("-m", "cnnpool", "train", "--config=scale1d:quick"),
        ("-m", "launch.sweep", "--help"),
    ],
)
def test_ctrl_c_while_a_command_is_imported_is_one_line(command, tmp_path):
    """The interrupt comes from a module of that name, which all three import early."""
    for name in ("ml_collections", "argparse"):
        (tmp_path / f"{name}.py").write_text(INTERRUPTED)
    found = python(*command, path=tmp_path)
    assert (found.returncode, found.stderr) == (130, "stopped\n")


def test_ctrl_c_that_python_swallows_comes_again():
    began = time.monotonic()
    found = python("-c", SWALLOWED)
    assert (found.returncode, found.stderr) == (130, "stopped\n")
    assert time.monotonic() - began < 25  # the program sleeps for 30


def test_nothing_is_raised_in_an_import(tmp_path):
    """C++ code that is importing Python modules, as jaxlib's does, would abort."""
    (tmp_path / "slow.py").write_text(
        "import signal\n"
        "try: signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt: print('raised')\n"
    )
    found = python(
        "-c", "from cnnpool import interrupts; interrupts.hook(); import slow", path=tmp_path
    )
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "stopped\n")


def test_other_errors_are_told_as_ever():
    found = python("-c", OTHER)
    assert found.returncode == 1
    assert "Exception ignored in: <function Failing.__del__" in found.stderr
    assert found.stderr.endswith("ValueError: not caught\n")


def test_the_library_leaves_an_interpreter_s_hooks_alone(tmp_path):
    """Imported by a program, by a module that -m runs, and where a later -m is an argument."""
    check = "import sys, cnnpool; print(sys.excepthook is sys.__excepthook__)"
    (tmp_path / "theirs.py").write_text(check)
    for words in (
        ("-c", check),
        ("-m", "theirs"),
        ("-m", "theirs", "-m", "cnnpool.train"),
        (str(tmp_path / "theirs.py"), "-m", "cnnpool.train"),
    ):
        assert python(*words, path=tmp_path).stdout == "True\n"
