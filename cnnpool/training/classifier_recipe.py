"""Training of classifiers: a fixed number of epochs, keeping the best network."""

from collections.abc import Callable
import dataclasses
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
from ml_collections import ConfigDict
import numpy as np

from cnnpool.devices import distributed, global_arrays, runtime
from cnnpool.devices.progress_bar import say
from cnnpool.training import optimizer
from cnnpool.training.checkpoints import Networks, RunState
from cnnpool.training.classifier_progress import ClassifierProgress
from cnnpool.training.classifier_setup import ClassifierTraining, setup
from cnnpool.training.classifier_step import Evaluation, StepMetrics
from cnnpool.training.fine_tuning import transplanted
from cnnpool.training.groups import NO_STEP
from cnnpool.training.recipe import DivergedError
from cnnpool.training.variables import Variables


@runtime_checkable
class Monitor(Protocol):
    """Measures the networks of a run during training."""

    def columns(self, training: ClassifierTraining) -> tuple[str, ...]:
        """The names of the measured quantities of each network."""
        ...

    def due(self, epoch: int) -> bool:
        """Whether the networks are to be measured after an epoch."""
        ...

    def measure(self, training: ClassifierTraining, state: RunState) -> list[dict[str, float]]:
        """The measured quantities of the current networks, by name; one dict per seed."""
        ...


