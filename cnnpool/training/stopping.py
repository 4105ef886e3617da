"""When to stop training a simple CNN (docs/protocol.md, "Scale detection in one dimension")."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class RingProgress:
    """The progress of one network.

    Attributes:
      seed: the network's seed.
      interpolation_epoch: first checked epoch with a training hinge loss of exactly 0.
      stopped_epoch: the epoch after which it was frozen.
      train_hinge: mean hinge loss over the training images at the last evaluation.
      validation_error: fraction of the other images on the wrong side of 0, likewise.
    """

    seed: int
    interpolation_epoch: int | None = None
    stopped_epoch: int | None = None
    train_hinge: float | None = None
    validation_error: float | None = None

    def summary(self) -> str:
        """A one-line summary for the user."""
        return (
            f"seed {self.seed}: interpolated at epoch {self.interpolation_epoch}, stopped at "
            f"{self.stopped_epoch}, train hinge {self.train_hinge:g}, validation error "
            f"{self.validation_error:.2%}"
        )


@dataclasses.dataclass(frozen=True)
class StoppingRule:
    """Stops at the first checked epoch at which training hinge loss and validation error are 0.

    That is not before `multiple` times the interpolation epoch.

    Attributes:
      check_every: epochs between checks.
      multiple: multiple of the interpolation epoch, 500 in the paper.
      max_epochs: no network trains for longer.
    """

    check_every: int
    multiple: int
    max_epochs: int

    def __post_init__(self) -> None:
        for field, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"training.{field} must be at least 1, got {value}")
        if self.max_epochs % self.check_every:
            raise ValueError(
                f"training.max_epochs {self.max_epochs} must be a multiple of "
                f"training.check_every {self.check_every}"
            )

    def earliest_stop(self, progress: RingProgress) -> int | None:
        """First epoch at which this network may stop; None before interpolation."""
        if progress.interpolation_epoch is None:
            return None
        return min(self.multiple * progress.interpolation_epoch, self.max_epochs)

    def next_check(self, epoch: int, progress: RingProgress) -> int:
        """The first epoch after `epoch` at which this network has to be evaluated."""
        following = (epoch // self.check_every + 1) * self.check_every
        return min(max(following, self.earliest_stop(progress) or 0), self.max_epochs)

    def observe(
        self, epoch: int, progress: RingProgress, *, train_hinge: float, validation_error: float
    ) -> RingProgress:
        """The progress after an evaluation at a checked epoch."""
        interpolated = progress.interpolation_epoch
        if interpolated is None and train_hinge == 0:
            interpolated = epoch
        progress = dataclasses.replace(
            progress,
            interpolation_epoch=interpolated,
            train_hinge=train_hinge,
            validation_error=validation_error,
        )
        earliest = self.earliest_stop(progress)
        solved = earliest is not None and epoch >= earliest and train_hinge == validation_error == 0
        if solved or epoch >= self.max_epochs:
            return dataclasses.replace(progress, stopped_epoch=epoch)
        return progress
