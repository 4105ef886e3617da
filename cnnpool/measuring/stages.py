"""Which checkpoint a stage's name stands for."""

from collections.abc import Sequence

from cnnpool.training.checkpoints import CheckpointError, CheckpointStore, Progress

INIT, TRAINED, LAST, ALL = "init", "trained", "last", "all"


def parse_stages(text: str) -> tuple[str, ...]:
    """Stage names from a comma-separated list: init, trained, last, all, or epochs.

    Raises:
      ValueError: if one is none of them.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in (INIT, TRAINED, LAST, ALL) and not name.isdigit():
            raise ValueError(
                f"stage {name!r}: expected {INIT}, {TRAINED}, {LAST}, {ALL} or an epoch's number"
            )
    return names


def parse_stage(text: str) -> str:
    """The name of one stage, where there may be no more.

    Raises:
      ValueError: if it is none, or several.
    """
    names = parse_stages(text)
    if len(names) > 1 or ALL in names:
        raise ValueError(f"--stage={text}: expected one stage; give the command once for each")
    return names[0]


def epochs_of(stages: Sequence[str], store: CheckpointStore) -> dict[str, int]:
    """The epoch of every stage; "all" stands for every epoch that is kept, and "trained".

    Raises:
      CheckpointError: if a checkpoint is absent.
    """
    kept = [INIT if epoch == 0 else str(epoch) for epoch in store.epochs]
    named = [name for stage in stages for name in ([*kept, TRAINED] if stage == ALL else [stage])]
    return {stage: epoch_of(stage, store) for stage in named}


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