class ClassifierRecipe:
    """The recipe of `cnnpool.training.recipe.Recipe` whose calls are a few steps of an epoch.

    `RunState.networks` is a stacked `TrainState`. metrics.csv has one row per network and epoch.
    """

    COLUMNS = (
        "learning_rate",
        "train_loss",
        "train_error",
        "test_loss",
        "test_error",
        "images_per_second",
    )
    progress_type = ClassifierProgress
    remedy = "training.learning_rate, training.warmup_epochs or training.clip_norm"

    def __init__(
        self,
        config: ConfigDict,
        *,
        trained: Callable[[Path], list[Variables]] | None = None,
        monitor: Monitor | None = None,
    ):
        """Reads the data and prepares the compiled programs.

        Args:
          config: the complete config.
          trained: reads the networks in a folder, for `training.init_from`.
          monitor: measures the networks during training.

        Raises:
          ValueError: if the config is impossible.
          DataError: if the data is missing or damaged.
        """
        self.config = config
        self._trained, self._monitor = trained, monitor
        self.training = training = setup(config)
        more = monitor.columns(training) if monitor else ()
        self.columns = (*self.COLUMNS, *more)
        self.steps_per_epoch = training.steps_per_epoch
        self.data_source = training.data.source
        self.tensorboard = config.runtime.tensorboard
        self._steps = training.steps_program()
        self._finish = training.finish_program()

    def init(self) -> RunState:
        """All networks before their first step."""
        state = self.training.initial_state()
        folder = self.config.training.get("init_from")
        return state if folder is None else self._from_trained(state, Path(folder))

    def _from_trained(self, state: RunState, folder: Path) -> RunState:
        """The first state with the networks in a folder, one for each seed or one for all.

        Raises:
          ValueError: if their number is different, or they do not fit.
        """
        if self._trained is None:
            raise ValueError("training.init_from is for cnnpool.train; expected None here")
        seeds, given = self.config.seeds, self._trained(folder)
        if len(given) not in (1, len(seeds)):
            raise ValueError(
                f"training.init_from={folder} holds {len(given)} networks; expected one for each "
                f"of the {len(seeds)} seeds, or one for all"
            )
        fresh = global_arrays.fetch(state.networks.current)
        begun = []
        for row in range(len(seeds)):
            own = jax.tree.map(lambda leaf, row=row: leaf[row], fresh)
            network, stays = transplanted(own, given[row % len(given)])
            begun.append(network)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *begun)
        placed = global_arrays.place(stacked, runtime.over_seeds(self.training.mesh))
        if distributed.is_first():
            kept = f"; not from there: {', '.join(stays)}" if stays else ""
            say(f"beginning with the networks of {folder}{kept}")
        return dataclasses.replace(
            state, networks=state.networks._replace(current=placed, best=placed)
        )

    def reopened(self, state: RunState) -> RunState:
        """If the config asks for more epochs than the state's, continues from its last step."""
        if state.epoch >= self.config.training.epochs:
            return state
        progress = tuple(dataclasses.replace(one, stopped_epoch=None) for one in state.progress)
        return dataclasses.replace(state, progress=progress)

    def shapes(self) -> Networks:
        """Shapes, types and shardings of the stacked `TrainState`."""
        return self.training.state_shapes()

    def expected_end(self, state: RunState) -> int:
        """The last epoch."""
        del state
        return self.config.training.epochs

    def next_stop(self, state: RunState) -> int:
        """A few steps later, but at most the end of the epoch."""
        step = min(state.step + self.config.runtime.steps_per_call, self.steps_per_epoch)
        return state.epoch * self.steps_per_epoch + step

    def advance(self, state: RunState, stop: int) -> tuple[Networks, StepMetrics]:
        """A few steps of an epoch."""
        last = stop - state.epoch * self.steps_per_epoch
        training = self.training
        return self._steps(
            state.networks, training.keys, training.train, state.epoch, state.step, last
        )

    def count(
        self, state: RunState, sums: StepMetrics, seconds: float
    ) -> tuple[ClassifierProgress, ...]:
        """Adds the steps to the sums over the epoch.

        Raises:
          DivergedError: if a training loss is not finite.
        """
        first = state.epoch * self.steps_per_epoch
        for seed, bad in zip(self.config.seeds, sums.first_bad_step, strict=True):
            if bad != NO_STEP:
                raise DivergedError(
                    f"seed {seed} diverged: the loss is not finite at step {first + int(bad)} "
                    f"(epoch {state.epoch})"
                )
        return tuple(
            one.count(loss, error, seconds)
            for one, loss, error in zip(state.progress, sums.loss, sums.error, strict=True)
        )

    def evaluation_due(self, state: RunState) -> bool:
        """Whether an epoch is over."""
        return state.step == 0

    def evaluate(self, state: RunState) -> tuple[Networks, Evaluation]:
        """Evaluates on the test images, and keeps each network that is the best so far."""
        training = self.training
        return self._finish(state.networks, training.keys, training.test, state.epoch - 1)

    def observe(self, state: RunState, evaluations: Evaluation) -> tuple[ClassifierProgress, ...]:
        """The progress after an epoch.

        Raises:
          DivergedError: if a test loss is not finite. The loss of a step is computed before its
            update, so the last update of an epoch can break a network unnoticed, which must not
            become a checkpoint.
        """
        last = state.epoch * self.steps_per_epoch - 1
        for seed, loss in zip(self.config.seeds, evaluations.loss, strict=True):
            if not np.isfinite(loss):
                raise DivergedError(
                    f"seed {seed} diverged: the test loss is not finite after step {last} (epoch "
                    f"{state.epoch - 1})"
                )
        return tuple(
            one.observe(state.epoch, Evaluation(*row), last_epoch=self.config.training.epochs)
            for one, *row in zip(state.progress, *evaluations, strict=True)
        )

    def measurement_due(self, state: RunState) -> bool:
        """After the epochs at which the monitor is due."""
        return self._monitor is not None and state.step == 0 and self._monitor.due(state.epoch)

    def measure(self, state: RunState) -> dict[int, dict[str, float]]:
        """D, G, R of every unit."""
        if self._monitor is None:
            return {}
        found = self._monitor.measure(self.training, state)
        return dict(zip(self.config.seeds, found, strict=True))

    def rows(self, before: RunState, after: RunState, sums: StepMetrics) -> list[dict[str, Any]]:
        """One row per network, after an epoch."""
        del sums
        if after.step:
            return []
        config, steps = self.config.training, self.steps_per_epoch
        images = steps * config.batch_size * len(after.progress)
        rate = optimizer.learning_rate(config, after.epoch * steps - 1, steps_per_epoch=steps)
        return [
            {
                "seed": new.seed,
                "learning_rate": float(rate),
                "train_loss": old.loss_sum / steps,
                "train_error": old.error_sum / steps,
                "test_loss": new.test_loss,
                "test_error": new.test_error,
                "images_per_second": round(images / old.step_seconds, 1),
            }
            for old, new in zip(before.progress, after.progress, strict=True)
        ]

    def summary(self, state: RunState, sums: StepMetrics) -> str:
        """The mean loss of the epoch so far, and the latest test errors."""
        del sums
        tested = [_tested(state)] if state.epoch else []
        if state.step:
            loss = np.mean([one.loss_sum for one in state.progress]) / state.step
            tested.insert(0, f"epoch {state.epoch + 1}, loss {loss:.3g}")
        return "; ".join(tested)


def _tested(state: RunState) -> str:
    error, best = (
        np.mean([getattr(one, field) for one in state.progress])
        for field in ("test_error", "best_error")
    )
    dead = sum(one.dead_epoch is not None for one in state.progress)
    return f"test error {error:.2%} after epoch {state.epoch}, best {best:.2%}" + (
        f", {dead} dead" if dead else ""
    )
