"""The training loop of deep networks: a fixed number of epochs, the best network kept."""

from collections.abc import Iterator
import contextlib
from pathlib import Path
import sys
import time
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from cnnpool.devices import distributed, global_arrays
from cnnpool.errors import PreemptedError
from cnnpool.runs import provenance, run_config
from cnnpool.runs.running import Running, running
from cnnpool.training import optimizer, packed
from cnnpool.training.block import NO_STEP
from cnnpool.training.checkpoints import CheckpointStore, RunState
from cnnpool.training.image_epoch import EpochPart, PartStore, parts
from cnnpool.training.image_progress import ImageProgress
from cnnpool.training.image_setup import ImageTraining, setup
from cnnpool.training.image_step import Evaluation, StepMetrics
from cnnpool.training.loop import TrainingDivergedError, checkpoint_directory
from cnnpool.training.metrics_log import MetricsLog, say_where_it_goes_on

COLUMNS = (
    "learning_rate",
    "train_loss",
    "train_error",
    "test_loss",
    "test_error",
    "images_per_second",
)


def train(config: ConfigDict, workdir: Path, *, process: Running | None = None) -> RunState:
    """Trains all networks of a config; goes on where an earlier call was stopped.

    Args:
      config: complete, as the files in `configs/` make it.
      workdir: gets config.json, metrics.csv, status.json, tensorboard/ and checkpoints/.
      process: that holds `workdir` already; None holds it here.

    Returns:
      The finished networks: `params` is a stacked `TrainState`.

    Raises:
      ValueError: if the config is impossible or `workdir` holds another one's run.
      DataError: if the data is absent or damaged.
      CheckpointError: if a checkpoint cannot be written or read.
      TrainingDivergedError: if a loss is not finite.
      WorkdirBusyError: if another process works there.
      PreemptedError: if a signal asked to stop; all is saved.
    """
    packed.refuse_packed(workdir)
    training = process.call(setup, config) if process else setup(config)
    with contextlib.ExitStack() as stack:
        process = process or stack.enter_context(running(workdir))
        directory = checkpoint_directory(workdir)

        def claim() -> None:
            run_config.claim(workdir, config, has_checkpoints=directory.exists())
            run_config.claim_data(workdir, training.data.source)

        distributed.on_first(claim)
        run_config.refuse_other_data(workdir, training.data.source)
        keep = config.checkpoint.keep_epochs
        store = stack.enter_context(
            CheckpointStore(directory, keep_epochs=keep, progress_type=ImageProgress)
        )
        state = process.call(_first_state, training, store)
        if not store.epochs:
            store.save(state)
        partial = PartStore(workdir, training)
        stack.callback(partial.close)
        state, part = partial.resume(state)
        log = board = None
        if not state.finished:
            say_where_it_goes_on(state.epoch, step=part.step)
        if distributed.is_first():
            if not state.finished:
                provenance.append_to(workdir / "provenance.json")
            log = stack.enter_context(
                MetricsLog(workdir / "metrics.csv", resume_epoch=state.epoch, columns=COLUMNS)
            )
            board = stack.enter_context(_tensorboard(config, workdir, state.epoch))
        # The last to be entered: a lost process must not be waited for in the others' exits.
        stack.enter_context(distributed.ending_together(process.record))
        loop = _Loop(training, store, partial, log, board, process, seconds_before=state.seconds)
        state = loop.run(state, part)
        partial.remove()
        return state


def _first_state(training: ImageTraining, store: CheckpointStore) -> RunState:
    """The latest checkpoint, or all networks before their first epoch."""
    if store.epochs:
        like = training.state_shapes()
        return store.restore(max(store.epochs), like, seeds=training.config.seeds)
    return training.initial_state()


@contextlib.contextmanager
def _tensorboard(config: ConfigDict, workdir: Path, epoch: int) -> Iterator[SummaryWriter | None]:
    """A writer whose events after `epoch`, of a run that was stopped, are hidden."""
    if not config.runtime.tensorboard:
        yield None
        return
    with SummaryWriter(str(workdir / "tensorboard"), purge_step=epoch + 1) as writer:
        yield writer


