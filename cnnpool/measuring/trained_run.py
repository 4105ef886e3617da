"""Networks that cnnpool.train trained, from checkpoints or from a packed folder."""

import abc
from collections.abc import Mapping, Sequence
import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import xarray as xr

from cnnpool import models
from cnnpool.data.images import Split
from cnnpool.devices import global_arrays
from cnnpool.instruments.moments import ImageMoments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.measuring import network
from cnnpool.measuring.run import Network, Run
from cnnpool.measuring.settings import Settings
from cnnpool.measuring.stored import Stored
from cnnpool.runs import run_config
from cnnpool.shapes import Key
from cnnpool.training.checkpoints import RunState


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedRun(Run):
    """The networks of a training and their test images.

    Attributes:
      folder: of cnnpool.train or cnnpool.pack.
      config: of the run, its `data.data_dir` possibly changed.
      settings: of the measurement.
    """

    folder: Path
    config: ConfigDict
    settings: Settings

    pixel_mean = ()

    @property
    @abc.abstractmethod
    def stored(self) -> Stored:
        """Where the networks lie."""

    @cached_property
    def model(self) -> Any:
        """The linen module of the networks."""
        return models.build(self.config.model)

    @property
    def own_images(self) -> Split:
        """The test images, as stored, and their labels."""
        return self.data.test

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the test images."""
        return (self.data.test.images.shape[-1],)

    def normalize(self, images: Any) -> Array:
        """Stored images as the networks take them, without noise where `settings` say so."""
        return self.data.normalize(jax.random.key(0), jnp.asarray(images))

    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The names of stages, "all" written out; raises CheckpointError for unknown ones."""
        return self.stored.stages(asked)

    def networks(self, stage: str) -> list[Network]:
        """The networks at a stage, one per seed."""
        state = self.state(stage)
        held = global_arrays.fetch(state.networks)
        return [
            Network(
                seed,
                stage,
                untrained=state.epoch == 0,
                variables=jax.tree.map(lambda leaf, row=row: jnp.asarray(leaf[row]), held),
            )
            for row, seed in enumerate(self.config.seeds)
        ]

    def moments(
        self, one: Network, transform: str, key: Key[Array, ""], inputs: Inputs, **options: Any
    ) -> dict[str, ImageMoments]:
        """What D, G and R of a network's units are made of."""
        return network.moments_of_run(self, one, transform, key, inputs, **options)

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

    @cached_property
    def _states(self) -> dict[str, RunState]:
        return {}

    def state(self, stage: str) -> RunState:
        """The networks at a stage, read once: networks and facts are both made of it."""
        if stage not in self._states:
            self._states[stage] = self.stored.state(stage)
        return self._states[stage]


def facts_at(stage: str, state: RunState, per_seed: Mapping[str, Sequence]) -> xr.Dataset:
    """What is known of the networks at a stage, None being NaN.

    Args:
      stage: its name.
      state: of the run at the stage.
      per_seed: values for each seed, by name.
    """
    by_seed = {name: ("seed", np.array(v, np.float64)) for name, v in per_seed.items()}
    of_stage = {"epoch": state.epoch, "training_seconds": state.seconds}
    coordinates = {"seed": [one.seed for one in state.progress], "stage": stage}
    return xr.Dataset(by_seed | of_stage, coordinates)
