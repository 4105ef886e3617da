"""The training loop: from a config to finished networks in checkpoints."""

from collections.abc import Sequence
import contextlib
import dataclasses
from pathlib import Path
import time

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict
import numpy as np

from cnnpool.devices import distributed, global_arrays, runtime
from cnnpool.errors import CnnpoolError, PreemptedError
from cnnpool.runs import provenance, run_config
from cnnpool.runs.running import Running, running
from cnnpool.training import setup
from cnnpool.training.block import NO_STEP, BlockMetrics, compile_block
from cnnpool.training.checkpoints import CheckpointStore, RunState
from cnnpool.training.hinge import hinge
from cnnpool.training.metrics_log import (
    MetricsLog,
    expected_end,
    progress_bar,
    say_where_it_goes_on,
)
from cnnpool.training.stopping import SeedProgress, StoppingRule


class TrainingDivergedError(CnnpoolError):
    """A loss is no longer finite; the message names the step and the last good checkpoint."""


def checkpoint_directory(workdir: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return workdir / "checkpoints"


def stopping_rule(config: ConfigDict) -> StoppingRule:
    """The stopping rule of a config's `training` section."""
    fields = [field.name for field in dataclasses.fields(StoppingRule)]
    return StoppingRule(**{field: config.training[field] for field in fields})


def next_epoch(
    config: ConfigDict, rule: StoppingRule, epoch: int, progress: Sequence[SeedProgress]
) -> int:
    """Where the block that begins at `epoch` ends: the next check, row or kept checkpoint."""
    every = config.runtime.log_every
    checks = [rule.next_check(epoch, seed) for seed in progress if seed.stopped_epoch is None]
    kept = [keep for keep in config.checkpoint.keep_epochs if keep > epoch]
    return min([(epoch // every + 1) * every, *checks, *kept])


def refuse_divergence(
    config: ConfigDict, store: CheckpointStore, start: int, metrics: BlockMetrics
) -> None:
    """Raises TrainingDivergedError if a loss is not finite or above the threshold."""
    steps = config.data.train_size // config.training.batch_size
    checks = zip(config.seeds, metrics.hinge, metrics.first_bad_step, metrics.finite, strict=True)
    for seed, loss, bad, finite in checks:
        if bad == NO_STEP and finite and loss <= config.training.divergence:
            continue
        step = start * steps + (0 if bad == NO_STEP else int(bad))
        store.wait()
        raise TrainingDivergedError(
            f"seed {seed} diverged: hinge loss {loss} at step {step} (epoch {step // steps}, or "
            f"after it); last good checkpoint: epoch {max(store.epochs)} in {store.directory}. "
            "Try a smaller training.learning_rate_per_channel in a new --workdir."
        )


class Evaluator:
    """Training hinge loss and validation error of every network of a run."""

    def __init__(self, config: ConfigDict, net: setup.Network, mesh: Mesh):
        everywhere, by_seed = PartitionSpec(), PartitionSpec(runtime.SEED_AXIS)
        self._images = global_arrays.place(net.data.images, NamedSharding(mesh, everywhere))
        self._labels = net.data.labels
        self._training = setup.is_training_image(config, net.data)
        self._outputs = jax.jit(
            jax.shard_map(
                lambda params, images: jax.lax.map(lambda p: net.output(p, images), params),
                mesh=mesh,
                in_specs=(by_seed, everywhere),
                out_specs=by_seed,
                check_vma=False,
            )
        )

    def __call__(self, state: RunState) -> list[tuple[float, float]]:
        """(mean hinge loss on training images, error on the others) a network."""
        margins = self._labels * global_arrays.fetch(self._outputs(state.params, self._images))
        losses = np.asarray(hinge(jnp.asarray(margins, jnp.float32)))
        wrong = ~(margins > 0)
        return [
            (float(losses[row, train].mean()), float(wrong[row, ~train].mean()))
            for row, train in enumerate(self._training)
        ]


def train(config: ConfigDict, workdir: Path, *, process: Running | None = None) -> RunState:
    """Trains all networks of a config; goes on where an earlier call was stopped.

    Args:
      config: complete, as the files in `configs/` make it.
      workdir: gets config.json, metrics.csv, status.json and checkpoints/.
      process: that holds `workdir` already; None holds it here.

    Returns:
      The finished networks.

    Raises:
      ValueError: if the config is impossible or `workdir` holds another one's run.
      CheckpointError: if a checkpoint cannot be written or read.
      TrainingDivergedError: if a loss is not finite.
      WorkdirBusyError: if another process works there.
      PreemptedError: if a signal asked to stop; all is saved.
    """
    setup.check_seeds(config.seeds)
    net = setup.network(config)
    rule = stopping_rule(config)
    if config.runtime.log_every < 1:
        raise ValueError(f"runtime.log_every must be at least 1, got {config.runtime.log_every}")
    mesh = runtime.seed_mesh(len(config.seeds))
    data = setup.training_sets(config, net.data, mesh)
    block = compile_block(
        setup.sgd(config, net), mesh, seeds_per_batch=config.runtime.seeds_per_batch
    )
    with contextlib.ExitStack() as stack:
        process = process or stack.enter_context(running(workdir))
        directory = checkpoint_directory(workdir)
        distributed.on_first(
            lambda: run_config.claim(workdir, config, has_checkpoints=directory.exists())
        )
        store = stack.enter_context(
            CheckpointStore(directory, keep_epochs=config.checkpoint.keep_epochs)
        )
        if store.epochs:
            like = net.stacked_shapes(len(config.seeds), mesh)
            state = store.restore(max(store.epochs), like, seeds=config.seeds)
        else:
            state = setup.initial_state(net, config.seeds, mesh)
            store.save(state)
        if not state.finished:
            say_where_it_goes_on(state.epoch)
        log = None
        if distributed.is_first():
            if not state.finished:
                provenance.append_to(workdir / "provenance.json")
            log = stack.enter_context(MetricsLog(workdir / "metrics.csv", resume_epoch=state.epoch))
        # The last to be entered: a lost process must not be waited for in the others' exits.
        stack.enter_context(distributed.ending_together(process.record))
        evaluator = Evaluator(config, net, mesh)
        return _run(config, rule, state, block, mesh, data, evaluator, store, log, process)


def _run(config, rule, state, block, mesh, data, evaluator, store, log, process) -> RunState:
    began = saved_at = time.monotonic()
    seconds = state.seconds
    with progress_bar(state.epoch) as bar:
        while not state.finished:
            bar.total = expected_end(rule, state.progress)
            process.report("training", state.epoch, bar.total)
            stop = next_epoch(config, rule, state.epoch, state.progress)
            active = np.array([seed.stopped_epoch is None for seed in state.progress])
            placed = global_arrays.place(active, runtime.over_seeds(mesh))
            try:
                distributed.end_if_asked(f"after epoch {state.epoch}")
                params, metrics = process.call(block, state.params, data, placed, state.epoch, stop)
            except PreemptedError:
                _flush(log)
                store.wait()
                if state.epoch not in store.epochs:
                    store.save(state)
                raise
            metrics = global_arrays.fetch(metrics)
            refuse_divergence(config, store, state.epoch, metrics)
            bar.update(stop - state.epoch)
            state = RunState(stop, params, state.progress, seconds + time.monotonic() - began)
            due = evaluation_due(rule, state)
            if any(due):
                state = observe(rule, state, due, evaluator(state))
            if log is not None:
                _record(log, state, active, metrics, due)
            bar.set_postfix_str(_summary(state, metrics), refresh=False)
            save_due = time.monotonic() - saved_at >= config.checkpoint.every_seconds
            kept = state.finished or stop in config.checkpoint.keep_epochs
            if distributed.agreed(save_due or kept):
                _flush(log)
                store.save(state)
                saved_at = time.monotonic()
    store.wait()
    return state


def _flush(log: MetricsLog | None) -> None:
    if log is not None:
        log.flush()


def evaluation_due(rule: StoppingRule, state: RunState) -> list[bool]:
    """Which networks the stopping rule looks at now."""
    at_a_check = state.epoch % rule.check_every == 0
    return [
        at_a_check
        and seed.stopped_epoch is None
        and (seed.interpolation_epoch is None or state.epoch >= (rule.earliest_stop(seed) or 0))
        for seed in state.progress
    ]


def observe(
    rule: StoppingRule,
    state: RunState,
    due: Sequence[bool],
    evaluations: Sequence[tuple[float, float]],
) -> RunState:
    """Applies the stopping rule to the networks that are due."""
    progress = tuple(
        rule.observe(state.epoch, seed, train_hinge=loss, validation_error=error)
        if is_due
        else seed
        for seed, is_due, (loss, error) in zip(state.progress, due, evaluations, strict=True)
    )
    return dataclasses.replace(state, progress=progress)


def _record(
    log: MetricsLog, state: RunState, active, metrics: BlockMetrics, due: Sequence[bool]
) -> None:
    for row, seed in enumerate(state.progress):
        if not active[row]:
            continue
        log.append(
            state.epoch,
            seed.seed,
            hinge=float(metrics.hinge[row]),
            backward_fraction=float(metrics.backward_fraction[row]),
            train_hinge=seed.train_hinge if due[row] else None,
            validation_error=seed.validation_error if due[row] else None,
        )


def _summary(state: RunState, metrics: BlockMetrics) -> str:
    interpolated = sum(seed.interpolation_epoch is not None for seed in state.progress)
    stopped = sum(seed.stopped_epoch is not None for seed in state.progress)
    return (
        f"hinge {metrics.hinge.max():.2g}, backward {metrics.backward_fraction.mean():.1%}, "
        f"interpolated {interpolated}/{len(state.progress)}, stopped {stopped}"
    )
