"""The stages that names stand for, and their checkpoints."""

from collections.abc import Sequence
from pathlib import Path

from cnnpool.measuring.names import ALL, INIT, LAST, TRAINED
from cnnpool.training.checkpoints import CheckpointError, CheckpointStore, Progress


def expanded(asked: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    """The names of stages without duplicates, with "all" expanded to the existing ones."""
    named = [name for stage in asked for name in (there if stage == ALL else [stage])]
    return tuple(dict.fromkeys(named))


def of_finished(asked: Sequence[str], folder: Path) -> tuple[str, ...]:
    """The names of stages of packed or imported networks; "all" is "init" and "trained".

    Raises:
      ValueError: if another stage is asked for.
    """
    named = expanded(asked, (INIT, TRAINED))
    if others := [stage for stage in named if stage not in (INIT, TRAINED)]:
        raise ValueError(
            f"{folder} holds finished networks alone: expected --stage={TRAINED}, or {INIT}, which "
            f"is drawn anew from the seeds; got {', '.join(others)}. Other stages are in the "
            "checkpoints of a run"
        )
    return named


def epochs_of(stages: Sequence[str], store: CheckpointStore) -> dict[str, int]:
    """The epoch of every stage; "all" stands for every epoch that is kept, and "trained".

    Raises:
      CheckpointError: if a checkpoint is missing.
    """
    kept = [INIT if epoch == 0 else str(epoch) for epoch in store.epochs]
    return {stage: epoch_of(stage, store) for stage in expanded(stages, [*kept, TRAINED])}


def epoch_of(stage: str, store: CheckpointStore) -> int:
    """The epoch of the checkpoint that a stage means.

    Raises:
      CheckpointError: if there is no such checkpoint.
    """
    if not store.epochs:
        raise CheckpointError(f"no checkpoint in {store.directory}; train first")
    if stage in (TRAINED, LAST):
        return max(store.epochs)
    epoch = 0 if stage == INIT else int(stage)
    if epoch not in store.epochs:
        raise CheckpointError(
            f"stage {stage!r} is epoch {epoch}, and {store.directory} has {store.epochs}"
        )
    return epoch


def check_finished(progress: Sequence[Progress], epoch: int) -> None:
    """Raises CheckpointError if a network has not been trained to its end."""
    running = [seed.seed for seed in progress if seed.stopped_epoch is None]
    if running:
        raise CheckpointError(
            f"seeds {running} are not trained to the end yet (the latest checkpoint is epoch "
            f"{epoch}): give the command of the training again, or measure it as --stage={epoch}"
        )
