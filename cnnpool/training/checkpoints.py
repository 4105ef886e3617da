"""Checkpoints of a run: atomic, asynchronous, checked when they are read (Orbax)."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
from typing import Any
import zlib

from absl import logging
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from cnnpool.devices import distributed, global_arrays
from cnnpool.errors import CnnpoolError
from cnnpool.training.stopping import SeedProgress

LATEST_KEPT = 2


Arrays = Any  # a pytree, the seed axis first in every leaf


# What a recipe of training knows of one network: `SeedProgress` or `ImageProgress`, plain numbers
# with the fields seed and stopped_epoch.
Progress = Any


class CheckpointError(CnnpoolError):
    """A checkpoint cannot be written or read; the message says what is still good."""


@dataclasses.dataclass(frozen=True)
class RunState:
    """All that a run needs to go on.

    Attributes:
      epoch: epochs done.
      params: of all networks, the seed axis first; of a deep network, with all else that its
        training needs (`cnnpool.training.image_step.TrainState`).
      progress: of each network.
      seconds: wall time spent on training so far.
    """

    epoch: int
    params: Arrays
    progress: tuple[Progress, ...]
    seconds: float

    @property
    def finished(self) -> bool:
        """Whether every network has stopped."""
        return all(seed.stopped_epoch is not None for seed in self.progress)


def checksum(params: Arrays) -> int:
    """CRC-32 over the bytes of all leaves, so that a silently damaged file is seen."""
    crc = 0
    for leaf in jax.tree.leaves(params):
        crc = zlib.crc32(np.ascontiguousarray(global_arrays.fetch(leaf)).data, crc)
    return crc


class CheckpointStore:
    """The checkpoints of one run, one a directory named by its epoch.

    Attributes:
      directory: where they lie.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep_epochs: Sequence[int] = (),
        read_only: bool = False,
        progress_type: Callable[..., Progress] = SeedProgress,
    ):
        """Opens the store.

        Args:
          directory: made if absent, unless `read_only`.
          keep_epochs: never deleted; of the others the latest two are kept.
          read_only: write and delete nothing.
          progress_type: the dataclass that the progress of a network is read into.

        Raises:
          CheckpointError: if the directory cannot be made, or lies where Orbax writes none.
        """
        self.directory = directory.absolute()
        _refuse_s3(self.directory)
        self._progress_type = progress_type
        preserve = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(LATEST_KEPT),
                checkpoint_managers.CustomSteps(tuple(keep_epochs)),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preserve,
            read_only=read_only,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
        )
        with self._explained("open"):
            self._manager = ocp.CheckpointManager(
                self.directory,
                options=options,
                item_handlers={
                    "params": ocp.StandardCheckpointHandler(),
                    "progress": ocp.JsonCheckpointHandler(),
                },
            )

    @contextlib.contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"cannot {action} checkpoints in {self.directory}: {error}\n"
                f"{self._what_is_there()} Check that the disk is neither full nor read-only, then "
                "give the same command again: it goes on from there."
            ) from error

    def _what_is_there(self) -> str:
        names = self.directory.iterdir() if self.directory.is_dir() else ()
        epochs = sorted(int(path.name) for path in names if path.name.isdigit())
        return f"Complete checkpoints there: epochs {epochs}." if epochs else "None is there yet."

    @property
    def epochs(self) -> list[int]:
        """Epochs of all complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: RunState) -> None:
        """Starts to write a checkpoint in the background; joined processes wait until it is there.

        Raises:
          CheckpointError: if this or the previous one cannot be written.
        """
        record = {
            "progress": [dataclasses.asdict(seed) for seed in state.progress],
            "seconds": state.seconds,
            "checksum": checksum(state.params),
        }
        with self._explained("write"):
            self._manager.save(
                state.epoch,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.params),
                    progress=ocp.args.JsonSave(record),
                ),
                force=True,
            )
            # Two stores of joined processes must not write at a time: their barriers collide.
            if distributed.is_joined():
                self._manager.wait_until_finished()

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          CheckpointError: if a checkpoint could not be written.
        """
        with self._explained("write"):
            self._manager.wait_until_finished()

    def restore(self, epoch: int, like: Arrays, *, seeds: Sequence[int]) -> RunState:
        """Reads one checkpoint.

        Args:
          epoch: which one.
          like: shapes, types and shardings of the parameters.
          seeds: of the networks that the caller expects.

        Raises:
          CheckpointError: if it is absent, damaged or of another network; the message
            names the latest checkpoint that is good.
        """
        if epoch not in self.epochs:
            raise CheckpointError(
                f"no checkpoint of epoch {epoch} in {self.directory}; there are {self.epochs}"
            )
        try:
            state = self._read(epoch, like)
        except CheckpointError as error:
            good = self._latest_good(epoch, like)
            advice = (
                f"The latest good one is epoch {good}: evaluate it with --stage={good}, or move "
                f"{self.directory / str(epoch)} away and training goes on from it."
                if good is not None
                else "No earlier one is good either."
            )
            raise CheckpointError(f"{error} {advice}") from error.__cause__
        found = tuple(seed.seed for seed in state.progress)
        if found != tuple(seeds):
            raise CheckpointError(
                f"the checkpoints in {self.directory} are of another config: expected seeds "
                f"{tuple(seeds)}, got {found}; take the config that they were made with"
            )
        return state

    def checksum(self, epoch: int) -> int:
        """The checksum that a checkpoint was written with; tells networks apart.

        Raises:
          CheckpointError: if it cannot be read.
        """
        with self._explained("read"):
            record = self._manager.restore(
                epoch, args=ocp.args.Composite(progress=ocp.args.JsonRestore())
            )
        return record.progress["checksum"]

    def _latest_good(self, before: int, like: Arrays) -> int | None:
        for epoch in reversed([e for e in self.epochs if e < before]):
            try:
                self._read(epoch, like)
            except CheckpointError:
                continue
            return epoch
        return None

    def _read(self, epoch: int, like: Arrays) -> RunState:
        place = self.directory / str(epoch)
        try:
            restored = self._manager.restore(
                epoch,
                args=ocp.args.Composite(
                    params=ocp.args.StandardRestore(like), progress=ocp.args.JsonRestore()
                ),
            )
            record = restored.progress
            progress = tuple(self._progress_type(**seed) for seed in record["progress"])
            expected, seconds = record["checksum"], record["seconds"]
        except Exception as error:  # tensorstore, Orbax and json each raise their own
            raise CheckpointError(
                f"checkpoint {place} is damaged or of another network: "
                f"{type(error).__name__}: {(str(error).strip() or repr(error)).splitlines()[0]}."
            ) from error
        found = checksum(restored.params)
        if found != expected:
            raise CheckpointError(
                f"checkpoint {place} is damaged: expected checksum {expected}, got {found}."
            )
        return RunState(epoch, restored.params, progress, seconds)

    def delete_all_but(self, kept: Sequence[int]) -> list[int]:
        """Deletes every checkpoint whose epoch is not in `kept`; returns the deleted ones."""
        doomed = [epoch for epoch in self.epochs if epoch not in kept]
        for epoch in doomed:
            self._manager.delete(epoch)
        return doomed

    def close(self) -> None:
        """Waits for writes in the background and lets go of the directory."""
        with self._explained("write"):
            self._manager.close()

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except CheckpointError as second:
            logging.error("%s", second)


def _refuse_s3(directory: Path) -> None:
    if str(directory).startswith("s3://"):
        raise CheckpointError(
            f"Orbax writes no checkpoints to {directory}, only to disks and gs://BUCKET/...; mount "
            "the bucket, as launch.sweep --engine=skypilot does, or take another --workdir"
        )
