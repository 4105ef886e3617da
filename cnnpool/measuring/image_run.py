"""Measurements of a run of deep networks, from its checkpoints or from a packed folder."""

from collections.abc import Callable, Sequence
import dataclasses
import json
import math
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import xarray as xr

from cnnpool.data.images import DataError
from cnnpool.devices import distributed, global_arrays, numerics
from cnnpool.files import results
from cnnpool.measuring import image_inputs, image_sensitivities, image_transforms
from cnnpool.measuring import stages as stage_names
from cnnpool.measuring.image_settings import Settings
from cnnpool.measuring.journal import Journal
from cnnpool.runs import provenance, run_config
from cnnpool.training import image_setup, packed
from cnnpool.training.checkpoints import (
    CheckpointError,
    CheckpointStore,
    RunState,
    checkpoint_directory,
)
from cnnpool.training.image_progress import ImageProgress
from cnnpool.training.image_setup import ImageTraining
from cnnpool.training.image_step import Evaluation, NetworkKeys, TestSet, Variables

VERSION = 2  # of what is measured: raised where the same settings give other numbers
Evaluator = Callable[[Variables, Sequence[int]], list[Evaluation]]


def open_training(config: ConfigDict, *, image_noise: bool = True) -> ImageTraining:
    """Data and recipe of a config, on the devices of this machine whatever trained it.

    Args:
      config: of a run.
      image_noise: whether images carry the noise of the training set, where it has some.

    Raises:
      DataError: if the data is absent or damaged.
      ValueError: if the config is impossible.
    """
    here = on_devices(config, jax.device_count() if distributed.is_joined() else None)
    if not image_noise and "image_noise" in here.data:
        here.data.image_noise = 0.0
    try:
        return image_setup.setup(here)
    except DataError as error:
        if "data_dir" not in config.data:
            raise
        raise DataError(
            f"{error}\nThe run's data.data_dir is {config.data.data_dir}; --data_dir names another "
            "folder for this command."
        ) from error


def on_devices(config: ConfigDict, shared: int | None) -> ConfigDict:
    """A copy of a run's config with the mesh that measures its networks.

    Args:
      config: of the run.
      shared: devices of several processes, all of which must be used; None of one process.
    """
    here = config.copy_and_resolve_references()
    here.runtime.mesh.seed, here.runtime.mesh.data = None, 1
    if shared is not None:
        here.runtime.mesh.seed = math.gcd(len(config.seeds), shared)
        here.runtime.mesh.data = shared // here.runtime.mesh.seed
        here.training.batch_size = here.runtime.mesh.data  # no step is made; the mesh checks it
    return here


def measurement_record(
    workdir: Path,
    config: ConfigDict,
    stages: Sequence[str],
    transforms: Sequence[str],
    settings: Settings,
) -> str:
    """What makes two measurements the same, as JSON: config, networks, transforms, settings.

    Raises:
      CheckpointError: if a stage is not there.
      PackedError: if a packed folder is damaged.
    """
    if packed.is_packed(workdir):
        _refuse_unpacked(workdir, stages)
        checksum = packed.networks_checksum(workdir)
        networks: dict[str, Any] = dict.fromkeys(stages, checksum)
    else:
        with _store(workdir) as store:
            epochs = stage_names.epochs_of(stages, store)
            networks = {stage: [epoch, store.checksum(epoch)] for stage, epoch in epochs.items()}
    record = {
        "version": VERSION,
        "run": run_config.defining_fields(config),
        "networks": networks,
        "transforms": list(transforms),
        "settings": settings.record(),
    }
    return json.dumps(numerics.recorded(record), sort_keys=True)


