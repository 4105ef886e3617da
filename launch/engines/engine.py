"""What the commands ask of an engine."""

from collections.abc import Callable, Mapping, Sequence
import os
from pathlib import Path
import sys
from typing import Any, Protocol

from cnnpool.errors import CnnpoolError
from cnnpool.launch.job_states import JobState, Queued


class EngineError(CnnpoolError):
    """An engine is not there, or refuses."""


class AbsentError(EngineError):
    """The commands of an engine are not on this machine."""


class JobsFailedError(EngineError):
    """Jobs were run and failed; the message names them."""


def check_at_least(options: Any, **least: int) -> None:
    """Raises EngineError if an option, where it is given, is less than it can be."""
    for name, limit in least.items():
        value = getattr(options, name)
        if value is not None and value < limit:
            raise EngineError(f"--{name} must be at least {limit}, got {value}")


# Of Slurm's variables, those that say where the cluster is and not which job this process is in.
_OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
_FILTERS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SBATCH_WAIT")


def outside_of_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for jobs of their own, and for asking about them.

    Without what describes the job that this process runs in, as in an interactive session: a new
    job would wait for the processes of that one's step, and take its memory and binding over.
    Without what a user's profile makes Slurm's commands leave out, or wait for.
    """
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_FILTERS)
        and (not name.startswith("SLURM_") or name.startswith(_OF_THE_CLUSTER))
    }


def run_job() -> list[str]:
    """The command that runs a job, in the folder and with the Python of this process.

    Modules of that folder stand before Python's own (random.py, jax.py) where they do here, as with
    `python -m`; the command `cnnpool` and its jobs do not look there.
    """
    here = "" in sys.path or os.getcwd() in sys.path
    return [sys.executable, *([] if here else ["-P"]), "-m", "cnnpool.launch.run_job", "--log"]


def nothing() -> None:
    """Does nothing."""


class Engine(Protocol):
    """Starts jobs, and knows of those that it has."""

    def queue(self, submissions: Mapping[str, Mapping]) -> dict[str, Queued]:
        """What it knows of jobs, by name.

        Args:
          submissions: of each job's name what was noted when it was given to this engine.
        """
        ...

    def describe(self, states: Sequence[JobState], root: Path) -> str:
        """Exactly what `start` would do; writes nothing."""
        ...

    def start(
        self, states: Sequence[JobState], root: Path, noted: Callable[[], None] = nothing
    ) -> None:
        """Starts jobs, or gives them to a queue.

        Args:
          states: of the jobs.
          root: holds their folders.
          noted: is called when it stands in the folders who has the jobs.
        """
        ...

    def cancel(self, submissions: Mapping[str, Mapping]) -> list[str]:
        """Stops jobs; what they computed stays. Returns the names of those that it could tell."""
        ...
