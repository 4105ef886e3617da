"""What the commands ask of an engine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cnnpool.errors import CnnpoolError
from launch.job_states import JobState, Queued


class EngineError(CnnpoolError):
    """An engine is not there, or refuses."""


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

    def start(self, states: Sequence[JobState], root: Path) -> None:
        """Starts jobs, or gives them to a queue."""
        ...

    def cancel(self, submissions: Mapping[str, Mapping]) -> None:
        """Stops jobs; what they computed stays."""
        ...
