"""The status of a run, in `status.json`, which is replaced atomically.

Of several processes, only the first writes it. If another process fails, that process writes
`failure.json`, which `read` prefers, so that its error is not mistaken for a lost machine.
"""

import dataclasses
import json
import os
from pathlib import Path
import platform
import time

from cnnpool.files.atomic_write import write_text

RUNNING, FINISHED, FAILED, PREEMPTED = "running", "finished", "failed", "preempted"
STATES = (RUNNING, FINISHED, FAILED, PREEMPTED)
_FAILURE = "failure.json"
LEAST_SECONDS = 2.0  # minimum time between two writes of the progress


@dataclasses.dataclass(frozen=True)
class Status:
    """State and progress of a run.

    Attributes:
      state: running, finished, failed or preempted.
      task: training or measuring.
      epoch: number of completed epochs.
      epochs: number of epochs of the whole training, if known.
      eta_seconds: estimated seconds until the training ends, at the rate of this process.
      error: what went wrong, in one line.
      host: name of the machine.
      pid: id of the process on that machine.
      time: when this status was written, in seconds since 1970.
    """

    state: str
    task: str = "training"
    epoch: int | None = None
    epochs: int | None = None
    eta_seconds: float | None = None
    error: str | None = None
    host: str = dataclasses.field(default_factory=platform.node)
    pid: int = dataclasses.field(default_factory=os.getpid)
    time: float = dataclasses.field(default_factory=time.time)


def path_of(workdir: Path) -> Path:
    """The file in which a run stores its status."""
    return workdir / "status.json"


def write(workdir: Path, status: Status) -> None:
    """Replaces the status of a run; raises OSError if it cannot be written."""
    _write(path_of(workdir), status)


def write_failure(workdir: Path, status: Status) -> None:
    """Records the failure of a process other than the first; raises OSError if it cannot."""
    _write(workdir / _FAILURE, status)


def forget_failure(workdir: Path) -> None:
    """Removes the record of `write_failure`, when a run is started again."""
    (workdir / _FAILURE).unlink(missing_ok=True)


def read(workdir: Path) -> Status | None:
    """The status of a run; None if there is none, or the file is not a status."""
    return read_failure(workdir) or _read(path_of(workdir))


def read_failure(workdir: Path) -> Status | None:
    """The recorded failure of a process other than the first, or None."""
    return _read(workdir / _FAILURE)


def _write(path: Path, status: Status) -> None:
    text = json.dumps(dataclasses.asdict(status), indent=2)
    write_text(path, f"{text}\n", durable=False)


def _read(path: Path) -> Status | None:
    try:
        status = Status(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return status if status.state in STATES else None
