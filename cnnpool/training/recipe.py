"""What the training loop asks of a kind of training: the ring's, or that of classifiers."""

from typing import Any, Protocol, runtime_checkable

from ml_collections import ConfigDict

from cnnpool.training.checkpoints import Networks, Progress, RunState


class DivergedError(Exception):
    """A network's loss is no longer finite; says its seed, and what was seen and when."""


@runtime_checkable
class Recipe(Protocol):
    """How all networks of a config are trained.

    Nothing but `RunState` changes: a recipe gives the same for the same state, so that a run goes
    on from a saved state bit for bit. Steps are counted over all epochs.

    Attributes:
      config: complete.
      steps_per_epoch: training steps of an epoch.
      columns: of metrics.csv, after epoch and seed.
      progress_type: the dataclass of a network's progress.
      data_source: tells the data from others, where they are not determined by the config.
      tensorboard: whether the rows are written for TensorBoard too.
      remedy: the fields of the config to make smaller where a network diverges.
    """

    config: ConfigDict
    steps_per_epoch: int
    columns: tuple[str, ...]
    progress_type: type
    data_source: str | None
    tensorboard: bool
    remedy: str

    def init(self) -> RunState:
        """All networks before their first step."""
        ...

    def reopened(self, state: RunState) -> RunState:
        """A finished state as one to go on from, if the config asks for a longer training now."""
        ...

    def shapes(self) -> Networks:
        """Shapes, types and shardings of `RunState.networks`."""
        ...

    def expected_end(self, state: RunState) -> int | None:
        """The epoch at which the last network may stop, where it is known."""
        ...

    def next_stop(self, state: RunState) -> int:
        """The step, later than the state's, at which `advance` has to come back."""
        ...

    def advance(self, state: RunState, stop: int) -> tuple[Networks, Any]:
        """The networks after the steps up to `stop`, and a tree of arrays about these steps."""
        ...

    def count(self, state: RunState, sums: Any, seconds: float) -> tuple[Progress, ...]:
        """The progress after an advance.

        Args:
          state: before it.
          sums: what `advance` told of its steps, as numpy arrays.
          seconds: they took.

        Raises:
          DivergedError: if a loss is not finite.
        """
        ...

    def evaluation_due(self, state: RunState) -> bool:
        """Whether a network is to be evaluated now."""
        ...

    def evaluate(self, state: RunState) -> tuple[Networks, Any]:
        """The networks, the best of them remembered, and a tree of arrays about each of them."""
        ...

    def observe(self, state: RunState, evaluations: Any) -> tuple[Progress, ...]:
        """The progress after an evaluation, which is given as numpy arrays.

        Raises:
          DivergedError: if a loss is not finite.
        """
        ...

    def measurement_due(self, state: RunState) -> bool:
        """Whether something is measured beside at a state."""
        ...

    def measure(self, state: RunState) -> dict[int, dict[str, float]]:
        """What is measured beside of the networks at such a state: more columns, by seed."""
        ...

    def rows(self, before: RunState, after: RunState, sums: Any) -> list[dict[str, Any]]:
        """The rows of metrics.csv after an advance: `seed` and the columns that are known.

        Args:
          before: the state after the advance and before the evaluation, if there was one.
          after: and after it.
          sums: what `advance` told of its steps, as numpy arrays.
        """
        ...

    def summary(self, state: RunState, sums: Any) -> str:
        """What the progress bar says after an advance."""
        ...
