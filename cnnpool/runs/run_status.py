"""What a run says of itself while it works: `status.json`, always whole.

Of several processes only the first writes it. Another one that fails leaves `failure.json`, which
`read` prefers, so that its mistake is not taken for a lost machine.
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
LEAST_SECONDS = 2.0  # between two writes of how far it is


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
      state: running, finished, failed or preempted.
      task: training or measuring.
      epoch: epochs done.
      epochs: of the whole training, where that is known.
      eta_seconds: until the training ends, at the rate of this process.
      error: what went wrong, in a line.
      host: the machine's name.
      pid: of the process there.
      time: of this record, seconds since 1970.
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
    """Where a run keeps its status."""
    return workdir / "status.json"


def write(workdir: Path, status: Status) -> None:
    """Replaces the status of a run; raises OSError if it cannot be written."""
    _write(path_of(workdir), status)


def write_failure(workdir: Path, status: Status) -> None:
    """Leaves what went wrong in a process that is not the first; raises OSError if it cannot."""
    _write(workdir / _FAILURE, status)


def forget_failure(workdir: Path) -> None:
    """Removes what `write_failure` left, when the work is begun again."""
    (workdir / _FAILURE).unlink(missing_ok=True)


def read(workdir: Path) -> Status | None:
    """The status of a run; None if it has none, or something else lies there."""
    return read_failure(workdir) or _read(path_of(workdir))


def read_failure(workdir: Path) -> Status | None:
    """What a process that is not the first left when it failed, or None."""
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
