"""A run killed with SIGKILL at five moments ends bit for bit like one never stopped."""

from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cnnpool.measuring.exporting import parameter_arrays
from tests.paths import ROOT

FIELDS = {
    "seeds": "(0,1)",
    "data.length": 12,
    "data.scale": 3,
    "data.gap": 1,
    "data.train_size": 16,
    "model.width": 16,
    "model.depth": 3,
    "training.learning_rate_per_channel": 0.1,
    "training.multiple": 20,
    "checkpoint.every_seconds": 0.0,
    "runtime.log_every": 20,
}


def start(workdir: Path) -> subprocess.Popen:
    flags = [f"--config.{name}={value}" for name, value in FIELDS.items()]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cnnpool.train",
            "--config=configs/scale1d.py:quick",
            f"--workdir={workdir}",
            *flags,
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def saves_under_way(workdir: Path) -> list[Path]:
    return list((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))


def complete(workdir: Path) -> list[int]:
    return sorted(int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit())


def kill_when(workdir: Path, moment) -> None:
    process = start(workdir)
    deadline = time.monotonic() + 120
    while not moment():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the moment to kill never came: {process.communicate()[1][-2000:]}")
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()


def finish(workdir: Path) -> str:
    process = start(workdir)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    return out


def kill_during_a_save(workdir: Path) -> None:
    """Kills until a half-written checkpoint is really left behind."""
    for _ in range(8):
        first = max(complete(workdir), default=0)
        kill_when(
            workdir,
            lambda first=first: (
                max(complete(workdir), default=0) > first and saves_under_way(workdir)
            ),
        )
        if saves_under_way(workdir):
            return
    pytest.fail("no kill hit a save in eight tries")


@pytest.mark.slow
def test_killed_five_times_and_resumed_is_bit_identical(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = finish(whole)
    kill_when(killed, lambda: (killed / "config.json").exists())
    kill_when(killed, lambda: complete(killed))
    kill_during_a_save(killed)
    reached = max(complete(killed))
    kill_when(killed, lambda: complete(killed) and max(complete(killed)) >= reached + 100)
    kill_when(killed, lambda: complete(killed) and max(complete(killed)) >= reached + 300)
    assert 0 < max(complete(killed)) < max(complete(whole)), (
        "the kills came before or after the run"
    )
    assert finish(killed) == expected
    reference, resumed = parameter_arrays(whole, "trained"), parameter_arrays(killed, "trained")
    assert reference.keys() == resumed.keys()
    for name, value in reference.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)
    assert (killed / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert not saves_under_way(killed), "half-written checkpoints must be cleaned up"
