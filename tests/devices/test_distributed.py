"""One job in several processes: the bits of a single process, deaths, preemption, set-up."""

import contextlib
import csv
import os
import re
import signal
import time

import jax
import pytest

from cnnpool.devices import distributed
from cnnpool.errors import EXIT_PREEMPTED, PreemptedError
from cnnpool.files import results
from cnnpool.runs import run_status
from tests import processes, tiny_sweep

EPOCHS = 60
HEARD = 20  # seconds in which a death is noticed: 10 of the heartbeat, and a busy machine


def epochs(workdir):
    return sorted(processes.checkpoints(workdir))


def wait_for_epoch(running, workdir, epoch):
    """Returns when a checkpoint of that epoch or a later one is complete."""
    deadline = time.monotonic() + 240
    while max(epochs(workdir), default=0) < epoch:
        if any(p.poll() is not None for p in running) or time.monotonic() > deadline:
            for process in running:
                process.kill()
            pytest.fail(f"epoch {epoch} never came: {[p.communicate()[1] for p in running]}")
        time.sleep(0.02)


@contextlib.contextmanager
def joined(workdir, **fields):
    """Two processes of one job, which do not outlive the test."""
    running = processes.start_joined(workdir, **fields)
    try:
        yield running
    finally:
        for process in running:
            process.kill()


def table(workdir):
    with (workdir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


@pytest.mark.slow
def test_two_processes_asked_to_end_and_killed_are_one_process_bit_for_bit(tmp_path):
    """Batch norm, dropout, crops; every batch on two devices, one of each process."""
    alone, job = tmp_path / "alone", tmp_path / "job"
    ((status, summary, errors),) = processes.finish(
        [processes.start(alone, devices=2, training__epochs=EPOCHS)]
    )
    assert status == 0, errors

    with joined(job, training__epochs=EPOCHS) as running:
        wait_for_epoch(running, job, 1)
        running[1].send_signal(signal.SIGTERM)
        ends = processes.finish(running)
    assert [end[0] for end in ends] == [EXIT_PREEMPTED] * 2, ends
    saved = max(epochs(job))
    assert "stopped in epoch" in ends[0][2]
    assert run_status.read(job).state == run_status.PREEMPTED
    assert 1 <= saved < EPOCHS

    with joined(job, training__epochs=EPOCHS) as running:
        wait_for_epoch(running, job, saved + 1)
        running[1].kill()
        began = time.monotonic()
        first = processes.finish(running[:1])[0]
        assert time.monotonic() - began < HEARD
        running[1].communicate()
    # JAX aborts a process that it finds waiting for the other's part of a checkpoint.
    assert first[0] in (EXIT_PREEMPTED, -signal.SIGABRT), first
    if first[0] == EXIT_PREEMPTED:
        assert "another process is gone" in first[2]
        assert run_status.read(job).state == run_status.PREEMPTED
    assert saved < max(epochs(job)) < EPOCHS

    with joined(job, training__epochs=EPOCHS) as running:
        ends = processes.finish(running)
    assert [end[0] for end in ends] == [0, 0], ends
    assert ends[0][1].endswith(summary)
    assert "seed" not in ends[1][1]
    assert "training:" not in ends[1][2]
    assert run_status.read(job).state == run_status.FINISHED
    found, expected = (processes.checkpoints(place)[EPOCHS] for place in (job, alone))
    assert found["checksum"] == expected["checksum"]
    assert found["progress"] == expected["progress"]
    assert table(job) == table(alone)


@pytest.mark.slow
def test_a_mistake_of_the_second_process_is_not_a_lost_one(tmp_path, monkeypatch):
    """No exit 75, which would start it again and again; the next start forgets it."""
    monkeypatch.setenv(processes.FAILS_AT, "2")
    with joined(tmp_path) as running:
        ends = processes.finish(running)
    assert ends[1][0] == 1, ends
    assert processes.MISTAKE in ends[1][2]
    # JAX aborts a process that it finds waiting for the other in a step.
    assert ends[0][0] in (1, -signal.SIGABRT), ends
    status = run_status.read(tmp_path)
    assert status.state == run_status.FAILED
    assert processes.MISTAKE in status.error
    monkeypatch.delenv(processes.FAILS_AT)
    with joined(tmp_path) as running:
        ends = processes.finish(running)
    assert [end[0] for end in ends] == [0, 0], ends
    assert run_status.read(tmp_path).state == run_status.FINISHED


SIMPLE = {**tiny_sweep.TINY, "training__ridge": 0.02, "runtime__log_every": 50}


@pytest.mark.slow
def test_simple_cnns_of_two_processes_are_those_of_one_bit_for_bit(tmp_path):
    """A network a process; stopped once, and measured by both."""
    flags = [f"--config.{name.replace('__', '.')}={value}" for name, value in SIMPLE.items()]
    alone, job = tmp_path / "alone", tmp_path / "job"

    def training(workdir, *more, **options):
        words = ["--config=configs/scale1d.py:quick", f"--workdir={workdir}", *flags, *more]
        return processes.start_module("cnnpool.train", *words, **options)

    ends = processes.finish([training(alone, devices=2)])
    assert ends[0][0] == 0, ends
    running = [
        training(job, *more, "--config.checkpoint.every_seconds=0.1")
        for more in processes.joined_flags()
    ]
    try:
        wait_for_epoch(running, job, 1)
        running[1].send_signal(signal.SIGTERM)
        ends = processes.finish(running)
    finally:
        for process in running:
            process.kill()
    assert [end[0] for end in ends] == [EXIT_PREEMPTED] * 2, ends
    assert max(epochs(job)) < max(epochs(alone))
    ends = processes.finish([training(job, *more) for more in processes.joined_flags()])
    assert [end[0] for end in ends] == [0, 0], ends
    found, expected = (processes.checkpoints(place)[max(epochs(alone))] for place in (job, alone))
    assert found["checksum"] == expected["checksum"]
    assert found["progress"] == expected["progress"]
    assert table(job) == table(alone)

    def measuring(workdir, *more):
        words = [f"--workdir={workdir}", f"--out={workdir}.nc", "--stage=init,trained", *more]
        return processes.start_module("cnnpool.eval", *words)

    ends = processes.finish([measuring(job, *more) for more in processes.joined_flags()])
    assert [end[0] for end in ends] == [0, 0], ends
    assert "measuring" not in ends[1][2]
    assert processes.finish([measuring(alone)])[0][0] == 0
    one, two = (results.read(place.with_suffix(".nc")) for place in (alone, job))
    assert one.drop_vars("training_seconds", errors="ignore").equals(
        two.drop_vars("training_seconds", errors="ignore")
    )


def test_arguments_go_together_and_are_checked():
    cases = [
        (
            {"coordinator": "host:1"},
            "expected --coordinator, --process_id and --num_processes together",
        ),
        ({"coordinator": "host:1", "process_id": 2, "num_processes": 2}, "0..1"),
        ({"coordinator": "host", "process_id": 0, "num_processes": 2}, "HOST:PORT"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            distributed.join(**arguments)


STEP = {
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node17",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"environment": STEP},
            "process 0 of 4 waits .* job 7.*: give --num_processes=1, or unset",
        ),
        (
            {"coordinator": "host:1", "process_id": 1, "num_processes": 2},
            "process 1 of 2 is waiting .* at host:1: start each",
        ),
    ],
)
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_whom_a_process_waits_for_is_said(monkeypatch, capsys, arguments, message, seconds):
    monkeypatch.setattr(distributed, "SILENT_SECONDS", seconds)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: time.sleep(0.2))
    monkeypatch.setattr(distributed, "_listen", lambda: None)
    distributed.join(**arguments)
    said = capsys.readouterr().err
    assert re.match(message, said) if seconds == 0 else said == ""


