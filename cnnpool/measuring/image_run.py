"""Test errors of a run of deep networks, from its checkpoints or from a packed folder."""

from collections.abc import Callable, Sequence
import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import xarray as xr

from cnnpool import provenance, results, run_config
from cnnpool.data.images import DataError
from cnnpool.measuring import stages as stage_names
from cnnpool.training import image_setup, packed
from cnnpool.training.checkpoints import CheckpointError, CheckpointStore, RunState
from cnnpool.training.image_progress import ImageProgress
from cnnpool.training.image_setup import ImageTraining
from cnnpool.training.image_step import Evaluation, NetworkKeys, TestSet, Variables
from cnnpool.training.loop import checkpoint_directory

Evaluator = Callable[[Variables, Sequence[int]], list[Evaluation]]


def open_training(config: ConfigDict) -> ImageTraining:
    """Data and recipe of a config, on the devices of this machine whatever trained it.

    Raises:
      DataError: if the data is absent or damaged.
      ValueError: if the config is impossible.
    """
    here = config.copy_and_resolve_references()
    here.runtime.mesh.seed, here.runtime.mesh.data = None, 1
    try:
        return image_setup.setup(here)
    except DataError as error:
        if "data_dir" not in config.data:
            raise
        raise DataError(
            f"{error}\nThe run's data.data_dir is {config.data.data_dir}; --data_dir names another "
            "folder for this command."
        ) from error


def measurement_record(workdir: Path, config: ConfigDict, stages: Sequence[str]) -> str:
    """What makes two measurements the same, as JSON: config and networks.

    Raises:
      CheckpointError: if a stage is not there.
      PackedError: if a packed folder is damaged.
    """
    if packed.is_packed(workdir):
        _refuse_all_but_trained(workdir, stages)
        checksum = packed.networks_checksum(workdir)
        networks: dict[str, Any] = dict.fromkeys(stages, checksum)
    else:
        with _store(workdir) as store:
            epochs = {stage: stage_names.epoch_of(stage, store) for stage in stages}
            networks = {stage: [epoch, store.checksum(epoch)] for stage, epoch in epochs.items()}
    record = {"run": run_config.defining_fields(config), "networks": networks}
    return json.dumps(record, sort_keys=True)


def load_stages(
    workdir: Path,
    config: ConfigDict,
    stages: Sequence[str],
    *,
    training: ImageTraining | None = None,
) -> dict[str, RunState]:
    """The networks of a run at several stages; `params` is `Variables`, the seed axis first.

    "trained" is the best network of each seed in the latest checkpoint, "last" its current one.

    Args:
      workdir: of the run, or a folder that cnnpool.pack made.
      config: of the run.
      stages: "init", "trained", "last" or epochs.
      training: of the config, where it is open already.

    Raises:
      CheckpointError: if a checkpoint is absent, damaged, or not of finished training where
        "trained" or "last" asks for it.
      PackedError: if a packed folder is damaged.
    """
    if packed.is_packed(workdir):
        _refuse_all_but_trained(workdir, stages)
        return dict.fromkeys(stages, packed.load(workdir, config))
    like = (training or open_training(config)).state_shapes()
    with _store(workdir) as store:
        epochs = {stage: stage_names.epoch_of(stage, store) for stage in stages}
        states = {
            epoch: store.restore(epoch, like, seeds=config.seeds) for epoch in set(epochs.values())
        }
    return {stage: _at_stage(states[epoch], stage) for stage, epoch in epochs.items()}


def _store(workdir: Path) -> CheckpointStore:
    return CheckpointStore(
        checkpoint_directory(workdir), read_only=True, progress_type=ImageProgress
    )


def _refuse_all_but_trained(folder: Path, stages: Sequence[str]) -> None:
    others = [stage for stage in stages if stage != stage_names.TRAINED]
    if others:
        raise CheckpointError(
            f"{folder} holds the best networks of a run alone: expected --stage="
            f"{stage_names.TRAINED}, got {', '.join(others)}; other stages are in the checkpoints "
            "of a run"
        )


