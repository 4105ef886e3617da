"""The best networks of a run, from a folder made by cnnpool.pack, without its checkpoints."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from cnnpool.measuring import stages as stage_names
from cnnpool.measuring.classifier_run import ClassifierRun
from cnnpool.measuring.names import INIT
from cnnpool.runs.run_config import is_same_data
from cnnpool.training import network_folder
from cnnpool.training.checkpoints import RunState
from cnnpool.training.classifier_progress import ClassifierProgress
from cnnpool.training.network_folder import NetworkFolderError


class PackedRun(ClassifierRun):
    """The best networks of a run; those before the first step are drawn anew from their seeds."""

    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The names of stages; "all" is "init" and "trained"."""
        return stage_names.of_finished(asked, self.folder)

    def _read(self, stage: str) -> RunState:
        """Raises NetworkFolderError if the folder is damaged."""
        (stage,) = self.stages([stage])
        if stage == INIT:
            first = self.training.initial_state()
            return dataclasses.replace(first, networks=first.networks.current)
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
        if not is_same_data(known, source):
            raise NetworkFolderError(
                f"the networks in {self.folder} were trained on other data: {known}; got {source}. "
                "Give --data_dir the folder of those data"
            )


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
