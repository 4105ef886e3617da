"""Measurements of a whole run: seeds x stages x transforms, as one labelled dataset."""

from collections.abc import Sequence
import itertools
import json
from pathlib import Path
import sys
import textwrap
import warnings

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
from tqdm import tqdm
import xarray as xr

from cnnpool.devices import distributed, numerics, runtime
from cnnpool.files import results
from cnnpool.instruments import diffusion
from cnnpool.measuring import network as measuring
from cnnpool.measuring import stages as stage_names
from cnnpool.measuring.transforms import TRANSFORMS
from cnnpool.runs import provenance, run_config
from cnnpool.training import setup
from cnnpool.training.checkpoints import CheckpointStore, RunState, checkpoint_directory


def measurement_record(
    workdir: Path, config: ConfigDict, stages: Sequence[str], transforms: Sequence[str]
) -> str:
    """What makes two measurements the same, as JSON: config, networks, transforms.

    Raises:
      CheckpointError: if a stage's checkpoint is absent.
    """
    with CheckpointStore(checkpoint_directory(workdir), read_only=True) as store:
        epochs = stage_names.epochs_of(stages, store)
        networks = {stage: [epoch, store.checksum(epoch)] for stage, epoch in epochs.items()}
    record = {
        "run": run_config.defining_fields(config),
        "measurement": config.measurement.to_dict(),
        "networks": networks,
        "transforms": list(transforms),
    }
    return json.dumps(numerics.recorded(record), sort_keys=True)


def load_stages(workdir: Path, config: ConfigDict, stages: Sequence[str]) -> dict[str, RunState]:
    """The networks of a run at several stages.

    Raises:
      CheckpointError: if a checkpoint is absent, damaged, or "trained" is not finished.
    """
    net = setup.network(config)
    # Of several processes each has and measures all of them: a matter of seconds.
    mesh = runtime.seed_mesh(len(config.seeds), jax.local_devices())
    like = net.stacked_shapes(len(config.seeds), mesh)
    with CheckpointStore(checkpoint_directory(workdir), read_only=True) as store:
        states = {
            stage: store.restore(epoch, like, seeds=config.seeds)
            for stage, epoch in stage_names.epochs_of(stages, store).items()
        }
    for stage in {stage_names.TRAINED, stage_names.LAST} & states.keys():
        stage_names.refuse_unfinished(states[stage].progress, states[stage].epoch)
    return states


def measure_run(
    workdir: Path, *, config: ConfigDict, stages: Sequence[str], transforms: Sequence[str]
) -> xr.Dataset:
    """D, G, R of every layer of every network of a run, as `cnnpool.files.results` lays it out.

    Args:
      workdir: of the run.
      config: the run's, its `measurement` section possibly changed.
      stages: "init", "trained" (or "last", the same network) or epochs.
      transforms: names from `cnnpool.measuring.transforms`.

    Raises:
      CheckpointError: if a checkpoint is absent, damaged or not trained to the end.
    """
    made_by = provenance.record()  # before the checkout may change under a long measurement
    record = measurement_record(workdir, config, stages, transforms)
    trained_by = (workdir / "provenance.json").read_text("utf-8")
    net = setup.network(config)
    states = load_stages(workdir, config, stages)
    images = measuring.inputs(config, net)
    is_training = setup.is_training_image(config, net.data)
    params = {stage: jax.device_get(state.networks) for stage, state in states.items()}
    cells = list(itertools.product(enumerate(config.seeds), states, transforms))
    measured = {}
    bar = tqdm(
        cells,
        desc="measuring",
        unit="network",
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
        disable=not distributed.is_first(),
    )
    for (row, seed), stage, transform in bar:
        one = _network_at(row, params[stage])
        key = jax.random.fold_in(measuring.measurement_keys(config).transform, seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            measured[seed, stage, transform] = measuring.measure(
                config, net, one, TRANSFORMS[transform], key, images, ~is_training[row]
            )
        for warning in caught:
            text = f"seed {seed}, {stage}, {transform}: {warning.message}"
            if distributed.is_first():
                bar.write(textwrap.shorten(text, 160, placeholder=" ..."), file=sys.stderr)
    dataset = _dataset(config, net, states, transforms, measured)
    return dataset.assign_attrs(measurement=record, trained_by=trained_by, **made_by)


def _network_at(row: int, stacked: dict) -> dict:
    """The parameters of one network, out of those of all seeds."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[row]), stacked)


def _dataset(config, net, states, transforms, measured) -> xr.Dataset:
    first = next(iter(measured.values()))
    layers = list(first.sensitivities)
    depths = [measuring.depth_of(layer) for layer in layers]
    coordinates = {
        "seed": list(config.seeds),
        "stage": list(states),
        "transform": list(transforms),
        "layer": layers,
        "depth": ("layer", np.array([d or np.nan for d in depths])),
        "tap": np.arange(config.model.filter_size),
    }

    def gather(value, *inner: str) -> tuple[tuple[str, ...], np.ndarray]:
        cells = [
            [[value(measured[seed, stage, name]) for name in transforms] for stage in states]
            for seed in config.seeds
        ]
        return ("seed", "stage", "transform", *inner), np.array(cells, np.float64)

    def by_layer(name: str):
        return gather(
            lambda m: [getattr(m.sensitivities[layer], name) for layer in layers], "layer"
        )

    no_filter = np.full(config.model.filter_size, np.nan)
    variables = {name: by_layer(name) for name in results.SENSITIVITIES}
    variables["A"] = gather(lambda m: [m.sizes[layer] for layer in layers], "layer")
    variables["mean_filter"] = gather(
        lambda m: [m.filters.get(layer, no_filter) for layer in layers], "layer", "tap"
    )
    variables["test_error"] = gather(lambda m: m.test_error)
    variables |= _theory(config, net, depths) | _training(states)
    attributes = {
        "schema_version": results.SCHEMA_VERSION,
        "config": run_config.to_json(config),
    }
    return xr.Dataset(variables, coordinates, attributes)


def _theory(
    config: ConfigDict, net: setup.Network, depths: Sequence[int | None]
) -> dict[str, tuple]:
    """A_k, and D_k and G_k of constant positive filters, on the layers that have a depth."""
    model, data = config.model, net.data
    matrices = diffusion.layer_matrices(
        data.length, depth=model.depth, filter_size=model.filter_size, stride=model.stride
    )
    prediction = diffusion.predicted_sensitivities(
        matrices, np.asarray(data.images[..., 0]), np.asarray(data.every_move()[..., 0])
    )
    sizes = [
        diffusion.receptive_field_size(k + 1, model.filter_size, model.stride)
        for k in range(model.depth)
    ]
    predicted = {"A_theory": np.array(sizes), "D_theory": prediction.D, "G_theory": prediction.G}
    return {
        name: ("layer", np.array([values[d - 1] if d else np.nan for d in depths]))
        for name, values in predicted.items()
    }


def _training(states: dict[str, RunState]) -> dict[str, tuple]:
    """Epochs of interpolation and stop, as far as each stage's checkpoint knows them."""

    def per_seed(field: str):
        rows = [[getattr(seed, field) for seed in state.progress] for state in states.values()]
        return ("stage", "seed"), np.array(rows, np.float64)  # None becomes NaN

    return {
        "interpolation_epoch": per_seed("interpolation_epoch"),
        "stopped_epoch": per_seed("stopped_epoch"),
        "epoch": ("stage", [state.epoch for state in states.values()]),
        "training_seconds": ("stage", [state.seconds for state in states.values()]),
    }
