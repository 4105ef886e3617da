"""The interface between the training loop and a kind of training: ring or classifier."""

from typing import Any, Protocol, runtime_checkable

from ml_collections import ConfigDict

from cnnpool.training.checkpoints import Networks, Progress, RunState


class DivergedError(Exception):
    """A network's loss is no longer finite; the message gives the seed, the loss and the step."""


@runtime_checkable
class Recipe(Protocol):
    """How all networks of a config are trained.

    All state is in `RunState`: a recipe returns the same for the same state, so that a run resumed
    from a saved state is identical bit for bit. Steps are counted over all epochs.

    Attributes:
      config: the complete config.
      steps_per_epoch: training steps per epoch.
      columns: columns of metrics.csv, after epoch and seed.
      progress_type: the dataclass of a network's progress.
      data_source: identifies the data if the config does not determine them.
      tensorboard: whether the rows are also written for TensorBoard.
      remedy: the fields of the config to make smaller if a network diverges.
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
        """The state to continue from, if the config now asks for a longer training."""
        ...

    def shapes(self) -> Networks:
        """Shapes, types and shardings of `RunState.networks`."""
        ...

    def expected_end(self, state: RunState) -> int | None:
        """The epoch at which the last network may stop, if known."""
        ...

    def next_stop(self, state: RunState) -> int:
        """The step, later than the state's, at which `advance` must return."""
        ...

    def advance(self, state: RunState, stop: int) -> tuple[Networks, Any]:
        """The networks after the steps up to `stop`, and a pytree of sums over these steps."""
        ...

    def count(self, state: RunState, sums: Any, seconds: float) -> tuple[Progress, ...]:
        """The progress after an advance.

        Args:
          state: the state before it.
          sums: the sums that `advance` returned, as numpy arrays.
          seconds: time taken by the steps.

        Raises:
          DivergedError: if a loss is not finite.
        """
        ...

    def evaluation_due(self, state: RunState) -> bool:
        """Whether a network is to be evaluated now."""
        ...

    def evaluate(self, state: RunState) -> tuple[Networks, Any]:
        """The networks, updated where one is the best so far, and a pytree of evaluations."""
        ...

    def observe(self, state: RunState, evaluations: Any) -> tuple[Progress, ...]:
        """The progress after an evaluation, which is passed as numpy arrays.

        Raises:
          DivergedError: if a loss is not finite.
        """
        ...

    def measurement_due(self, state: RunState) -> bool:
        """Whether further quantities are measured at a state."""
        ...

    def measure(self, state: RunState) -> dict[int, dict[str, float]]:
        """Further measured quantities of the networks at such a state: more columns, by seed."""
        ...

    def rows(self, before: RunState, after: RunState, sums: Any) -> list[dict[str, Any]]:
        """The rows of metrics.csv after an advance: `seed` and the known columns.

        Args:
          before: the state after the advance and before the evaluation, if there was one.
          after: the state after that evaluation.
          sums: the sums that `advance` returned, as numpy arrays.
        """
        ...

    def summary(self, state: RunState, sums: Any) -> str:
        """The text of the progress bar after an advance."""
        ...