class _Loop:
    """Epoch after epoch, and when to save."""

    def __init__(
        self,
        training: ImageTraining,
        store: CheckpointStore,
        partial: PartStore,
        log: MetricsLog | None,
        board: SummaryWriter | None,
        process: Running,
        *,
        seconds_before: float,
    ):
        self._training, self._process = training, process
        self._store, self._partial, self._log, self._board = store, partial, log, board
        self._steps = training.compile(training.recipe.steps, stacked=2, shared=4)
        self._finish = training.compile(training.recipe.finish_epoch, stacked=2, shared=2)
        self._began = self._saved_at = time.monotonic()
        self._before = seconds_before

    def run(self, state: RunState, part: EpochPart) -> RunState:
        """Trains to the end; `part` is of the epoch after `state`."""
        config = self._training.config
        self._process.report("training", state.epoch, config.training.epochs)
        with _progress_bar(self._training, state, part) as bar:
            while not state.finished:
                part, arrays, evaluations = self._epoch(state, part, bar)
                progress = tuple(
                    one.observe(state.epoch + 1, evaluation, last_epoch=config.training.epochs)
                    for one, evaluation in zip(state.progress, evaluations, strict=True)
                )
                state = RunState(state.epoch + 1, arrays, progress, self._seconds())
                self._process.report("training", state.epoch, config.training.epochs)
                bar.set_postfix_str(_tested(state))
                if self._log is not None:
                    _record(self._training, state, part, self._log, self._board)
                part = EpochPart.first(arrays, len(config.seeds))
                if self._due() or state.finished or state.epoch in config.checkpoint.keep_epochs:
                    self._flush()
                    self._store.save(state)
                    self._saved_at = time.monotonic()
        self._store.wait()
        return state

    def _epoch(
        self, state: RunState, part: EpochPart, bar: tqdm
    ) -> tuple[EpochPart, Any, list[Evaluation]]:
        """The rest of an epoch; if a signal comes, what there is of it is saved."""
        training, epoch = self._training, state.epoch
        try:
            rest = parts(training, self._steps, epoch, part, self._process)
            for part, metrics in rest:
                _refuse_divergence(training, self._store, epoch, metrics)
                _show(bar, training, state, part, metrics)
                if self._due() and part.step < training.steps_per_epoch:
                    self._save_part(state, part)
                distributed.end_if_asked(f"in epoch {epoch} after step {part.step}")
            arguments = (part.arrays, training.keys, training.test, epoch)
            arrays, evaluations = self._process.call(self._finish, *arguments)
        except PreemptedError:
            self._save_part(state, part)
            raise
        evaluations = _rows(global_arrays.fetch(evaluations))
        _refuse_broken_networks(training, self._store, epoch, evaluations)
        return part, arrays, evaluations

    def _due(self) -> bool:
        every = self._training.config.checkpoint.every_seconds
        return distributed.agreed(time.monotonic() - self._saved_at >= every)

    def _save_part(self, state: RunState, part: EpochPart) -> None:
        """Saves within an epoch; the rows of the epochs before it are on disk first."""
        self._flush()
        self._partial.save(state, part, seconds=self._seconds())
        self._saved_at = time.monotonic()

    def _flush(self) -> None:
        if self._log is not None:
            self._log.flush()
        if self._board is not None:
            self._board.flush()

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._began


def _progress_bar(training: ImageTraining, state: RunState, part: EpochPart) -> tqdm:
    """A bar over steps; in a log file it prints a line every 30 seconds at most."""
    steps = training.steps_per_epoch
    return tqdm(
        initial=state.epoch * steps + part.step,
        total=training.config.training.epochs * steps,
        desc="training",
        unit="step",
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
        miniters=1,
        disable=not distributed.is_first(),
    )


def _show(
    bar: tqdm, training: ImageTraining, state: RunState, part: EpochPart, metrics: StepMetrics
) -> None:
    new = state.epoch * training.steps_per_epoch + part.step - bar.n
    bar.update(new)
    loss = (np.asarray(metrics.loss) / new).mean()
    tested = f"; {_tested(state)}" if state.epoch else ""
    bar.set_postfix_str(f"epoch {state.epoch + 1}, loss {loss:.3g}{tested}", refresh=False)


def _tested(state: RunState) -> str:
    """What the test after the latest whole epoch found, means over the networks."""
    error, best = (
        np.mean([getattr(one, field) for one in state.progress])
        for field in ("test_error", "best_error")
    )
    dead = sum(one.dead_epoch is not None for one in state.progress)
    return f"test error {error:.2%} after epoch {state.epoch}, best {best:.2%}" + (
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
    part: EpochPart,
    log: MetricsLog,
    board: SummaryWriter | None,
) -> None:
    """One row a network of metrics.csv, and the same for TensorBoard."""
    config = training.config.training
    steps = training.steps_per_epoch
    images = steps * config.batch_size * len(state.progress)
    last_step = state.epoch * training.steps_per_epoch - 1
    rate = optimizer.learning_rate(config, last_step, steps_per_epoch=training.steps_per_epoch)
    for row, one in enumerate(state.progress):
        values = {
            "learning_rate": float(rate),
            "train_loss": float(part.loss[row]) / steps,
            "train_error": float(part.error[row]) / steps,
            "test_loss": one.test_loss,
            "test_error": one.test_error,
            "images_per_second": round(images / part.seconds, 1),
        }
        log.append(state.epoch, one.seed, **values)
        if board is not None:
            for name, value in values.items():
                board.add_scalar(f"{name}/seed{one.seed}", value, state.epoch)
