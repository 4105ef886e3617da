"""Training as in the commands: with initial networks, and measurements during training.

`cnnpool.training.fit` leaves `training.init_from` and `measurement.every_epochs` of a config to its
caller, because it knows neither folders of networks nor measurements.
"""

from collections.abc import Sequence
import dataclasses
from functools import cached_property
import json
from pathlib import Path

import jax
from ml_collections import ConfigDict
import numpy as np
import xarray as xr

from cnnpool.devices import distributed
from cnnpool.files import results
from cnnpool.measuring import inputs, measure, runs, sensitivities
from cnnpool.measuring.classifier_run import ClassifierRun
from cnnpool.measuring.names import TRAINED
from cnnpool.measuring.settings import Settings
from cnnpool.measuring.transforms import NONE
from cnnpool.runs import run_config
from cnnpool.runs.running import Running
from cnnpool.training import fit
from cnnpool.training.checkpoints import RunState
from cnnpool.training.classifier_setup import ClassifierTraining
from cnnpool.training.variables import Variables

FILE = "sensitivities.nc"
_FACTS = ("test_error", "test_loss", "best_epoch", "dead_epoch")


def train(config: ConfigDict, workdir: Path, *, process: Running | None = None) -> RunState:
    """Trains all networks of a config; see `cnnpool.training.fit.train`.

    Raises:
      ValueError, FileNotFoundError, CnnpoolError: as there, and if `training.init_from` is not a
        folder of trained networks, or they do not fit.
    """
    return fit.train(
        config, workdir, process=process, trained=trained_networks, monitor=monitor(config, workdir)
    )


def trained_networks(folder: Path) -> list[Variables]:
    """The best networks of a run, a packed or an imported folder, one per seed."""
    return [one.variables for one in runs.open(folder).networks(TRAINED)]


def monitor(config: ConfigDict, workdir: Path) -> "Monitor | None":
    """Measures the networks of a run during training; None if the config requests nothing.

    Raises:
      ValueError: if a field of `measurement` is impossible.
    """
    if run_config.is_on_ring(config) or "measurement" not in config:
        return None
    every, images = config.measurement.every_epochs, config.measurement.images
    if every < 0:
        raise ValueError(f"measurement.every_epochs must be 0, for never, or more; got {every}")
    return Monitor(workdir, config, every, Settings(images=images)) if every else None


@dataclasses.dataclass(frozen=True, eq=False)
class _BeingTrained(ClassifierRun):
    """The current networks of a training in progress.

    Attributes:
      opened: data and recipe of the training.
      now: state of the training, with the current networks only.
    """

    opened: ClassifierTraining
    now: RunState

    @cached_property
    def training(self) -> ClassifierTraining:
        """The data and recipe of the training."""
        return self.opened

    def state(self, stage: str) -> RunState:
        """The current state, whatever the stage."""
        del stage
        return self.now

    def known(self, stage: str, state: RunState) -> dict[str, Sequence]:
        """Quantities known from the training."""
        del stage
        return {name: [getattr(one, name) for one in state.progress] for name in _FACTS}


@dataclasses.dataclass(frozen=True, eq=False)
class Monitor:
    """Measures D, G, R of every unit of all networks, every few epochs.

    Satisfies `cnnpool.training.fit.Monitor`.

    Attributes:
      workdir: where sensitivities.nc is written, a result file with one stage per epoch.
      config: the run's config.
      every: epochs between two measurements.
      settings: settings of the measurement.
    """

    workdir: Path
    config: ConfigDict
    every: int
    settings: Settings

    def columns(self, training: ClassifierTraining) -> tuple[str, ...]:
        """Names of D, G, R of every unit, "D/relu01"."""
        one = jax.eval_shape(training.recipe.init, jax.random.key(0), training.train.images)
        image = jax.eval_shape(
            lambda images: training.recipe.normalize(jax.random.key(0), images),
            training.train.images[:1],
        )
        model = training.recipe.model
        _, units = jax.eval_shape(
            lambda variables, x: model.apply(variables._asdict(), x, train=False),
            one.current,
            image,
        )
        return tuple(f"{quantity}/{unit}" for unit in units for quantity in "DGR")

    def due(self, epoch: int) -> bool:
        """Whether the networks are to be measured after an epoch."""
        return epoch % self.every == 0 or epoch == self.config.training.epochs

    def measure(self, training: ClassifierTraining, state: RunState) -> list[dict[str, float]]:
        """Measures the current networks and adds them to the file; returns one dict per seed."""
        now = dataclasses.replace(state, networks=state.networks.current)
        run = _BeingTrained(self.workdir, self.config, self.settings, training, now)
        inputs.check(run.data, run.settings)
        stage = str(state.epoch)
        arrays = sensitivities.measure(run, run.networks(stage), (NONE,), quiet=True)
        settings = {"settings": self.settings.record(), "every_epochs": self.every}
        record = json.dumps(settings | {"version": measure.VERSION}, sort_keys=True)
        whole = run.facts([stage]).merge(arrays, join="exact")
        self._add(whole.assign_attrs(measure.file_attributes(run, record)))
        only = arrays.isel(stage=0, transform=0, shuffle=0, missing_dims="ignore").squeeze()
        return [
            {
                f"{quantity}/{unit}": only[quantity].sel(seed=seed, layer=unit).item()
                for unit in only["layer"].values
                for quantity in "DGR"
            }
            for seed in self.config.seeds
        ]

    def _add(self, measured: xr.Dataset) -> None:
        """Adds an epoch to the file; deletes later ones, left by a start that was lost."""
        if not distributed.is_first():
            return
        path = self.workdir / FILE
        if path.is_file():
            before = results.read(path)
            earlier = before["stage"].astype(int) < int(measured["stage"].item())
            before = before.isel(stage=np.flatnonzero(earlier))
            if before.sizes["stage"]:
                measured = xr.concat(
                    [before, measured],
                    "stage",
                    data_vars="minimal",
                    coords="minimal",
                    compat="override",
                    combine_attrs="override",
                    join="exact",
                )
        results.write(path, measured)
