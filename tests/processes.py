"""Trainings of `tests.tiny_images` in processes of their own, several of them joined or not.

python -m tests.processes --workdir=W --coordinator=127.0.0.1:1234 --num_processes=2 ...
"""

import json
import os
from pathlib import Path
import socket
import subprocess
import sys
import time

from tests.paths import ROOT
from tests.xla_flags import fast_compiling

FAILS_AT = "TEST_SECOND_PROCESS_FAILS_AT"  # an environment variable: the epoch
SLOWLY = "TEST_SECONDS_AN_EPOCH"  # the same
MISTAKE = "a label is out of range"
FIELDS = {
    "seeds": "(0,1)",
    "data.name": "tiny_images",
    "model.name": "tiny",
    "model.outputs": 3,
    "training.epochs": 3,
    "training.batch_size": 16,
    "training.learning_rate": 0.02,
    "runtime.mesh.data": 2,
    "runtime.mesh.seed": 1,
    "runtime.steps_per_call": 3,
    "runtime.test_batch_size": 16,
    "runtime.tensorboard": False,
    "checkpoint.every_seconds": 0.3,
}


def start(workdir: Path, *arguments: str, devices: int = 1, **fields) -> subprocess.Popen:
    """One process; `fields` of the config as section__field=value."""
    chosen = FIELDS | {name.replace("__", "."): value for name, value in fields.items()}
    flags = [f"--config.{name}={value}" for name, value in chosen.items()]
    words = ["--config=configs/cifar10.py:paper", f"--workdir={workdir}", *flags, *arguments]
    return start_module("tests.processes", *words, devices=devices)


def start_module(module: str, *arguments: str, devices: int = 1) -> subprocess.Popen:
    """One process of a command with so many CPU devices."""
    environment = os.environ | {"XLA_FLAGS": fast_compiling(devices), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def joined_flags(count: int = 2) -> list[tuple[str, str, str]]:
    """What makes processes one job, for each of them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"
    return [(*job, f"--process_id={i}") for i in range(count)]


def start_joined(workdir: Path, *, count: int = 2, **fields) -> list[subprocess.Popen]:
    """Several processes of one job."""
    return [start(workdir, *flags, **fields) for flags in joined_flags(count)]


def finish(processes: list[subprocess.Popen], *, seconds: float = 400) -> list[tuple]:
    """Exit status, output and errors of each."""
    found = [process.communicate(timeout=seconds) for process in processes]
    return [(p.returncode, *texts) for p, texts in zip(processes, found, strict=True)]


def checkpoints(workdir: Path) -> dict[int, dict]:
    """What complete checkpoints after whole epochs record: progress and checksum, by epoch."""
    places = [p for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()]
    if not places:
        return {}
    steps = int((workdir / "checkpoints" / "steps_per_epoch").read_text())
    return {
        int(place.name) // steps: json.loads((place / "progress" / "metadata").read_text())
        for place in sorted(places)
        if int(place.name) % steps == 0
    }


def _failing_report(fails_at: int):
    """`Running.report` that fails in the second process at that epoch."""
    import jax

    from cnnpool.runs.running import Running

    told = Running.report

    def report(self, task, epoch=None, epochs=None):
        if jax.process_index() == 1 and (epoch or 0) >= fails_at:
            raise ValueError(MISTAKE)
        told(self, task, epoch, epochs)

    return report


def _slow_report(seconds: float):
    """`Running.report`, which every epoch calls, that takes so long."""
    from cnnpool.runs.running import Running

    told = Running.report

    def report(self, *arguments):
        time.sleep(seconds)
        told(self, *arguments)

    return report


def _main() -> None:
    from absl import app, flags
    import pytest

    from cnnpool import train
    from cnnpool.runs.running import Running
    from tests import tiny_images

    flags.mark_flags_as_required(["config", "workdir"])
    with pytest.MonkeyPatch.context() as patch:
        tiny_images.install(patch)
        if FAILS_AT in os.environ:
            patch.setattr(Running, "report", _failing_report(int(os.environ[FAILS_AT])))
        if SLOWLY in os.environ:
            patch.setattr(Running, "report", _slow_report(float(os.environ[SLOWLY])))
        app.run(train.main, flags_parser=train.parse_flags)


if __name__ == "__main__":
    _main()
