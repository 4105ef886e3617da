"""The training loop: from a config to finished networks in checkpoints."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
from functools import partial
from pathlib import Path
import time
from typing import Any

from ml_collections import ConfigDict

from cnnpool import data as data_sets
from cnnpool.devices import distributed, global_arrays, numerics
from cnnpool.devices.progress_bar import ProgressBar, say
from cnnpool.errors import CnnpoolError, PreemptedError
from cnnpool.runs import provenance, run_config
from cnnpool.runs.running import Running, running
from cnnpool.training import network_folder
from cnnpool.training.checkpoints import CheckpointStore, RunState, checkpoint_directory
from cnnpool.training.classifier_recipe import ClassifierRecipe, Monitor
from cnnpool.training.metrics_log import MetricsLog, open_log
from cnnpool.training.recipe import DivergedError, Recipe
from cnnpool.training.ring_recipe import RingRecipe
from cnnpool.training.variables import Variables


class TrainingDivergedError(CnnpoolError):
    """A loss is no longer finite; the message names the step and the last good checkpoint."""


def train(
    config: ConfigDict,
    workdir: Path,
    *,
    process: Running | None = None,
    trained: Callable[[Path], list[Variables]] | None = None,
    monitor: Monitor | None = None,
) -> RunState:
    """Trains all networks of a config; resumes where an earlier call was stopped.

    A run with fewer epochs than the config asks for, finished or not, is extended.

    Args:
      config: a complete config, as made by the files in `configs/`.
      workdir: where config.json, metrics.csv, status.json, checkpoints/ and, if the config asks
        for it, tensorboard/ are written.
      process: the process that holds `workdir` already; None: this call holds it.
      trained: reads the networks in a folder, for `training.init_from` of a classifier.
      monitor: measures classifiers during training.

    Returns:
      The finished networks.

    Raises:
      ValueError: if the config is impossible or lacks a field, `workdir` holds a run of another
        config, or JAX settings would change the numbers.
      DataError: if the data is missing or damaged.
      CheckpointError: if a checkpoint cannot be written or read.
      TrainingDivergedError: if a loss is not finite.
      WorkdirBusyError: if another process works there.
      PreemptedError: if a signal asked to stop; everything is saved.
    """
    numerics.check_settings()
    network_folder.check_holds_no_networks(workdir)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_missing_fields_named(config))
        config = data_sets.completed(config)
        ring = run_config.is_on_ring(config)
        build: Any = (
            RingRecipe if ring else partial(ClassifierRecipe, trained=trained, monitor=monitor)
        )
        recipe: Recipe = process.call(build, config) if process else build(config)
        process = process or stack.enter_context(running(workdir))
        before = _claim(workdir, recipe)
        store = stack.enter_context(
            CheckpointStore(
                checkpoint_directory(workdir),
                keep_epochs=config.checkpoint.keep_epochs,
                progress_type=recipe.progress_type,
                steps_per_epoch=recipe.steps_per_epoch,
            )
        )
        state = process.call(_first_state, recipe, store)
        _say_what_more_epochs_take(before, recipe, state)
        if state.finished:
            process.report("training", state.epoch, state.epoch)
            return state
        store.check_named_by_steps()
        if not store.holds(state):
            store.save(state)
        _say_where_it_goes_on(state)
        if distributed.is_first():
            provenance.append_to(workdir / "provenance.json")
        log = stack.enter_context(
            open_log(
                workdir,
                resume_epoch=state.epoch,
                columns=recipe.columns,
                tensorboard=recipe.tensorboard,
            )
        )
        # Entered last, so that the other contexts' exits do not wait for a lost process.
        stack.enter_context(distributed.ending_together(process.record))
        return _run(recipe, state, store, log, process)


@contextlib.contextmanager
def _missing_fields_named(config: ConfigDict) -> Iterator[None]:
    try:
        yield
    except AttributeError as error:
        if not isinstance(error.obj, ConfigDict):
            raise
        raise ValueError(
            f"data.name {config.data.name!r} with model.name {config.model.name!r} needs a field "
            f"that the config lacks: {error.name!r}; start from the file in configs/ of that data"
        ) from error


def _claim(workdir: Path, recipe: Recipe) -> ConfigDict | None:
    """Writes config and data source into the working directory, or refuses another run's.

    Returns:
      The config that was there before, in the first process.
    """
    source, before = recipe.data_source, None

    def claim() -> None:
        nonlocal before
        before = run_config.load(workdir) if run_config.config_path(workdir).exists() else None
        exists = checkpoint_directory(workdir).exists()
        run_config.claim(workdir, recipe.config, has_checkpoints=exists)
        if source is not None:
            run_config.claim_data(workdir, source)

    distributed.on_first(claim)
    if source is not None:
        run_config.check_same_data(workdir, source)
    return before


def _first_state(recipe: Recipe, store: CheckpointStore) -> RunState:
    """The latest checkpoint, or all networks before their first step."""
    found = store.restore_latest(recipe.shapes, seeds=recipe.config.seeds)
    return recipe.init() if found is None else recipe.reopened(found)


def _say_what_more_epochs_take(before: ConfigDict | None, recipe: Recipe, state: RunState) -> None:
    """Logs how much is left of a run that is extended, and how its schedule changes."""
    if before is None or "epochs" not in before.training:
        return
    were, now = before.training.epochs, recipe.config.training.epochs
    if were == now or not state.epoch:
        return
    left, each = now - state.epoch, state.seconds / state.epoch
    said = (
        f"{state.epoch} of {were} epochs are done; {left} of {now} are left, about "
        f"{each * left / 60:.0f} min at {each:.1f} s per epoch"
    )
    if (schedule := recipe.config.training.schedule) != "constant":
        said += (
            f". From here on the learning rate follows the {schedule} schedule of {now} epochs; "
            f"the steps before followed that of {were}, so that a run that was given {now} epochs "
            "from the beginning ends with other networks"
        )
    say(said)


def _say_where_it_goes_on(state: RunState) -> None:
    """Logs from where a run resumes, and that compiling takes the first minute."""
    if not distributed.is_first():
        return
    if state.epoch or state.step:
        within = f", step {state.step} of the next" if state.step else ""
        say(f"going on from epoch {state.epoch}{within}")
    say("compiling the training step ...")


def _run(
    recipe: Recipe, state: RunState, store: CheckpointStore, log: MetricsLog, process: Running
) -> RunState:
    """Advances, evaluates, records and saves until every network has stopped."""
    keep = recipe.config.checkpoint
    began = saved_at = time.monotonic()
    seconds_before = state.seconds
    done = state.steps(recipe.steps_per_epoch)
    with ProgressBar(None, "training", "step", done=done, compiles=True) as bar:
        while not state.finished:
            _report(recipe, state, bar, process)
            try:
                distributed.end_if_asked(f"in epoch {state.epoch} after step {state.step}")
                before, after, sums = _advance(recipe, state, process)
                due = recipe.measurement_due(after)
                measured = process.call(recipe.measure, after) if due else {}
            except PreemptedError:
                _save(store, log, state)
                raise
            except DivergedError as error:
                raise _diverged(recipe, store, error) from None
            for row in recipe.rows(before, after, sums):
                log.append(after.epoch, **row, **measured.get(row["seed"], {}))
            state = dataclasses.replace(after, seconds=seconds_before + time.monotonic() - began)
            bar.set_postfix_str(recipe.summary(state, sums), refresh=False)
            bar.update(state.steps(recipe.steps_per_epoch) - bar.n)
            kept = state.finished or (state.step == 0 and state.epoch in keep.keep_epochs)
            if distributed.agreed(kept or time.monotonic() - saved_at >= keep.every_seconds):
                _save(store, log, state)
                saved_at = time.monotonic()
        _report(recipe, state, bar, process)
    store.wait()
    return state


def _advance(recipe: Recipe, state: RunState, process: Running) -> tuple[RunState, RunState, Any]:
    """The states after some steps, before and after the evaluation, and the steps' sums."""
    began = time.monotonic()
    stop = recipe.next_stop(state)
    networks, sums = process.call(recipe.advance, state, stop)
    sums = global_arrays.fetch(sums)
    progress = recipe.count(state, sums, time.monotonic() - began)
    epoch, step = divmod(stop, recipe.steps_per_epoch)
    before = RunState(epoch, networks, progress, state.seconds, step)
    if not recipe.evaluation_due(before):
        return before, before, sums
    networks, evaluations = process.call(recipe.evaluate, before)
    progress = recipe.observe(before, global_arrays.fetch(evaluations))
    return before, dataclasses.replace(before, networks=networks, progress=progress), sums


def _save(store: CheckpointStore, log: MetricsLog, state: RunState) -> None:
    """Saves a state that is not saved yet, after the rows before it are on disk."""
    log.flush()
    if not store.holds(state):
        store.save(state)


def _diverged(
    recipe: Recipe, store: CheckpointStore, error: DivergedError
) -> TrainingDivergedError:
    store.wait()
    return TrainingDivergedError(
        f"{error}; last good checkpoint: {store.latest_name} in {store.directory}. Try a smaller "
        f"{recipe.remedy} in a new --workdir."
    )


def _report(recipe: Recipe, state: RunState, bar: ProgressBar, process: Running) -> None:
    end = recipe.expected_end(state)
    bar.total = None if end is None else end * recipe.steps_per_epoch
    process.report("training", state.epoch, end)
