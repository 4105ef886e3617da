"""The programs of a training run, lowered from shapes without data."""

from collections.abc import Sequence

import jax
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding
from ml_collections import ConfigDict
import numpy as np

from cnnpool import data
from cnnpool.compiling.programs import Program
from cnnpool.devices import global_arrays, runtime
from cnnpool.runs import run_config
from cnnpool.training import classifier_setup, ring_setup
from cnnpool.training.groups import check_seeds

_CLASSIFIER = (
    "more devices per network (config.runtime.mesh.data), fewer networks at once "
    "(config.runtime.seeds_per_batch), a smaller config.training.batch_size or "
    "config.runtime.test_batch_size, or config.training.compute_dtype=bfloat16"
)
_RING = (
    "more devices, fewer networks at once (config.runtime.seeds_per_batch), or a smaller "
    "config.model.width"
)


def programs(config: ConfigDict, devices: Sequence[jax.Device]) -> list[Program]:
    """All programs of a run on devices that need not be present.

    Args:
      config: a complete config.
      devices: all devices of the run.

    Raises:
      ValueError: if the config cannot run on these devices.
      DataError: if the data is the user's own, and absent or damaged.
    """
    return (
        _of_ring(config, devices)
        if run_config.is_on_ring(config)
        else _of_classifiers(data.completed(config), devices)
    )


def _of_classifiers(config: ConfigDict, devices: Sequence[jax.Device]) -> list[Program]:
    training = classifier_setup.described(config, devices)
    state, keys = training.state_shapes(), training.keys
    return [
        Program(
            "initialization",
            "a call",
            lambda: training.init_program().lower(keys, training.train),
            _CLASSIFIER,
        ),
        Program(
            "training",
            "a step",
            lambda: training.steps_program().lower(state, keys, training.train, 0, 0, 1),
            _CLASSIFIER,
        ),
        Program(
            "evaluation",
            "all test images",
            lambda: training.finish_program().lower(state, keys, training.test, 0),
            _CLASSIFIER,
        ),
    ]


def _of_ring(config: ConfigDict, devices: Sequence[jax.Device]) -> list[Program]:
    check_seeds(config.seeds)
    net, shapes = ring_setup.network(config), global_arrays.placed_shapes
    mesh = runtime.seed_mesh(len(config.seeds), devices)
    params = net.stacked_shapes(len(config.seeds), mesh)
    sets = ring_setup.training_sets(config, net.data, mesh, place=shapes)
    active = shapes(np.ones(len(config.seeds), bool), runtime.over_seeds(mesh))
    images = shapes(net.data.images, NamedSharding(mesh, PartitionSpec()))
    block = ring_setup.sgd(config, net).program(
        mesh, seeds_per_batch=config.runtime.seeds_per_batch
    )
    seed = jax.ShapeDtypeStruct((), np.int32, sharding=SingleDeviceSharding(mesh.devices.flat[0]))
    return [
        Program("initialization", "a network", lambda: jax.jit(net.init).lower(seed), _RING),
        Program(
            "training",
            "an epoch",
            lambda: block.lower(params, sets, active, 0, 1, np.bool_(False)),
            _RING,
        ),
        Program(
            "evaluation",
            "all images",
            lambda: net.outputs_program(mesh).lower(params, images),
            _RING,
        ),
    ]