def test_a_process_that_is_alone_stays_alone(monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", pytest.fail)
    of_a_batch_script = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
    copied = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}
    for environment in ({}, of_a_batch_script, {"SLURM_STEP_NUM_TASKS": "1"}, copied):
        assert distributed.join(environment=environment) == 1
    assert distributed.join(num_processes=1, environment=STEP) == 1
    alone = {"coordinator": "host:1", "process_id": 0, "num_processes": 1}
    assert distributed.join(**alone) == 1
    done = []
    distributed.on_first(lambda: done.append(1))
    assert done
    assert distributed.is_first()
    assert not distributed.preempted()
    with pytest.raises(KeyError), distributed.ending_together():
        raise KeyError


@pytest.mark.parametrize(
    ("gpus", "tasks_per_node", "devices"),
    [
        (None, "2", None),
        ("3", "4", [0]),  # one each, as --gpus-per-task=1 shows it
        ("0,1,2,3", "4", None),  # all see all: JAX gives each its own
        ("0,1,2,3", "1(x2)", [0, 1, 2, 3]),
        ("0,1,2,3", "12", None),
    ],
)
def test_a_step_of_slurm_is_joined(monkeypatch, gpus, tasks_per_node, devices):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: calls.append(k))
    monkeypatch.setattr(distributed, "_listen", lambda: calls.append("listens"))
    step = STEP | {"SLURM_STEP_TASKS_PER_NODE": tasks_per_node}
    seen = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
    assert distributed.join(environment=step | seen) == 4
    assert calls == [
        {
            "num_processes": 4,
            "local_device_ids": devices,
            "cluster_detection_method": "slurm",
            "heartbeat_timeout_seconds": distributed.HEARTBEAT_SECONDS,
        },
        "listens",
    ]


def test_lost_processes_are_restarted_and_mistakes_are_not(monkeypatch):
    def status(error, cause=None):
        with pytest.raises(type(error)) as caught:
            raise error from cause
        return distributed.exit_status(caught.value)

    lost = jax.errors.JaxRuntimeError("UNKNOWN: Gloo AllReduce failed: Connection reset by peer")
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    illegal = jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS: in NCCL's stream")
    assert status(lost) == 1, "of a process that is alone nobody can be gone"
    monkeypatch.setattr(distributed, "is_joined", lambda: True)
    assert status(lost) == os.EX_TEMPFAIL == 75
    assert status(illegal) == 1
    assert status(RuntimeError("cannot write"), lost) == 75
    assert status(ValueError("UNKNOWN: Gloo AllGather failed: Read error")) == 75
    assert status(PreemptedError("asked to end")) == 75
    assert status(full) == 1
    assert status(ValueError("config.seeds")) == 1
