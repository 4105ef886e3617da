"""The training loop of deep networks: a fixed number of epochs, the best network kept."""

from collections.abc import Iterator
import contextlib
from pathlib import Path
import sys
import time
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from cnnpool import distributed, global_arrays, provenance, run_config
from cnnpool.errors import PreemptedError
from cnnpool.training import optimizer, packed
from cnnpool.training.block import NO_STEP
from cnnpool.training.checkpoints import CheckpointStore, RunState
from cnnpool.training.image_progress import ImageProgress
from cnnpool.training.image_setup import ImageTraining, setup
from cnnpool.training.image_step import Evaluation, StepMetrics
from cnnpool.training.loop import TrainingDivergedError, checkpoint_directory, lock
from cnnpool.training.metrics_log import MetricsLog

COLUMNS = (
    "learning_rate",
    "train_loss",
    "train_error",
    "test_loss",
    "test_error",
    "images_per_second",
)


class EpochMetrics(NamedTuple):
    """What an epoch tells of every network.

    Attributes:
      loss: mean over its steps, each before its update; (seeds,).
      error: part of the images that were misclassified then; (seeds,).
      images_per_second: of all networks together.
    """

    loss: np.ndarray
    error: np.ndarray
    images_per_second: float


def train(config: ConfigDict, workdir: Path) -> RunState:
    """Trains all networks of a config; goes on where an earlier call was stopped.

    Args:
      config: complete, as the files in `configs/` make it.
      workdir: gets config.json, metrics.csv, tensorboard/ and checkpoints/.

    Returns:
      The finished networks: `params` is a stacked `TrainState`.

    Raises:
      ValueError: if the config is impossible or `workdir` holds another one's run.
      DataError: if the data is absent or damaged.
      CheckpointError: if a checkpoint cannot be written or read.
      TrainingDivergedError: if a loss is not finite.
      WorkdirBusyError: if another process trains there.
    """
    packed.refuse_packed(workdir)
    training = setup(config)
    with contextlib.ExitStack() as stack:
        directory = checkpoint_directory(workdir)

        def claim() -> None:
            stack.enter_context(lock(workdir))
            run_config.claim(workdir, config, has_checkpoints=directory.exists())
            run_config.claim_data(workdir, training.data.source)

        distributed.on_first(claim)
        run_config.refuse_other_data(workdir, training.data.source)
        keep = config.checkpoint.keep_epochs
        store = stack.enter_context(
            CheckpointStore(directory, keep_epochs=keep, progress_type=ImageProgress)
        )
        state = _first_state(training, store)
        log = board = None
        if distributed.is_first():
            if not state.finished:
                provenance.append_to(workdir / "provenance.json")
            log = stack.enter_context(
                MetricsLog(workdir / "metrics.csv", resume_epoch=state.epoch, columns=COLUMNS)
            )
            board = stack.enter_context(_tensorboard(config, workdir, state.epoch))
        # The last to be entered: a lost process must not be waited for in the others' exits.
        stack.enter_context(distributed.ending_together())
        return _run(training, state, store, log, board)


def _first_state(training: ImageTraining, store: CheckpointStore) -> RunState:
    """The latest checkpoint, or all networks before their first epoch."""
    if store.epochs:
        like = training.state_shapes()
        return store.restore(max(store.epochs), like, seeds=training.config.seeds)
    state = training.initial_state()
    store.save(state)
    return state


@contextlib.contextmanager
def _tensorboard(config: ConfigDict, workdir: Path, epoch: int) -> Iterator[SummaryWriter | None]:
    """A writer whose events after `epoch`, of a run that was stopped, are hidden."""
    if not config.runtime.tensorboard:
        yield None
        return
    with SummaryWriter(str(workdir / "tensorboard"), purge_step=epoch + 1) as writer:
        yield writer


def _run(
    training: ImageTraining,
    state: RunState,
    store: CheckpointStore,
    log: MetricsLog | None,
    board: SummaryWriter | None,
) -> RunState:
    config, recipe = training.config, training.recipe
    steps = training.compile(recipe.steps, stacked=2, shared=4)
    finish = training.compile(recipe.finish_epoch, stacked=2, shared=2)
    began = saved_at = time.monotonic()
    seconds = state.seconds
    with _progress_bar(training, state) as bar:
        while not state.finished:
            epoch = state.epoch
            arrays, metrics = _one_epoch(training, steps, state, store, bar)
            arrays, evaluations = finish(arrays, training.keys, training.test, epoch)
            evaluations = _rows(global_arrays.fetch(evaluations))
            _refuse_broken_networks(training, store, epoch, evaluations)
            progress = tuple(
                one.observe(epoch + 1, evaluation, last_epoch=config.training.epochs)
                for one, evaluation in zip(state.progress, evaluations, strict=True)
            )
            state = RunState(epoch + 1, arrays, progress, seconds + time.monotonic() - began)
            if log is not None:
                _record(training, state, metrics, log, board)
            preempted = distributed.preempted()
            due = distributed.agreed(time.monotonic() - saved_at >= config.checkpoint.every_seconds)
            if due or preempted or state.finished or state.epoch in config.checkpoint.keep_epochs:
                if log is not None:
                    log.flush()
                store.save(state)
                saved_at = time.monotonic()
            if preempted and not state.finished:
                store.wait()
                raise PreemptedError(f"asked to end; saved after epoch {state.epoch}")
    store.wait()
    return state


