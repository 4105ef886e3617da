"""Chooses an engine by flags, or by the record of a job's submission."""

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
    """Creates an engine.

    Args:
      name: a key of `ENGINES`.
      options: its options; those that are missing or None have their default values.

    Raises:
      ValueError: if the name is unknown.
      EngineError: if an option belongs to another engine, or its value is out of range.
    """
    check_known(name, ENGINES, "engine")
    engine, kind = ENGINES[name]
    given = {key: value for key, value in options.items() if value is not None}
    for option in sorted(given.keys() - _options(name)):
        others = [f"--engine={other}" for other in ENGINES if option in _options(other)]
        raise EngineError(
            f"--{option} is not an option of --engine={name}; omit it, or use "
            f"{' or '.join(others) or 'another engine'}"
        )
    return engine(kind(**given))


def _options(name: str) -> set[str]:
    return {field.name for field in dataclasses.fields(ENGINES[name][1])}


def states(jobs: Iterable[Job], root: Path) -> list[JobState]:
    """The states of jobs, from their folders and from the queues of their engines.

    A job whose engine is not available on this machine may be in its queue and counts as waiting.

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
    cure = "if it is no longer in the queue, remove submission.json from the job's folder"
    reason = f"submitted to {engine}, whose queue is not available on this machine; {cure}"
    return Queued(WAITING, reason, unasked=True)


def submissions(jobs: Iterable[Job], root: Path) -> dict[str, dict[str, dict]]:
    """The recorded submissions of jobs that are not finished, {engine: {job's name: record}}."""
    found: dict[str, dict[str, dict]] = {}
    for job in jobs:
        folder = root / job.name
        record = job_states.read_submission(folder)
        if record.get("engine") in ENGINES and not job.is_finished(folder):
            found.setdefault(record["engine"], {})[job.name] = record
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of all engines."""
    parser.add_argument(
        "--engine", choices=sorted(ENGINES), default=LOCAL, help="where jobs run (%(default)s)"
    )
    parser.add_argument(
        "--parallel", type=int, help="most jobs at the same time (local: as many as cores)"
    )
    parser.add_argument(
        "--devices",
        type=lambda text: tuple(text.split(",")),
        help="local: numbers of GPUs, one per job, e.g. 0,1; 0,0 for two jobs that share a GPU, "
        "with XLA_PYTHON_CLIENT_PREALLOCATE=false",
    )
    cluster = parser.add_argument_group("slurm")
    for name in ("partition", "time", "mem", "constraint", "account", "qos"):
        cluster.add_argument(f"--{name}", help="passed to sbatch")
    cluster.add_argument("--cpus", type=int, help="cores per process")
    cluster.add_argument("--gpus", type=int, help="GPUs per process")
    cluster.add_argument("--tasks", type=int, help="processes per job (1)")
    cluster.add_argument(
        "--signal_seconds",
        type=int,
        help="seconds before the time limit at which jobs are told to save (60)",
    )
    cluster.add_argument("--job_name", help="name shown by squeue (cnnpool)")
    cluster.add_argument(
        "--setup",
        help="a file of shell code to source first; with skypilot, shell commands that install "
        "cnnpool",
    )
    cloud = parser.add_argument_group(f"skypilot ({skypilot.LABEL})")
    cloud.add_argument("--accelerators", help="for example tpu-v5e-8 or H100:1")
    cloud.add_argument("--bucket", help="gs://NAME or s3://NAME, for checkpoints and results")
    cloud.add_argument("--infra", help="gcp, aws or kubernetes")
    cloud.add_argument("--nodes", type=int, help="machines per job; a TPU slice is one machine (1)")
    cloud.add_argument(
        "--spot",
        action=argparse.BooleanOptionalAction,
        help="use spot machines, which may be taken away",
    )


def of_arguments(args: argparse.Namespace) -> Engine:
    """The engine for the flags of `add_arguments`.

    Raises:
      EngineError: if a flag belongs to another engine, or its value is out of range.
    """
    flags = set().union(*map(_options, ENGINES))
    return make(args.engine, {key: value for key, value in vars(args).items() if key in flags})
