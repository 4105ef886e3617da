"""Which checkpoint a stage's name stands for."""

from collections.abc import Sequence

from cnnpool.training.checkpoints import CheckpointError, CheckpointStore, Progress

INIT, TRAINED, LAST = "init", "trained", "last"


def parse_stages(text: str) -> tuple[str, ...]:
    """Stage names from a comma-separated list: init, trained, last, or epochs.

    Raises:
      ValueError: if one is none of them.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in (INIT, TRAINED, LAST) and not name.isdigit():
            raise ValueError(
                f"stage {name!r}: expected {INIT}, {TRAINED} or an epoch's number, or {LAST}"
            )
    return names


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


def refuse_unfinished(progress: Sequence[Progress], epoch: int) -> None:
    """Raises CheckpointError if a network has not been trained to its end."""
    running = [seed.seed for seed in progress if seed.stopped_epoch is None]
    if running:
        raise CheckpointError(
            f"seeds {running} are not trained to the end yet (the latest checkpoint is epoch "
            f"{epoch}): give the command of the training again, or measure it as --stage={epoch}"
        )