def _progress_bar(training: ImageTraining, state: RunState) -> tqdm:
    """A bar over steps; in a log file it prints a line every 30 seconds at most."""
    steps = training.steps_per_epoch
    return tqdm(
        initial=state.epoch * steps,
        total=training.config.training.epochs * steps,
        desc="training",
        unit="step",
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
        miniters=1,
        disable=not distributed.is_first(),
    )


def _one_epoch(
    training: ImageTraining, steps: Any, state: RunState, store: CheckpointStore, bar: tqdm
) -> tuple[Any, EpochMetrics]:
    """Runs an epoch in calls of a few steps."""
    config, count = training.config, training.steps_per_epoch
    arrays, loss, error = state.params, 0.0, 0.0
    began = time.monotonic()
    for start in range(0, count, config.runtime.steps_per_call):
        stop = min(start + config.runtime.steps_per_call, count)
        arrays, metrics = steps(arrays, training.keys, training.train, state.epoch, start, stop)
        metrics = global_arrays.fetch(metrics)
        _refuse_divergence(training, store, state.epoch, metrics)
        loss, error = loss + metrics.loss, error + metrics.error
        bar.update(stop - start)
        bar.set_postfix_str(_summary(state, metrics.loss / (stop - start)), refresh=False)
    images = count * config.training.batch_size * len(config.seeds)
    rate = images / (time.monotonic() - began)
    return arrays, EpochMetrics(np.asarray(loss) / count, np.asarray(error) / count, rate)


def _summary(state: RunState, losses: np.ndarray) -> str:
    errors = [one.test_error for one in state.progress if one.test_error is not None]
    best = [one.best_error for one in state.progress if one.best_error is not None]
    tested = f", test error {np.mean(errors):.2%}, best {np.mean(best):.2%}" if errors else ""
    dead = sum(one.dead_epoch is not None for one in state.progress)
    return f"epoch {state.epoch + 1}, loss {losses.mean():.3g}{tested}" + (
        f", {dead} dead" if dead else ""
    )


def _refuse_divergence(
    training: ImageTraining, store: CheckpointStore, epoch: int, metrics: StepMetrics
) -> None:
    """Raises TrainingDivergedError if a training loss is not finite."""
    first = epoch * training.steps_per_epoch
    for seed, bad in zip(training.config.seeds, metrics.first_bad_step, strict=True):
        if bad != NO_STEP:
            where = f"the loss is not finite at step {first + int(bad)} (epoch {epoch})"
            raise _diverged(seed, where, store)


def _refuse_broken_networks(
    training: ImageTraining, store: CheckpointStore, epoch: int, evaluations: list[Evaluation]
) -> None:
    """Raises TrainingDivergedError if a test loss is not finite.

    The loss of a step is taken before its update, so that an epoch's last update can leave a
    broken network unseen, which must not become a checkpoint.
    """
    last = (epoch + 1) * training.steps_per_epoch - 1
    for seed, evaluation in zip(training.config.seeds, evaluations, strict=True):
        if not np.isfinite(evaluation.loss):
            where = f"the test loss is not finite after step {last} (epoch {epoch})"
            raise _diverged(seed, where, store)


def _diverged(seed: int, where: str, store: CheckpointStore) -> TrainingDivergedError:
    store.wait()
    return TrainingDivergedError(
        f"seed {seed} diverged: {where}; last good checkpoint: epoch {max(store.epochs)} in "
        f"{store.directory}. Try a smaller training.learning_rate, training.warmup_epochs or "
        "training.clip_norm in a new --workdir."
    )


def _rows(stacked: Any) -> list[Any]:
    """A tree of arrays with a seed axis as one tree a seed."""
    count = len(jax.tree.leaves(stacked)[0])
    return [jax.tree.map(lambda a, row=row: a[row], stacked) for row in range(count)]


def _record(
    training: ImageTraining,
    state: RunState,
    metrics: EpochMetrics,
    log: MetricsLog,
    board: SummaryWriter | None,
) -> None:
    """One row a network of metrics.csv, and the same for TensorBoard."""
    config = training.config.training
    last_step = state.epoch * training.steps_per_epoch - 1
    rate = optimizer.learning_rate(config, last_step, steps_per_epoch=training.steps_per_epoch)
    for row, one in enumerate(state.progress):
        values = {
            "learning_rate": float(rate),
            "train_loss": float(metrics.loss[row]),
            "train_error": float(metrics.error[row]),
            "test_loss": one.test_loss,
            "test_error": one.test_error,
            "images_per_second": round(metrics.images_per_second, 1),
        }
        log.append(state.epoch, one.seed, **values)
        if board is not None:
            for name, value in values.items():
                board.add_scalar(f"{name}/seed{one.seed}", value, state.epoch)
