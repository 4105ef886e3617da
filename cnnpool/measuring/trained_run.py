"""Networks trained by cnnpool.train, from checkpoints or from a packed folder."""

import abc
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from cnnpool.devices import global_arrays
from cnnpool.measuring.run import NetworkAtStage, Run
from cnnpool.measuring.stored import Stored
from cnnpool.runs import run_config
from cnnpool.training.checkpoints import RunState


class TrainedRun(Run):
    """The networks of a training and their test images."""

    @property
    @abc.abstractmethod
    def stored(self) -> Stored:
        """Where the networks are stored."""

    @abc.abstractmethod
    def known(self, stage: str, state: RunState) -> dict[str, Sequence]:
        """Known quantities of the networks at a stage besides D, G, R: one value per seed."""

    @cached_property
    def _states(self) -> dict[str, RunState]:
        return {}

    def state(self, stage: str) -> RunState:
        """The contents of a stage, read once for both networks and facts."""
        if stage not in self._states:
            self._states[stage] = self.stored.state(stage)
        return self._states[stage]

    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The names of stages, with "all" expanded; raises CheckpointError for unknown ones."""
        return self.stored.stages(asked)

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
            "networks": self.stored.checksums(stages),
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
