"""The progress of a classifier's training."""

import dataclasses
import math

import numpy as np

from cnnpool.training.classifier_step import Evaluation


@dataclasses.dataclass(frozen=True)
class ClassifierProgress:
    """The progress of one classifier.

    Attributes:
      seed: the network's seed.
      stopped_epoch: the epoch after which training finished.
      best_epoch: the epoch after which the test error was smallest.
      best_error: the test error after that epoch; this network is kept.
      test_error: test error after the latest epoch.
      test_loss: mean test loss after the latest epoch.
      dead_epoch: the first epoch since which the output is the same for all test images.
      loss_sum: sum of the training losses of the steps since the latest epoch.
      error_sum: sum over these steps of the fraction of misclassified images.
      step_seconds: time taken by these steps.
    """

    seed: int
    stopped_epoch: int | None = None
    best_epoch: int | None = None
    best_error: float | None = None
    test_error: float | None = None
    test_loss: float | None = None
    dead_epoch: int | None = None
    loss_sum: float = 0.0
    error_sum: float = 0.0
    step_seconds: float = 0.0

    def count(self, loss: np.float32, error: np.float32, seconds: float) -> "ClassifierProgress":
        """The progress after some steps, given the sums of their losses and errors."""
        return dataclasses.replace(
            self,
            loss_sum=float(np.float32(self.loss_sum) + loss),
            error_sum=float(np.float32(self.error_sum) + error),
            step_seconds=self.step_seconds + seconds,
        )

    def observe(
        self, epoch: int, evaluation: Evaluation, *, last_epoch: int
    ) -> "ClassifierProgress":
        """The progress after an epoch; `evaluation` holds plain numbers."""
        error, loss = float(evaluation.error), float(evaluation.loss)
        better = error < (math.inf if self.best_error is None else self.best_error)
        died = (self.dead_epoch or epoch) if evaluation.dead else None
        return dataclasses.replace(
            self,
            stopped_epoch=epoch if epoch >= last_epoch else None,
            best_epoch=epoch if better else self.best_epoch,
            best_error=error if better else self.best_error,
            test_error=error,
            test_loss=loss,
            dead_epoch=died,
            loss_sum=0.0,
            error_sum=0.0,
            step_seconds=0.0,
        )

    def summary(self) -> str:
        """A one-line summary for the user."""
        if self.best_error is None:
            return f"seed {self.seed}: not trained yet"
        dead = ""
        if self.dead_epoch is not None:
            dead = f"; dead since epoch {self.dead_epoch} (one output for all images)"
        return (
            f"seed {self.seed}: test error {self.best_error:.2%} (best, epoch {self.best_epoch}), "
            f"{self.test_error:.2%} at the end, test loss {self.test_loss:.4g}{dead}"
        )