def _at_stage(state: RunState, stage: str) -> RunState:
    if stage in (stage_names.TRAINED, stage_names.LAST):
        stage_names.refuse_unfinished(state.progress, state.epoch)
    chosen = state.params.best if stage == stage_names.TRAINED else state.params.current
    return dataclasses.replace(state, params=chosen)


def network_epochs(state: RunState, stage: str) -> list[int]:
    """The epoch after which each network of a stage was as it is."""
    if stage == stage_names.TRAINED:
        return [one.best_epoch for one in cast(Sequence[Any], state.progress)]
    return [state.epoch] * len(state.progress)


def evaluator(training: ImageTraining) -> Evaluator:
    """A function of stacked networks and their epochs: loss and error of each on the test images.

    Image noise, where the config has it, is what training tested that epoch with, so that the
    errors are the training's own; a network before its first epoch gets that epoch's.
    """

    def one(variables: Variables, keys: NetworkKeys, tested: jax.Array, test: TestSet):
        key = jax.random.fold_in(keys.test, tested)
        return training.recipe.evaluate(variables, key, test)

    run = training.compile(one, stacked=3, shared=1)

    def evaluate(variables: Variables, epochs: Sequence[int]) -> list[Evaluation]:
        tested = jnp.maximum(jnp.asarray(epochs, jnp.int32) - 1, 0)
        found = jax.device_get(run(variables, training.keys, tested, training.test))
        return [Evaluation(*row) for row in zip(*found, strict=True)]

    return evaluate


def measure_run(workdir: Path, *, config: ConfigDict, stages: Sequence[str]) -> xr.Dataset:
    """Test error and loss of every network of a run, as `cnnpool.results` lays it out.

    Args:
      workdir: of the run, or a folder that cnnpool.pack made.
      config: the run's, its `data.data_dir` possibly changed.
      stages: "init", "trained", "last" or epochs.

    Raises:
      CheckpointError: if a checkpoint is absent, damaged or not trained to the end.
      PackedError: if a packed folder is damaged.
      DataError: if the data is absent or damaged.
    """
    made_by = provenance.record()
    record = measurement_record(workdir, config, stages)
    trained_by = (workdir / "provenance.json").read_text()
    training = open_training(config)
    states = load_stages(workdir, config, stages, training=training)
    evaluate = evaluator(training)
    found = {
        stage: evaluate(state.params, network_epochs(state, stage))
        for stage, state in states.items()
    }
    attributes = {
        "schema_version": results.SCHEMA_VERSION,
        "config": run_config.to_json(run_config.with_data_dir(config, None)),
        "measurement": record,
        "trained_by": trained_by,
        "data_source": training.data.source,
    }
    return _dataset(config.seeds, states, found).assign_attrs(attributes | made_by)


def _dataset(
    seeds: Sequence[int], states: dict[str, RunState], found: dict[str, list[Evaluation]]
) -> xr.Dataset:
    def per_network(rows) -> tuple[tuple[str, ...], np.ndarray]:
        return ("stage", "seed"), np.array(rows, np.float64)  # None becomes NaN

    def of_progress(field: str):
        return per_network([[getattr(p, field) for p in s.progress] for s in states.values()])

    variables = {
        "test_error": per_network([[one.error for one in row] for row in found.values()]),
        "test_loss": per_network([[one.loss for one in row] for row in found.values()]),
        "best_epoch": of_progress("best_epoch"),
        "dead_epoch": of_progress("dead_epoch"),
        "epoch": ("stage", [state.epoch for state in states.values()]),
        "training_seconds": ("stage", [state.seconds for state in states.values()]),
    }
    coordinates = {"stage": list(states), "seed": list(seeds)}
    return xr.Dataset(variables, coordinates).transpose("seed", "stage")