def load_stages(
    workdir: Path,
    config: ConfigDict,
    stages: Sequence[str],
    *,
    training: ImageTraining | None = None,
) -> dict[str, RunState]:
    """The networks of a run at several stages; `networks` is `Variables`, the seed axis first.

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
        _refuse_unpacked(workdir, stages)
        return {
            stage: packed.load(workdir, config)
            if stage == stage_names.TRAINED
            else _first_state(training or open_training(config))
            for stage in stages
        }
    like = (training or open_training(config)).state_shapes()
    with _store(workdir) as store:
        epochs = stage_names.epochs_of(stages, store)
        states = {
            epoch: store.restore(epoch, like, seeds=config.seeds) for epoch in set(epochs.values())
        }
    return {stage: _at_stage(states[epoch], stage) for stage, epoch in epochs.items()}


def _store(workdir: Path) -> CheckpointStore:
    return CheckpointStore(
        checkpoint_directory(workdir), read_only=True, progress_type=ImageProgress
    )


def _refuse_unpacked(folder: Path, stages: Sequence[str]) -> None:
    others = [s for s in stages if s not in (stage_names.INIT, stage_names.TRAINED)]
    if others:
        raise CheckpointError(
            f"{folder} holds the best networks of a run alone: expected --stage="
            f"{stage_names.TRAINED}, or {stage_names.INIT}, which is made anew from the seeds; got "
            f"{', '.join(others)}. Other stages are in the checkpoints of a run"
        )


def _first_state(training: ImageTraining) -> RunState:
    """The networks before their first step, which their seeds determine."""
    state = training.initial_state()
    return dataclasses.replace(state, networks=state.networks.current)


def _at_stage(state: RunState, stage: str) -> RunState:
    if stage in (stage_names.TRAINED, stage_names.LAST):
        stage_names.refuse_unfinished(state.progress, state.epoch)
    chosen = state.networks.best if stage == stage_names.TRAINED else state.networks.current
    return dataclasses.replace(state, networks=chosen)


def network_epochs(state: RunState, stage: str) -> list[int]:
    """The epoch after which each network of a stage was as it is."""
    if stage == stage_names.TRAINED:
        return [one.best_epoch for one in cast(Sequence[Any], state.progress)]
    return [state.epoch] * len(state.progress)


def network_dead_epochs(state: RunState, stage: str) -> list[int | None]:
    """The epoch since which each network of a stage says the same of every image, if it does."""
    return [
        one.dead_epoch if one.dead_epoch is not None and one.dead_epoch <= epoch else None
        for one, epoch in zip(
            cast(Sequence[Any], state.progress), network_epochs(state, stage), strict=True
        )
    ]


def evaluator(training: ImageTraining) -> Evaluator:
    """A function of stacked networks and their epochs: loss and error of each on the test images.

    Image noise, where the config has it, is what training tested that epoch with, so that the
    errors are the training's own; a network before its first epoch gets that epoch's.
    """
    run = evaluator_program(training)

    def evaluate(variables: Variables, epochs: Sequence[int]) -> list[Evaluation]:
        tested = np.maximum(np.asarray(epochs, np.int32) - 1, 0)
        found = global_arrays.fetch(run(variables, training.keys, tested, training.test))
        return [Evaluation(*row) for row in zip(*found, strict=True)]

    return evaluate


def evaluator_program(training: ImageTraining) -> Any:
    """(networks, keys, epochs of their tests, test images) -> `Evaluation` of each, jitted."""

    def one(variables: Variables, keys: NetworkKeys, tested: jax.Array, test: TestSet):
        key = jax.random.fold_in(keys.test, tested)
        return training.recipe.evaluate(variables, key, test)

    return training.compile(one, stacked=3, shared=1)


def measure_run(
    workdir: Path,
    config: ConfigDict,
    stages: Sequence[str],
    transforms: Sequence[str],
    settings: Settings,
    journal: Journal | None = None,
) -> xr.Dataset:
    """All that is measured of a run, as `cnnpool.files.results` lays it out.

    D, G, R of every unit of every network, filter spectra, pooling budget, test error and loss.

    Args:
      workdir: of the run, or a folder that cnnpool.pack made.
      config: the run's, its `data.data_dir` possibly changed.
      stages: "init", "trained", "last", epochs, or "all" for every epoch that is kept.
      transforms: names of `cnnpool.measuring.image_transforms`.
      settings: of the measurement.
      journal: keeps what is finished, where it is to outlive an interruption.

    Raises:
      ValueError: if a transform is unknown, or images or a diffeomorphism are impossible.
      CheckpointError: if a checkpoint is absent, damaged or not trained to the end.
      PackedError: if a packed folder is damaged.
      DataError: if the data is absent or damaged.
    """
    made_by = provenance.record()
    record = measurement_record(workdir, config, stages, transforms, settings)
    trained_by = (workdir / "provenance.json").read_text("utf-8")
    training = open_training(config, image_noise=settings.image_noise)
    refuse_other_data(workdir, training.data.source)
    image_inputs.check(training.data, settings)
    states = load_stages(workdir, config, stages, training=training)
    networks = by_seed(config.seeds, states)
    names = image_transforms.parse(",".join(transforms), networks[0].variables.params)
    evaluate = evaluator(training)
    found = {
        stage: evaluate(state.networks, network_epochs(state, stage))
        for stage, state in states.items()
    }
    attributes = {
        "schema_version": results.SCHEMA_VERSION,
        "config": run_config.to_json(run_config.with_data_dir(config, None)),
        "measurement": record,
        "trained_by": trained_by,
        "data_source": training.data.source,
    }
    arrays = image_sensitivities.measure(
        training.recipe.model, training.data, networks, names, settings, journal=journal
    )
    errors = _errors(config.seeds, states, found)
    return errors.assign(arrays).set_coords("depth").assign_attrs(attributes | made_by)


def refuse_other_data(workdir: Path, source: str) -> None:
    """Raises ConfigMismatchError if the networks were trained on other data."""
    if packed.is_packed(workdir):
        packed.refuse_other_data(workdir, source)
    else:
        run_config.refuse_other_data(workdir, source)


def by_seed(seeds: Sequence[int], states: dict[str, RunState]) -> list[image_sensitivities.Network]:
    """All networks one by one, seed by seed."""
    held = {stage: global_arrays.fetch(state.networks) for stage, state in states.items()}
    return [
        image_sensitivities.Network(
            seed,
            stage,
            untrained=states[stage].epoch == 0,
            variables=jax.tree.map(lambda leaf, row=row: jnp.asarray(leaf[row]), held[stage]),
        )
        for row, seed in enumerate(seeds)
        for stage in states
    ]


def _errors(
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
        "dead_epoch": per_network(
            [network_dead_epochs(state, stage) for stage, state in states.items()]
        ),
        "epoch": ("stage", [state.epoch for state in states.values()]),
        "training_seconds": ("stage", [state.seconds for state in states.values()]),
    }
    coordinates = {"stage": list(states), "seed": list(seeds)}
    return xr.Dataset(variables, coordinates).transpose("seed", "stage")
