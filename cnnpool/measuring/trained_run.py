"""Networks trained by cnnpool.train, from the checkpoints of their run."""

import abc
from collections.abc import Callable, Sequence
import dataclasses
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from cnnpool.devices import global_arrays
from cnnpool.measuring import stages as stage_names
from cnnpool.measuring.names import LAST, TRAINED
from cnnpool.measuring.network_at_stage import NetworkAtStage
from cnnpool.measuring.run import Run
from cnnpool.runs import run_config
from cnnpool.training.checkpoints import (
    CheckpointStore,
    Networks,
    Progress,
    RunState,
    checkpoint_directory,
)
from cnnpool.training.variables import Variables


class TrainedRun(Run):
    """The networks of a training and their test images.

    Attributes:
      progress_type: the dataclass of a network's progress.
    """

    progress_type: ClassVar[Callable[..., Progress]]

    @abc.abstractmethod
    def shapes(self) -> Networks:
        """Shapes, types and shardings of the contents of a checkpoint."""

    @abc.abstractmethod
    def variables(self, networks: Networks, stage: str) -> Variables:
        """The networks at a stage, from the contents of its checkpoint."""

    @abc.abstractmethod
    def known(self, stage: str, state: RunState) -> dict[str, Sequence]:
        """Known quantities of the networks at a stage besides D, G, R: one value per seed."""

    @cached_property
    def _states(self) -> dict[str, RunState]:
        return {}

    def state(self, stage: str) -> RunState:
        """The networks at a stage and their progress, read once for both networks and facts.

        Raises:
          CheckpointError: if the checkpoint is missing or damaged, or training is not finished and
            the stage is "trained" or "last".
        """
        if stage not in self._states:
            self._states[stage] = self._read(stage)
        return self._states[stage]

    def _read(self, stage: str) -> RunState:
        with self._store() as store:
            epoch = stage_names.epoch_of(stage, store)
            state = store.restore(epoch, self.shapes(), seeds=self.config.seeds)
        if stage in (TRAINED, LAST):
            stage_names.check_finished(state.progress, state.epoch)
        return dataclasses.replace(state, networks=self.variables(state.networks, stage))

    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The names of stages; "all" is every stored epoch, and "trained".

        Raises:
          CheckpointError: if there is no such checkpoint.
        """
        with self._store() as store:
            return tuple(stage_names.epochs_of(asked, store))

    def checksums(self, stages: Sequence[str]) -> dict[str, Any]:
        """Epoch and checksum of every stage."""
        with self._store() as store:
            epochs = stage_names.epochs_of(stages, store)
            return {stage: [epoch, store.checksum(epoch)] for stage, epoch in epochs.items()}

    def _store(self) -> CheckpointStore:
        return CheckpointStore(
            checkpoint_directory(self.folder), read_only=True, progress_type=self.progress_type
        )

    def networks(self, stage: str) -> list[NetworkAtStage]:
        """The networks at a stage, one per seed."""
        state = self.state(stage)
        held = global_arrays.fetch(state.networks)
        return [
            NetworkAtStage(
                seed,
                stage,
                untrained=state.epoch == 0,
                variables=jax.tree.map(lambda leaf, row=row: jnp.asarray(leaf[row]), held),
            )
            for row, seed in enumerate(self.config.seeds)
        ]

    def identity(self, stages: Sequence[str]) -> dict[str, Any]:
        """The fields of the config that define the networks, and their checksums."""
        return {
            "run": run_config.defining_fields(self.config),
            "networks": self.checksums(stages),
        }

    def origin(self) -> dict[str, str]:
        """What trained the networks, and what their data is."""
        trained_by = (self.folder / "provenance.json").read_text("utf-8")
        return {"trained_by": trained_by, "data_source": self.data.source}

    def facts(self, stages: Sequence[str]) -> xr.Dataset:
        """Known quantities besides D, G, R; None becomes NaN."""
        return xr.concat([self._facts_at(stage) for stage in stages], "stage", join="exact")

    def _facts_at(self, stage: str) -> xr.Dataset:
        state = self.state(stage)
        known = self.known(stage, state)
        by_seed = {name: ("seed", np.array(v, np.float64)) for name, v in known.items()}
        of_stage = {"epoch": state.epoch, "training_seconds": state.seconds}
        coordinates = {"seed": list(self.config.seeds), "stage": stage}
        return xr.Dataset(by_seed | of_stage, coordinates)
