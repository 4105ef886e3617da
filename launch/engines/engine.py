"""The interface of engines."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cnnpool.errors import CnnpoolError
from cnnpool.launch.job_states import JobState, Queued


class EngineError(CnnpoolError):
    """An engine is not available, or rejects a request."""


class AbsentError(EngineError):
    """The commands of an engine are not installed on this machine."""


class JobsFailedError(EngineError):
    """Jobs were run and failed; the message names them."""


def check_at_least(options: Any, **least: int) -> None:
    """Raises EngineError if an option that is not None is smaller than its least value."""
    for name, limit in least.items():
        value = getattr(options, name)
        if value is not None and value < limit:
            raise EngineError(f"--{name} must be at least {limit}, got {value}")


# Slurm's variables that describe the cluster, and not the job that this process belongs to.
_OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
_FILTERS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SBATCH_WAIT")


def outside_of_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for new jobs and for Slurm's commands.

    It lacks the variables of a Slurm job that this process may run in, as in an interactive
    session: new jobs would wait for the processes of that job's step, and inherit its memory and
    CPU binding. It also lacks variables by which a user's profile filters the output of Slurm's
    commands or makes them wait.
    """
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_FILTERS)
        and (not name.startswith("SLURM_") or name.startswith(_OF_THE_CLUSTER))
    }


def nothing() -> None:
    """Does nothing."""


class Engine(Protocol):
    """Starts jobs, and knows the states of those that it has."""

    def queue(self, submissions: Mapping[str, Mapping]) -> dict[str, Queued]:
        """The engine's information about jobs, {job's name: Queued}.

        Args:
          submissions: {job's name: record of its submission to this engine}.
        """
        ...

    def describe(self, states: Sequence[JobState], root: Path) -> str:
        """A text that says exactly what `start` would do; writes no files."""
        ...

    def start(
        self, states: Sequence[JobState], root: Path, noted: Callable[[], None] = nothing
    ) -> None:
        """Starts jobs, or submits them to a queue.

        Args:
          states: the states of the jobs.
          root: the folder that contains their folders.
          noted: called once all submissions are recorded in the jobs' folders.
        """
        ...

    def cancel(self, submissions: Mapping[str, Mapping]) -> list[str]:
        """Stops jobs; their results are kept. Returns the names of the jobs that it reached."""
        ...
