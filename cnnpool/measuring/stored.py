"""Where the networks of a training are stored: in checkpoints, or in a packed folder."""

from collections.abc import Callable, Sequence
import dataclasses
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cnnpool.measuring import stages as stage_names
from cnnpool.measuring.names import INIT, LAST, TRAINED
from cnnpool.runs import run_config
from cnnpool.training import packed
from cnnpool.training.checkpoints import (
    CheckpointError,
    CheckpointStore,
    Networks,
    RunState,
    checkpoint_directory,
)
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
        named = stage_names.expanded(asked, (INIT, TRAINED))
        if others := [stage for stage in named if stage not in (INIT, TRAINED)]:
            raise CheckpointError(
                f"{self.folder} holds the best networks of a run alone: expected "
                f"--stage={TRAINED}, or {INIT}, which is made anew from the seeds; got "
                f"{', '.join(others)}. Other stages are in the checkpoints of a run"
            )
        return named

    def state(self, stage: str) -> RunState:
        """The networks at a stage.

        Raises:
          PackedError: if the folder is damaged.
        """
        (stage,) = self.stages([stage])
        return packed.load(self.folder, self.config) if stage == TRAINED else self.initial()

    def checksums(self, stages: Sequence[str]) -> dict[str, Any]:
        """The checksum of the folder's networks; it identifies the initial ones, too."""
        return dict.fromkeys(self.stages(stages), packed.networks_checksum(self.folder))

    def check_same_data(self, source: str) -> None:
        """Raises PackedError if the networks were trained on other data."""
        packed.check_same_data(self.folder, source)


Stored = Checkpoints | Packed
