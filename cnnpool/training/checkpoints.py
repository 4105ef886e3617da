"""Checkpoints of a run: atomic, asynchronous, verified when read (Orbax)."""

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

from cnnpool.devices import distributed, global_arrays, runtime
from cnnpool.errors import CnnpoolError
from cnnpool.files.atomic_write import write_atomically
from cnnpool.training.stopping import RingProgress

LATEST_KEPT = 2
STEPS_PER_EPOCH = "steps_per_epoch"


Networks = Any  # a pytree, the seed axis first in every leaf


# A recipe's progress of one network: `RingProgress` or `ClassifierProgress`, plain numbers with the
# fields seed and stopped_epoch.
Progress = Any


class CheckpointError(CnnpoolError):
    """A checkpoint cannot be written or read; the message says which ones are still good."""


@dataclasses.dataclass(frozen=True)
class RunState:
    """Everything that a run needs to resume.

    Attributes:
      epoch: number of completed epochs.
      networks: parameters of all networks, the seed axis first; for classifiers with the rest of
        their training state (`cnnpool.training.classifier_step.TrainState`).
      progress: progress of each network.
      seconds: wall time spent on training so far.
      step: steps done in the current epoch.
    """

    epoch: int
    networks: Networks
    progress: tuple[Progress, ...]
    seconds: float
    step: int = 0

    def steps(self, steps_per_epoch: int) -> int:
        """Steps done in all epochs."""
        return self.epoch * steps_per_epoch + self.step

    @property
    def finished(self) -> bool:
        """Whether every network has stopped."""
        return all(seed.stopped_epoch is not None for seed in self.progress)


