"""The state of a job of a sweep, from its files, then its lease, then the engine's queue."""

from collections.abc import Collection, Mapping
import dataclasses
import json
from pathlib import Path
from typing import Any

from cnnpool.files.atomic_write import write_text
from cnnpool.launch.jobs import Job
from cnnpool.runs import lease, run_status

WAITING, RUNNING, FINISHED, FAILED, STOPPED = (
    "waiting",
    "running",
    "finished",
    "failed",
    "stopped",
)
STATES = (WAITING, RUNNING, FINISHED, FAILED, STOPPED)
_SUBMISSION = "submission.json"


@dataclasses.dataclass(frozen=True)
class Queued:
    """An engine's information about a job.

    Attributes:
      state: `WAITING`, `RUNNING`, or `STOPPED` if it has ended, in whatever way.
      reason: the reason given by the queue.
      fatal: whether the job would end in the same way if it were submitted again.
      log: where its output is, if not in a file on this machine.
      unasked: whether the queue is not available on this machine.
    """

    state: str
    reason: str = ""
    fatal: bool = False
    log: str = ""
    unasked: bool = False


@dataclasses.dataclass(frozen=True)
class JobState:
    """The current state of a job of a sweep.

    Attributes:
      job: the job.
      folder: its folder.
      state: one of `STATES`. A `STOPPED` job continues when the sweep is run again; a `WAITING`
        job is in a queue, or was never submitted if `queued` is False.
      queued: whether an engine has the job.
      detail: the reason for the state, or the error.
      status: the status that the job itself has written, if any.
      unasked: whether an engine that is not available on this machine may have the job.
    """

    job: Job
    folder: Path
    state: str
    queued: bool = False
    detail: str = ""
    status: run_status.Status | None = None
    unasked: bool = False

    @property
    def is_to_be_given(self) -> bool:
        """Whether the job should be submitted to an engine."""
        return self.state in (WAITING, STOPPED) and not self.queued


def of(
    job: Job, root: Path, queue: Mapping[str, Queued], held: Collection[Path] | None = None
) -> JobState:
    """The state of a job.

    Args:
      job: the job.
      root: the folder that contains the job's folder.
      queue: the engine's information, {job's name: Queued}.
      held: the folders held by live processes, from `lease.held`; None: ask here.
    """
    folder = root / job.name
    status, queued = run_status.read(folder), queue.get(job.name)

    def state(name: str, detail: str = "", *, has: bool = False) -> JobState:
        return JobState(job, folder, name, has, detail, status)

    if job.is_finished(folder):
        return state(FINISHED)
    if folder in (lease.held([folder]) if held is None else held):
        owner = lease.owner(folder)
        return state(RUNNING, "" if owner is None else f"on {owner['host']}", has=True)
    if queued is not None and queued.state != STOPPED:
        found = state(queued.state, queued.reason, has=True)
        return dataclasses.replace(found, unasked=queued.unasked)
    reason = queued.reason if queued is not None else ""
    if status is not None and status.state == run_status.FAILED:
        return state(FAILED, status.error or reason)
    if queued is not None and (queued.fatal or (status is None and reason == "FAILED")):
        log = folder / "log.txt"
        where = queued.log or (log if log.exists() else root / "slurm")
        return state(FAILED, f"{reason}; see {where}")
    if status is not None and status.state == run_status.RUNNING:
        return state(STOPPED, reason or "killed")
    if status is not None and status.state == run_status.PREEMPTED:
        return state(STOPPED, status.error or reason)
    return state(WAITING, "not started")


def write_submission(folder: Path, record: Mapping[str, Any]) -> None:
    """Records the submission of a job to an engine; an empty record: no engine has the job."""
    if not record:
        (folder / _SUBMISSION).unlink(missing_ok=True)
        return
    write_text(folder / _SUBMISSION, json.dumps(dict(record), indent=2) + "\n")


def read_submission(folder: Path) -> dict[str, Any]:
    """The record of `write_submission`; empty if there is none."""
    try:
        record = json.loads((folder / _SUBMISSION).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
