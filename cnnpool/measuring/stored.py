"""Where the networks of a training are stored: in checkpoints, or in a packed folder."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cnnpool.measuring import stages as stage_names
from cnnpool.measuring.names import INIT, LAST, TRAINED
from cnnpool.runs import run_config
from cnnpool.training import network_folder
from cnnpool.training.checkpoints import (
    CheckpointStore,
    Networks,
    RunState,
    checkpoint_directory,
)
from cnnpool.training.classifier_progress import ClassifierProgress
from cnnpool.training.network_folder import NetworkFolderError
from cnnpool.training.variables import Variables


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run.

    Attributes:
      folder: the run's folder.
      config: the run's config.
      progress_type: the dataclass of a network's progress.
      shapes: () -> shapes, types and shardings of a checkpoint's contents.
      variables: (contents of a checkpoint, name of the stage) -> the networks at that stage.
    """

    folder: Path
    config: ConfigDict
    progress_type: type
    shapes: Callable[[], Networks]
    variables: Callable[[Networks, str], Variables]

    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The names of stages; "all" is every stored epoch, and "trained"."""
        with self._store() as store:
            return tuple(stage_names.epochs_of(asked, store))

    def state(self, stage: str) -> RunState:
        """The networks at a stage.

        Raises:
          CheckpointError: if the checkpoint is missing or damaged, or training is not finished and
            the stage is "trained" or "last".
        """
        with self._store() as store:
            epoch = stage_names.epoch_of(stage, store)
            state = store.restore(epoch, self.shapes(), seeds=self.config.seeds)
        if stage in (TRAINED, LAST):
            stage_names.check_finished(state.progress, state.epoch)
        return dataclasses.replace(state, networks=self.variables(state.networks, stage))

    def checksums(self, stages: Sequence[str]) -> dict[str, Any]:
        """Epoch and checksum of every stage."""
        with self._store() as store:
            epochs = stage_names.epochs_of(stages, store)
            return {stage: [epoch, store.checksum(epoch)] for stage, epoch in epochs.items()}

    def check_same_data(self, source: str) -> None:
        """Raises ConfigMismatchError if the run was started on other data."""
        run_config.check_same_data(self.folder, source)

    def _store(self) -> CheckpointStore:
        return CheckpointStore(
            checkpoint_directory(self.folder), read_only=True, progress_type=self.progress_type
        )


@dataclasses.dataclass(frozen=True)
class Packed:
    """The best networks of a run in a small folder.

    Attributes:
      folder: a folder made by cnnpool.pack.
      config: the run's config.
      initial: makes the networks before their first step, which their seeds determine.
    """

    folder: Path
    config: ConfigDict
    initial: Callable[[], RunState]

    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The names of stages; "all" is "init" and "trained"."""
        return stage_names.of_finished(asked, self.folder)

    def state(self, stage: str) -> RunState:
        """The networks at a stage.

        Raises:
          NetworkFolderError: if the folder is damaged.
        """
        (stage,) = self.stages([stage])
        if stage == INIT:
            return self.initial()
        networks = network_folder.load(self.folder, self.config)

        def state_of(found: Mapping[str, Any]) -> RunState:
            progress = tuple(map(_progress, found["seeds"]))
            return RunState(found["epoch"], networks, progress, found["training_seconds"])

        return network_folder.read_summary(self.folder, state_of)

    def checksums(self, stages: Sequence[str]) -> dict[str, Any]:
        """The checksum of the folder's networks; it identifies the initial ones, too."""
        return dict.fromkeys(self.stages(stages), network_folder.networks_checksum(self.folder))

    def check_same_data(self, source: str) -> None:
        """Raises NetworkFolderError if the networks were trained on other data than `source`."""
        known = network_folder.read_summary(self.folder, lambda found: found["data_source"])
        if known != source:
            raise NetworkFolderError(
                f"the networks in {self.folder} were trained on other data: {known}; got {source}. "
                "Give --data_dir the folder of those data"
            )


Stored = Checkpoints | Packed


def summary_row(progress: ClassifierProgress, packed_error: float) -> dict[str, Any]:
    """What summary.json of a packed folder says about a network.

    Args:
      progress: its training.
      packed_error: its test error after rounding.
    """
    return {
        "seed": progress.seed,
        "best_epoch": progress.best_epoch,
        "best_test_error": progress.best_error,
        "packed_test_error": packed_error,
        "last_test_error": progress.test_error,
        "last_test_loss": progress.test_loss,
        "stopped_epoch": progress.stopped_epoch,
        "dead_epoch": progress.dead_epoch,
    }


def _progress(row: Mapping[str, Any]) -> ClassifierProgress:
    return ClassifierProgress(
        seed=row["seed"],
        stopped_epoch=row["stopped_epoch"],
        best_epoch=row["best_epoch"],
        best_error=row["best_test_error"],
        test_error=row["last_test_error"],
        test_loss=row["last_test_loss"],
        dead_epoch=row["dead_epoch"],
    )