def checkpoint_directory(workdir: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return workdir / "checkpoints"


def checksum(networks: Networks) -> int:
    """CRC-32 over the bytes of all leaves, so that a silently damaged file is seen."""
    crc = 0
    for leaf in jax.tree.leaves(networks):
        crc = zlib.crc32(np.ascontiguousarray(global_arrays.fetch(leaf)).data, crc)
    return crc


class CheckpointStore:
    """The checkpoints of one run, one per directory, named by the number of steps done.

    A file `steps_per_epoch` next to them converts steps to epochs. Earlier versions named
    checkpoints by epochs and had no such file; those can be read but not resumed from.

    Attributes:
      directory: where the checkpoints are.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep_epochs: Sequence[int] = (),
        read_only: bool = False,
        progress_type: Callable[..., Progress] = RingProgress,
        steps_per_epoch: int | None = None,
    ):
        """Opens the store.

        Args:
          directory: where the checkpoints are; created if missing, unless `read_only`.
          keep_epochs: epochs that are never deleted; of the others the latest two are kept.
          read_only: whether to write and delete nothing.
          progress_type: the dataclass of a network's progress.
          steps_per_epoch: steps per epoch for a new store; None for an existing one.

        Raises:
          CheckpointError: if the directory cannot be created, or Orbax does not write there.
        """
        self.directory = directory.absolute()
        _check_not_s3(self.directory)
        self._progress_type = progress_type
        self._unit = self._steps_per_epoch(steps_per_epoch)
        preserve = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(LATEST_KEPT),
                checkpoint_managers.CustomSteps(tuple(epoch * self._unit for epoch in keep_epochs)),
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
            if isinstance(error, RuntimeError) and (missing := runtime.device_error()) is not None:
                raise missing from error
            raise CheckpointError(
                f"cannot {action} checkpoints in {self.directory}: {error}\n"
                f"{self._what_is_there()} Check that the disk is neither full nor read-only, then "
                "give the same command again: it goes on from there."
            ) from error

    def _steps_per_epoch(self, given: int | None) -> int:
        """The factor from epochs to the names of checkpoints; written into a new store.

        1 if the names are epochs.
        """
        note = self.directory / STEPS_PER_EPOCH

        def write() -> None:
            if not note.is_file() and not self._names():
                write_atomically(note, lambda path: path.write_text(f"{given}\n", "utf-8"))

        with self._explained("open"):
            if given is not None:
                # All processes, whether they see the file already or not: it is where they wait.
                distributed.on_first(write)
            return int(note.read_text("utf-8")) if note.is_file() else 1

    def check_named_by_steps(self) -> None:
        """Raises CheckpointError if an earlier version named the checkpoints by epochs."""
        if self._names() and not (self.directory / STEPS_PER_EPOCH).is_file():
            raise CheckpointError(
                f"the checkpoints in {self.directory} are named by epochs, as an earlier version "
                "of cnnpool did, and this one names them by steps: it reads them, but cannot go on "
                "with the training. Finish it with the version in provenance.json beside them, or "
                "train in a new --workdir"
            )

    def _names(self) -> list[int]:
        places = self.directory.iterdir() if self.directory.is_dir() else ()
        return sorted(int(path.name) for path in places if path.name.isdigit())

    def _what_is_there(self) -> str:
        names = self._names()
        if not names:
            return "None is there yet."
        return f"Complete checkpoints there: {', '.join(map(self._called, names))}."

    def _called(self, number: int) -> str:
        """The name of a checkpoint in messages."""
        epoch, step = divmod(number, self._unit)
        return f"epoch {epoch}" + (f", step {step} of the next" if step else "")

    @property
    def epochs(self) -> list[int]:
        """Epochs after which there is a complete checkpoint, ascending."""
        return [n // self._unit for n in self._numbers() if n % self._unit == 0]

    @property
    def latest_name(self) -> str:
        """The epoch, and the step after it, of the latest complete checkpoint."""
        return self._called(max(self._numbers()))

    def _numbers(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def holds(self, state: RunState) -> bool:
        """Whether there is a checkpoint with the state's number of steps."""
        return state.steps(self._unit) in self._numbers()

    def save(self, state: RunState) -> None:
        """Starts writing a checkpoint in the background; joined processes wait until it is written.

        Raises:
          CheckpointError: if this or the previous one cannot be written.
        """
        record = {
            "progress": [dataclasses.asdict(seed) for seed in state.progress],
            "seconds": state.seconds,
            "checksum": checksum(state.networks),
        }
        with self._explained("write"):
            self._manager.save(
                state.steps(self._unit),
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.networks),
                    progress=ocp.args.JsonSave(record),
                ),
                force=True,
            )
            # The barriers of a background write could collide with other barriers.
            if distributed.is_joined():
                self._manager.wait_until_finished()

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          CheckpointError: if a checkpoint could not be written.
        """
        with self._explained("write"):
            self._manager.wait_until_finished()

    def restore_latest(
        self, like: Callable[[], Networks], *, seeds: Sequence[int]
    ) -> RunState | None:
        """Reads the latest checkpoint, as `restore` does; None if there is none."""
        numbers = self._numbers()
        return self._restore(max(numbers), like(), seeds) if numbers else None

    def restore(self, epoch: int, like: Networks, *, seeds: Sequence[int]) -> RunState:
        """Reads the checkpoint after an epoch.

        Args:
          epoch: the epoch.
          like: shapes, types and shardings of the networks.
          seeds: seeds of the networks that the caller expects.

        Raises:
          CheckpointError: if it is missing, damaged or from another network; the message
            names the latest good checkpoint.
        """
        if epoch not in self.epochs:
            raise CheckpointError(
                f"no checkpoint of epoch {epoch} in {self.directory}; there are {self.epochs}"
            )
        return self._restore(epoch * self._unit, like, seeds)

    def _restore(self, number: int, like: Networks, seeds: Sequence[int]) -> RunState:
        try:
            state = self._read(number, like)
        except CheckpointError as error:
            raise CheckpointError(f"{error} {self._advice(number, like)}") from error.__cause__
        found = tuple(seed.seed for seed in state.progress)
        if found != tuple(seeds):
            raise CheckpointError(
                f"the checkpoints in {self.directory} are of another config: expected seeds "
                f"{tuple(seeds)}, got {found}; take the config that they were made with"
            )
        return state

    def _advice(self, number: int, like: Networks) -> str:
        """What to do about a damaged checkpoint, for the message."""
        good = self._latest_good(number, like)
        if good is None:
            return "No earlier one is good either."
        whole = good % self._unit == 0
        evaluate = f"evaluate it with --stage={good // self._unit}, or " if whole else ""
        return (
            f"The latest good one is {self._called(good)}: {evaluate}move "
            f"{self.directory / str(number)} away and training goes on from it."
        )

    def checksum(self, epoch: int) -> int:
        """The checksum with which a checkpoint was written; identifies its networks.

        Raises:
          CheckpointError: if it cannot be read.
        """
        with self._explained("read"):
            record = self._manager.restore(
                epoch * self._unit, args=ocp.args.Composite(progress=ocp.args.JsonRestore())
            )
        return record.progress["checksum"]

    def _latest_good(self, before: int, like: Networks) -> int | None:
        for number in reversed([n for n in self._numbers() if n < before]):
            try:
                self._read(number, like)
            except CheckpointError:
                continue
            return number
        return None

    def _read(self, number: int, like: Networks) -> RunState:
        place = self.directory / str(number)
        try:
            restored = self._manager.restore(
                number,
                args=ocp.args.Composite(
                    params=ocp.args.StandardRestore(like), progress=ocp.args.JsonRestore()
                ),
            )
            record = restored.progress
            progress = tuple(self._progress_type(**seed) for seed in record["progress"])
            expected, seconds = record["checksum"], record["seconds"]
        except Exception as error:  # tensorstore, Orbax and json each raise their own exceptions
            raise CheckpointError(
                f"checkpoint {place} is damaged or of another network: "
                f"{type(error).__name__}: {(str(error).strip() or repr(error)).splitlines()[0]}."
            ) from error
        found = checksum(restored.params)
        if found != expected:
            raise CheckpointError(
                f"checkpoint {place} is damaged: expected checksum {expected}, got {found}."
            )
        epoch, step = divmod(number, self._unit)
        return RunState(epoch, restored.params, progress, seconds, step)

    def delete_all_but(self, kept: Sequence[int]) -> list[int]:
        """Deletes all checkpoints but those of the epochs in `kept`; returns the deleted epochs."""
        spared = {epoch * self._unit for epoch in kept}
        doomed = [number for number in self._numbers() if number not in spared]
        for number in doomed:
            self._manager.delete(number)
        return [number // self._unit for number in doomed if number % self._unit == 0]

    def close(self) -> None:
        """Waits for background writes and releases the directory."""
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


def _check_not_s3(directory: Path) -> None:
    if str(directory).startswith("s3://"):
        raise CheckpointError(
            f"Orbax writes no checkpoints to {directory}, only to disks and gs://BUCKET/...; mount "
            "the bucket, as launch.sweep --engine=skypilot does, or take another --workdir"
        )
