"""Picture classifiers trained by cnnpool.train: their data and errors."""

from collections.abc import Callable, Sequence
from functools import cached_property
import math
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np
import xarray as xr

from cnnpool.data.images import DataError, ImageData
from cnnpool.devices import distributed, global_arrays
from cnnpool.measuring.names import TRAINED
from cnnpool.measuring.trained_run import TrainedRun
from cnnpool.runs import run_config
from cnnpool.training import classifier_setup
from cnnpool.training.checkpoints import RunState
from cnnpool.training.classifier_progress import ClassifierProgress
from cnnpool.training.classifier_setup import ClassifierTraining
from cnnpool.training.classifier_step import Evaluation, NetworkKeys, TestSet, TrainState
from cnnpool.training.variables import Variables

Evaluator = Callable[[Variables, Sequence[int]], list[Evaluation]]


class ClassifierRun(TrainedRun):
    """Picture classifiers from checkpoints written by cnnpool.train."""

    progress_type = ClassifierProgress

    @cached_property
    def training(self) -> ClassifierTraining:
        """Data and recipe; raises DataError if the data is missing or damaged."""
        return open_training(self.config, image_noise=self.settings.image_noise)

    @cached_property
    def data(self) -> ImageData:
        """The data set whose test images the networks are measured on.

        Raises:
          ConfigMismatchError, NetworkFolderError: if the networks were trained on other data.
        """
        data = self.training.data
        self.check_same_data(data.source)
        return data

    def check_same_data(self, source: str) -> None:
        """Raises ConfigMismatchError if the run was started on other data than `source`."""
        run_config.check_same_data(self.folder, source)

    def shapes(self) -> TrainState:
        """Shapes, types and shardings of a checkpoint, which follow from the data."""
        return self.training.state_shapes()

    def variables(self, networks: TrainState, stage: str) -> Variables:
        """The best network of each seed if training is finished, else the current networks."""
        return networks.best if stage == TRAINED else networks.current

    @cached_property
    def evaluate(self) -> Evaluator:
        """See `evaluator`."""
        return evaluator(self.training)

    def known(self, stage: str, state: RunState) -> dict[str, Sequence]:
        """Test error and loss, best epoch, and when a network died."""
        found = self.evaluate(state.networks, network_epochs(state, stage))
        return {
            "test_error": [one.error for one in found],
            "test_loss": [one.loss for one in found],
            "best_epoch": [one.best_epoch for one in state.progress],
            "dead_epoch": network_dead_epochs(state, stage),
        }

    def facts(self, stages: Sequence[str]) -> xr.Dataset:
        """Known quantities besides D, G, R, over (seed, stage)."""
        return super().facts(stages).transpose("seed", "stage")


def open_training(config: ConfigDict, *, image_noise: bool = True) -> ClassifierTraining:
    """Data and recipe of a config, on this machine's devices, whatever devices trained it.

    Args:
      config: the config of a run.
      image_noise: whether images get the training set's noise, if it has any.

    Raises:
      DataError: if the data is missing or damaged.
      ValueError: if the config is impossible.
    """
    here = on_devices(config, jax.device_count() if distributed.is_joined() else None)
    if not image_noise and "image_noise" in here.data:
        here.data.image_noise = 0.0
    try:
        return classifier_setup.setup(here)
    except DataError as error:
        if "data_dir" not in config.data:
            raise
        raise DataError(
            f"{error}\nThe run's data.data_dir is {config.data.data_dir}; --data_dir names another "
            "folder for this command."
        ) from error


def on_devices(config: ConfigDict, shared: int | None) -> ConfigDict:
    """A copy of a run's config with the mesh that measures its networks.

    Args:
      config: of the run.
      shared: devices of several processes, all of which must be used; None of one process.
    """
    here = config.copy_and_resolve_references()
    here.runtime.mesh.seed, here.runtime.mesh.data = None, 1
    if shared is not None:
        here.runtime.mesh.seed = math.gcd(len(config.seeds), shared)
        here.runtime.mesh.data = shared // here.runtime.mesh.seed
        here.training.batch_size = here.runtime.mesh.data  # no step is made; the mesh checks it
    return here


def network_epochs(state: RunState, stage: str) -> list[int]:
    """The epoch after which each network of a stage was saved."""
    if stage == TRAINED:
        return [one.best_epoch for one in state.progress]
    return [state.epoch] * len(state.progress)


def network_dead_epochs(state: RunState, stage: str) -> list[int | None]:
    """The epoch since which each network's output is the same for every image, if it is dead."""
    return [
        one.dead_epoch if one.dead_epoch is not None and one.dead_epoch <= epoch else None
        for one, epoch in zip(state.progress, network_epochs(state, stage), strict=True)
    ]


def evaluator(training: ClassifierTraining) -> Evaluator:
    """A function of stacked networks and their epochs: loss and error of each on the test images.

    Image noise, if the config has it, is the same as in training's test after that epoch, so that
    the errors agree with training; a network before its first epoch gets the first epoch's noise.
    """
    run = evaluator_program(training)

    def evaluate(variables: Variables, epochs: Sequence[int]) -> list[Evaluation]:
        tested = np.maximum(np.asarray(epochs, np.int32) - 1, 0)
        found = global_arrays.fetch(run(variables, training.keys, tested, training.test))
        return [Evaluation(*row) for row in zip(*found, strict=True)]

    return evaluate


def evaluator_program(training: ClassifierTraining) -> Any:
    """(networks, keys, epochs of their tests, test images) -> `Evaluation` of each, jitted."""

    def one(variables: Variables, keys: NetworkKeys, tested: jax.Array, test: TestSet):
        key = jax.random.fold_in(keys.test, tested)
        return training.recipe.evaluate(variables, key, test)

    return training.compile(one, stacked=3, shared=1)
