"""An epoch of deep networks in parts of a few steps, so that it can be left and taken up again."""

from collections.abc import Callable, Iterator
from pathlib import Path
import time
from typing import Any, NamedTuple

import numpy as np

from cnnpool.devices import distributed, global_arrays
from cnnpool.files import storage
from cnnpool.runs.running import Running
from cnnpool.training.checkpoints import CheckpointStore, RunState
from cnnpool.training.image_progress import ImageProgress
from cnnpool.training.image_setup import ImageTraining
from cnnpool.training.image_step import StepMetrics


class EpochPart(NamedTuple):
    """An epoch up to one of its steps.

    Attributes:
      arrays: the stacked `TrainState` then.
      step: steps done.
      loss: sum over these steps; (seeds,).
      error: sum of the part of the images that were misclassified; (seeds,).
      seconds: they took.
    """

    arrays: Any
    step: int
    loss: np.ndarray
    error: np.ndarray
    seconds: float = 0.0

    @classmethod
    def first(cls, arrays: Any, n_seeds: int) -> "EpochPart":
        """An epoch before its first step."""
        return cls(arrays, 0, np.zeros(n_seeds, np.float32), np.zeros(n_seeds, np.float32))


def parts(
    training: ImageTraining, steps: Callable, epoch: int, part: EpochPart, process: Running
) -> Iterator[tuple[EpochPart, StepMetrics]]:
    """Goes on with an epoch in calls of a few steps; the metrics are those of the latest call.

    Raises:
      PreemptedError: if a signal asked to stop; the latest part is what there is to save.
    """
    count, per_call = training.steps_per_epoch, training.config.runtime.steps_per_call
    while part.step < count:
        stop = min(part.step + per_call, count)
        began = time.monotonic()
        arguments = (part.arrays, training.keys, training.train, epoch, part.step, stop)
        arrays, metrics = process.call(steps, *arguments)
        metrics = global_arrays.fetch(metrics)
        loss, error = part.loss + metrics.loss, part.error + metrics.error
        part = EpochPart(arrays, stop, loss, error, part.seconds + time.monotonic() - began)
        yield part, metrics


_SAVED = ("arrays", "loss", "error", "seconds")  # the step is in the checkpoint's name


def _saved(part: EpochPart) -> dict[str, Any]:
    fields = part._asdict() | {"seconds": np.float64(part.seconds)}
    return {name: fields[name] for name in _SAVED}


class PartStore:
    """Checkpoints inside of epochs, in WORKDIR/partial; the latest two, until the run is over."""

    def __init__(self, workdir: Path, training: ImageTraining):
        """Reads what is there; makes nothing."""
        self.directory = workdir / "partial"
        self._training = training
        self._store: CheckpointStore | None = None
        if distributed.agreed(self.directory.exists()):
            self._open()

    def _open(self) -> CheckpointStore:
        if self._store is None:
            self._store = CheckpointStore(self.directory, progress_type=ImageProgress)
        return self._store

    def _number(self, epoch: int, step: int) -> int:
        """The checkpoint's name: one step more an epoch, as its evaluation is one too."""
        return epoch * (self._training.steps_per_epoch + 1) + step

    def save(self, state: RunState, part: EpochPart, *, seconds: float) -> None:
        """Starts to write an epoch up to a step, in the background.

        Args:
          state: before the epoch.
          part: of it.
          seconds: of all training so far.

        Raises:
          CheckpointError: if it cannot be written.
        """
        number, store = self._number(state.epoch, part.step), self._open()
        store.wait()
        if number not in store.epochs:
            store.save(RunState(number, _saved(part), state.progress, seconds))

    def resume(self, state: RunState) -> tuple[RunState, EpochPart]:
        """The latest part on disk, or the beginning of the epoch after `state` if that is later.

        Raises:
          CheckpointError: if the part is damaged.
        """
        seeds = self._training.config.seeds
        fresh = state, EpochPart.first(state.params, len(seeds))
        number = max(self._store.epochs, default=-1) if self._store else -1
        if self._store is None or number <= self._number(state.epoch, 0):
            return fresh
        like = _saved(EpochPart.first(self._training.state_shapes(), len(seeds)))
        found = self._store.restore(number, like, seeds=seeds)
        arrays, loss, error, took = (found.params[name] for name in _SAVED)
        epoch, step = divmod(number, self._training.steps_per_epoch + 1)
        part = EpochPart(arrays, step, np.asarray(loss), np.asarray(error), float(took))
        return RunState(epoch, arrays, found.progress, found.seconds), part

    def remove(self) -> None:
        """Deletes all parts: the run is over."""
        self.close()
        distributed.on_first(lambda: storage.remove_tree(self.directory))

    def close(self) -> None:
        """Waits for writes in the background."""
        if self._store is not None:
            self._store.close()
            self._store = None
