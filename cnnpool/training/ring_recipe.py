"""Training of the ring's simple CNNs: hinge and ridge, to a multiple of the interpolation epoch."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict
import numpy as np

from cnnpool.devices import global_arrays, runtime
from cnnpool.training import ring_setup
from cnnpool.training.checkpoints import Networks, RunState
from cnnpool.training.groups import NO_STEP, check_seeds
from cnnpool.training.hinge import hinge
from cnnpool.training.recipe import DivergedError
from cnnpool.training.ring_step import BlockMetrics
from cnnpool.training.stopping import RingProgress, StoppingRule


def stopping_rule(config: ConfigDict) -> StoppingRule:
    """The stopping rule of a config's `training` section."""
    fields = [field.name for field in dataclasses.fields(StoppingRule)]
    return StoppingRule(**{field: getattr(config.training, field) for field in fields})


class RingRecipe:
    """The recipe of `cnnpool.training.recipe.Recipe` whose calls are blocks of whole epochs.

    metrics.csv has one row per network and block. A network that has stopped does not change
    while the others continue.
    """

    columns = ("hinge", "backward_fraction", "train_hinge", "validation_error")
    progress_type = RingProgress
    data_source = None  # the config determines the images
    tensorboard = False
    remedy = "training.learning_rate_per_channel"

    def __init__(self, config: ConfigDict):
        """Builds the data and the compiled programs.

        Raises:
          ValueError: if the config is impossible.
        """
        check_seeds(config.seeds)
        self.config = config
        self._net = ring_setup.network(config)
        self._rule = stopping_rule(config)
        if config.runtime.log_every < 1:
            raise ValueError(
                f"runtime.log_every must be at least 1, got {config.runtime.log_every}"
            )
        self._mesh = runtime.seed_mesh(len(config.seeds))
        self._data = ring_setup.training_sets(config, self._net.data, self._mesh)
        self.steps_per_epoch = config.data.train_size // config.training.batch_size
        self._block = ring_setup.sgd(config, self._net).compile(
            self._mesh, seeds_per_batch=config.runtime.seeds_per_batch
        )
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        self._images = global_arrays.place(self._net.data.images, everywhere)
        self._is_training = ring_setup.is_training_image(config, self._net.data)
        self._outputs = self._net.outputs_program(self._mesh)

    def init(self) -> RunState:
        """All networks before their first step."""
        return ring_setup.initial_state(self._net, self.config.seeds, self._mesh)

    def reopened(self, state: RunState) -> RunState:
        """The state itself: its stopping rule is part of what defines a run."""
        return state

    def shapes(self) -> Networks:
        """Shapes, types and shardings of the stacked parameters."""
        return self._net.stacked_shapes(len(self.config.seeds), self._mesh)

    def expected_end(self, state: RunState) -> int | None:
        """The epoch at which the last network may stop; None until all have interpolated."""
        ends = [one.stopped_epoch or self._rule.earliest_stop(one) for one in state.progress]
        known = [end for end in ends if end is not None]
        return max(known) if len(known) == len(ends) else None

    def next_stop(self, state: RunState) -> int:
        """The end of the epoch of the next check, row or kept checkpoint, whichever is first."""
        epoch, every = state.epoch, self.config.runtime.log_every
        checks = [
            self._rule.next_check(epoch, one) for one in state.progress if one.stopped_epoch is None
        ]
        kept = [keep for keep in self.config.checkpoint.keep_epochs if keep > epoch]
        return min([(epoch // every + 1) * every, *checks, *kept]) * self.steps_per_epoch

    def advance(self, state: RunState, stop: int) -> tuple[Networks, BlockMetrics]:
        """A block of epochs of the networks that have not stopped."""
        active = np.array([one.stopped_epoch is None for one in state.progress])
        placed = global_arrays.place(active, runtime.over_seeds(self._mesh))
        end = stop // self.steps_per_epoch
        return self._block(state.networks, self._data, placed, state.epoch, end)

    def count(
        self, state: RunState, sums: BlockMetrics, seconds: float
    ) -> tuple[RingProgress, ...]:
        """The progress, unchanged by steps alone.

        Raises:
          DivergedError: if a loss is not finite or above the threshold.
        """
        del seconds
        checks = zip(self.config.seeds, sums.hinge, sums.first_bad_step, sums.finite, strict=True)
        for seed, loss, bad, finite in checks:
            if bad == NO_STEP and finite and loss <= self.config.training.divergence:
                continue
            step = state.epoch * self.steps_per_epoch + (0 if bad == NO_STEP else int(bad))
            epoch = step // self.steps_per_epoch
            raise DivergedError(
                f"seed {seed} diverged: hinge loss {loss} at step {step} (epoch {epoch}, or after "
                "it)"
            )
        return state.progress

    def evaluation_due(self, state: RunState) -> bool:
        """Whether the stopping rule looks at a network now."""
        return any(self._due(state))

    def _due(self, state: RunState) -> list[bool]:
        at_a_check = state.epoch % self._rule.check_every == 0
        return [
            at_a_check
            and one.stopped_epoch is None
            and (
                one.interpolation_epoch is None
                or state.epoch >= (self._rule.earliest_stop(one) or 0)
            )
            for one in state.progress
        ]

    def evaluate(self, state: RunState) -> tuple[Networks, Any]:
        """The networks, unchanged, and their outputs for all images."""
        return state.networks, self._outputs(state.networks, self._images)

    def observe(self, state: RunState, evaluations: np.ndarray) -> tuple[RingProgress, ...]:
        """Applies the stopping rule to the networks that are due; `evaluations` are outputs."""
        margins = self._net.data.labels * evaluations
        losses = np.asarray(hinge(jnp.asarray(margins, jnp.float32)))
        wrong = ~(margins > 0)
        return tuple(
            self._rule.observe(
                state.epoch,
                one,
                train_hinge=float(losses[row, train].mean()),
                validation_error=float(wrong[row, ~train].mean()),
            )
            if due
            else one
            for row, (one, due, train) in enumerate(
                zip(state.progress, self._due(state), self._is_training, strict=True)
            )
        )

    def measurement_due(self, state: RunState) -> bool:
        """Never."""
        del state
        return False

    def measure(self, state: RunState) -> dict[int, dict[str, float]]:
        """Nothing."""
        del state
        return {}

    def rows(self, before: RunState, after: RunState, sums: BlockMetrics) -> list[dict[str, Any]]:
        """One row per network that was trained in the block."""
        found = zip(before.progress, after.progress, self._due(before), strict=True)
        return [
            {
                "seed": new.seed,
                "hinge": float(sums.hinge[row]),
                "backward_fraction": float(sums.backward_fraction[row]),
                "train_hinge": new.train_hinge if due else None,
                "validation_error": new.validation_error if due else None,
            }
            for row, (old, new, due) in enumerate(found)
            if old.stopped_epoch is None
        ]

    def summary(self, state: RunState, sums: BlockMetrics) -> str:
        """Loss, fraction of backward passes, and numbers of interpolated and stopped networks."""
        interpolated = sum(one.interpolation_epoch is not None for one in state.progress)
        stopped = sum(one.stopped_epoch is not None for one in state.progress)
        return (
            f"epoch {state.epoch}, hinge {sums.hinge.max():.2g}, backward "
            f"{sums.backward_fraction.mean():.1%}, interpolated "
            f"{interpolated}/{len(state.progress)}, stopped {stopped}"
        )
