"""Which engine, from flags or from what was noted when a job was given to one."""

import argparse
from collections.abc import Iterable, Mapping
import dataclasses
from pathlib import Path
from typing import Any

from cnnpool.errors import check_known
from cnnpool.launch import job_states
from cnnpool.launch.engines import local, skypilot, slurm
from cnnpool.launch.engines.engine import AbsentError, Engine, EngineError
from cnnpool.launch.job_states import WAITING, JobState, Queued
from cnnpool.launch.jobs import Job
from cnnpool.runs import lease

LOCAL = "local"
ENGINES: dict[str, tuple[Any, Any]] = {
    LOCAL: (local.Local, local.Options),
    "slurm": (slurm.Slurm, slurm.Options),
    "skypilot": (skypilot.SkyPilot, skypilot.Options),
}


def make(name: str, options: Mapping[str, Any]) -> Engine:
    """An engine with some of its options, the others, and those that are None, by default.

    Raises:
      EngineError: if an option is another engine's, or its value impossible.
    """
    check_known(name, ENGINES, "engine")
    engine, kind = ENGINES[name]
    given = {key: value for key, value in options.items() if value is not None}
    for option in sorted(given.keys() - _options(name)):
        others = [f"--engine={other}" for other in ENGINES if option in _options(other)]
        raise EngineError(
            f"--{option} is no option of --engine={name}; leave it out, or give "
            f"{' or '.join(others) or 'another'}"
        )
    return engine(kind(**given))


def _options(name: str) -> set[str]:
    return {field.name for field in dataclasses.fields(ENGINES[name][1])}


def states(jobs: Iterable[Job], root: Path) -> list[JobState]:
    """The states of jobs, each held against the queue of the engine that has it.

    A job whose engine is not on this machine may be in its queue: it is left alone.

    Raises:
      EngineError: if an engine does not answer.
    """
    jobs = list(jobs)
    queue: dict[str, Queued] = {}
    for name, records in submissions(jobs, root).items():
        try:
            queue |= make(name, {}).queue(records)
        except AbsentError:
            queue |= dict.fromkeys(records, _unasked(name))
    folders = {job.name: root / job.name for job in jobs}
    held = lease.held(folders[job.name] for job in jobs if not job.is_finished(folders[job.name]))
    return [job_states.of(job, root, queue, held) for job in jobs]


def _unasked(engine: str) -> Queued:
    cure = "if its queue has it no more, remove submission.json from the job's folder"
    reason = f"given to {engine}, which cannot be asked on this machine; {cure}"
    return Queued(WAITING, reason, unasked=True)


def submissions(jobs: Iterable[Job], root: Path) -> dict[str, dict[str, dict]]:
    """What was noted of jobs that are not finished: {engine: {job's name: record}}."""
    found: dict[str, dict[str, dict]] = {}
    for job in jobs:
        folder = root / job.name
        record = job_states.read_submission(folder)
        if record.get("engine") in ENGINES and not job.is_finished(folder):
            found.setdefault(record["engine"], {})[job.name] = record
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of all engines."""
    parser.add_argument("--engine", choices=sorted(ENGINES), default=LOCAL, help="(%(default)s)")
    parser.add_argument("--parallel", type=int, help="jobs at once (local: as many as cores)")
    parser.add_argument(
        "--devices",
        type=lambda text: tuple(text.split(",")),
        help="local: GPUs by number, 0,1; one a job; 0,0 for two jobs that share one, with "
        "XLA_PYTHON_CLIENT_PREALLOCATE=false",
    )
    cluster = parser.add_argument_group("slurm")
    for name in ("partition", "time", "mem", "constraint", "account", "qos"):
        cluster.add_argument(f"--{name}", help="as of sbatch")
    cluster.add_argument("--cpus", type=int, help="cores of a process")
    cluster.add_argument("--gpus", type=int, help="of a process")
    cluster.add_argument("--tasks", type=int, help="processes of a job (1)")
    cluster.add_argument(
        "--signal_seconds", type=int, help="before the time limit jobs are told to save (60)"
    )
    cluster.add_argument("--job_name", help="for squeue (cnnpool)")
    cluster.add_argument(
        "--setup", help="file of shell code to source first; of skypilot: commands that install"
    )
    cloud = parser.add_argument_group(f"skypilot ({skypilot.LABEL})")
    cloud.add_argument("--accelerators", help="tpu-v5e-8, H100:1")
    cloud.add_argument("--bucket", help="gs://NAME, s3://NAME: for checkpoints and results")
    cloud.add_argument("--infra", help="gcp, aws, kubernetes")
    cloud.add_argument("--nodes", type=int, help="machines of a job; a TPU slice is one (1)")
    cloud.add_argument(
        "--spot", action=argparse.BooleanOptionalAction, help="machines that may be taken away"
    )


def of_arguments(args: argparse.Namespace) -> Engine:
    """The engine that the flags of `add_arguments` name.

    Raises:
      EngineError: if a flag is of another engine, or its value impossible.
    """
    flags = set().union(*map(_options, ENGINES))
    return make(args.engine, {key: value for key, value in vars(args).items() if key in flags})
