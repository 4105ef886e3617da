"""In which state a job of a sweep is: its files first, its lease, then the engine's queue."""

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
    """What an engine's queue says of a job.

    Attributes:
      state: `WAITING`, `RUNNING`, or `STOPPED` where it is over, however it went.
      reason: in the queue's words.
      fatal: whether giving the job once more would end the same way.
      log: where its output is, if not in a file of this machine.
      unasked: whether the queue cannot be asked from this machine.
    """

    state: str
    reason: str = ""
    fatal: bool = False
    log: str = ""
    unasked: bool = False


@dataclasses.dataclass(frozen=True)
class JobState:
    """A job of a sweep, now.

    Attributes:
      job: which.
      folder: of it.
      state: one of `STATES`; `STOPPED` goes on when the sweep is given again, `WAITING` is in a
        queue, or was never given to one if `queued` is false.
      queued: whether an engine has it.
      detail: why, or the error.
      status: its own, if it has one.
      unasked: whether an engine may have it that cannot be asked from this machine.
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
        """Whether an engine is to start it."""
        return self.state in (WAITING, STOPPED) and not self.queued


def of(
    job: Job, root: Path, queue: Mapping[str, Queued], held: Collection[Path] | None = None
) -> JobState:
    """The state of a job.

    Args:
      job: which.
      root: holds its folder.
      queue: what the engine says, by the job's name.
      held: folders in which processes work, as `lease.held` says; None asks it.
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
    """Notes which engine has a job, and as what; an empty record is that none has it."""
    if not record:
        (folder / _SUBMISSION).unlink(missing_ok=True)
        return
    write_text(folder / _SUBMISSION, json.dumps(dict(record), indent=2) + "\n")


def read_submission(folder: Path) -> dict[str, Any]:
    """What `write_submission` noted; empty if nothing."""
    try:
        record = json.loads((folder / _SUBMISSION).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
