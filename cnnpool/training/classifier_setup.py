"""Builds what the config of a classifier describes: data, recipe, mesh and first state."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from cnnpool import data as data_sets
from cnnpool import models
from cnnpool.data.images import ImageData, Split
from cnnpool.data.scale1d import Scale1D
from cnnpool.devices import global_arrays, runtime
from cnnpool.training import optimizer
from cnnpool.training.checkpoints import RunState
from cnnpool.training.classifier_progress import ClassifierProgress
from cnnpool.training.classifier_step import (
    NetworkKeys,
    Recipe,
    TestSet,
    TrainState,
    network_keys,
    over_networks,
)
from cnnpool.training.groups import check_seeds, stacked_shapes
from cnnpool.training.losses import LOSSES

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True, eq=False)
class ClassifierTraining:
    """Everything needed to train and evaluate the networks of a config.

    Attributes:
      config: the complete config.
      data: the data set.
      recipe: how one network is trained.
      mesh: a mesh with axes `seed` and `data`.
      keys: randomness of every network, the seed axis first.
      train: the training images, on all devices.
      test: the test images in chunks, each chunk over the devices of a network.
    """

    config: ConfigDict
    data: ImageData
    recipe: Recipe
    mesh: Mesh
    keys: NetworkKeys
    train: Split
    test: TestSet

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches of the training images."""
        return steps_per_epoch(self.config, self.data)

    def compile(self, function: Callable, *, stacked: int, shared: int) -> Callable:
        """A function of one network, jitted for all networks of the run."""
        return over_networks(
            function,
            self.mesh,
            stacked=stacked,
            shared=shared,
            seeds_per_batch=self.config.runtime.seeds_per_batch,
        )

    def init_program(self) -> Any:
        """(keys, train) -> state of all networks, jitted."""
        return self.compile(
            lambda keys, train: self.recipe.init(keys.init, train.images), stacked=1, shared=1
        )

    def steps_program(self) -> Any:
        """`classifier_step.Recipe.steps` of all networks, jitted."""
        return self.compile(self.recipe.steps, stacked=2, shared=4)

    def finish_program(self) -> Any:
        """`classifier_step.Recipe.finish_epoch` of all networks, jitted."""
        return self.compile(self.recipe.finish_epoch, stacked=2, shared=2)

    def initial_state(self) -> RunState:
        """All networks before the first epoch."""
        progress = tuple(ClassifierProgress(seed) for seed in self.config.seeds)
        networks = self.init_program()(self.keys, self.train)
        return RunState(0, networks, progress, seconds=0.0)

    def state_shapes(self) -> TrainState:
        """Shapes, types and shardings of the state of all networks."""
        images = jax.ShapeDtypeStruct(self.train.images.shape, self.train.images.dtype)
        one = jax.eval_shape(self.recipe.init, jax.random.key(0), images)
        return stacked_shapes(one, len(self.config.seeds), self.mesh)


def image_data(
    config: ConfigDict, build: Callable[[ConfigDict], Any] = data_sets.build
) -> ImageData:
    """The data set of a config.

    Args:
      config: complete.
      build: of its section `data`.

    Raises:
      ValueError: if it is impossible, or not a data set of images.
      DataError: if it is missing or damaged.
    """
    data = build(config.data)
    if isinstance(data, Scale1D):
        raise ValueError(
            f"the network {config.model.name!r} needs two-dimensional images, got data.name "
            f"{config.data.name!r}; take model.name 'simple_cnn' for it"
        )
    return data


def steps_per_epoch(config: ConfigDict, data: ImageData) -> int:
    """The number of whole batches of the training images.

    Raises:
      ValueError: if there is none.
    """
    batch, images = config.training.batch_size, len(data.train.labels)
    if not 1 <= batch <= images:
        raise ValueError(
            f"training.batch_size {batch} must be at least 1 and at most the number of training "
            f"images, {images}"
        )
    return images // batch


def check_outputs(config: ConfigDict, data: ImageData) -> None:
    """Raises ValueError if loss, number of outputs and labels do not match."""
    loss = config.training.loss
    if loss not in LOSSES:
        raise ValueError(f"training.loss is {loss!r}; expected one of {sorted(LOSSES)}")
    if LOSSES[loss].needs_classes != (data.classes is not None):
        fitting = "cross_entropy" if data.classes is not None else "hinge"
        raise ValueError(
            f"training.loss {loss!r} does not fit the labels of {config.data.name}; "
            f"take {fitting!r}"
        )
    expected = data.classes or 1
    if config.model.outputs != expected:
        raise ValueError(
            f"model.outputs must be {expected} for the labels of {config.data.name}, got "
            f"{config.model.outputs}"
        )


def setup(config: ConfigDict, *, n_devices: int | None = None) -> ClassifierTraining:
    """Builds everything that the config of a classifier describes.

    Args:
      config: a complete config, as made by the files in `configs/`.
      n_devices: most devices to use; None: all.

    Raises:
      ValueError: if fields are impossible or do not match.
      DataError: if the data is missing or damaged.
    """
    return _setup(config, data_sets.build, jax.devices()[:n_devices], global_arrays.place)


def described(config: ConfigDict, devices: Sequence[jax.Device]) -> ClassifierTraining:
    """What `setup` would return on these devices, with shapes in place of all arrays.

    Its programs can be lowered and compiled, not run; the devices need not be there.

    Raises:
      ValueError: if fields are impossible or do not fit one another.
      DataError: if the data is a user's own, and absent or damaged.
    """
    return _setup(config, data_sets.described, devices, global_arrays.placed_shapes)


def _setup(
    config: ConfigDict,
    build: Callable[[ConfigDict], Any],
    devices: Sequence[jax.Device],
    place: Callable[[Any, NamedSharding], Any],
) -> ClassifierTraining:
    check_seeds(config.seeds)
    training = config.training
    _check_numbers(config)
    if config.model.name == "simple_cnn":
        raise ValueError(
            f"the network 'simple_cnn' trains on the ring of data.name 'scale1d', got "
            f"{config.data.name!r}; take configs/scale1d.py, or another network"
        )
    model = models.build(config.model)
    data = image_data(config, build)
    check_outputs(config, data)
    steps = steps_per_epoch(config, data)
    mesh = runtime.network_mesh(
        len(config.seeds),
        seed=config.runtime.mesh.seed,
        data=config.runtime.mesh.data,
        batch_size=training.batch_size,
        devices=devices,
    )
    shares = config.runtime.mesh.data
    shared_batch = PartitionSpec(runtime.DATA_AXIS) if shares > 1 else None
    recipe = Recipe(
        model=model,
        augment=data.augment,
        normalize=data.normalize,
        loss=LOSSES[training.loss],
        optimizer=optimizer.build(training, steps_per_epoch=steps),
        batch_size=training.batch_size,
        compute_dtype=DTYPES[training.compute_dtype],
        batch_sharding=shared_batch,
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    in_chunks = NamedSharding(mesh, PartitionSpec(None, runtime.DATA_AXIS))
    in_chunks_of = functools.partial(
        TestSet.of, chunk=config.runtime.test_batch_size, devices=shares
    )
    there = isinstance(data.test.labels, jax.Array)
    test = in_chunks_of(data.test) if there else jax.eval_shape(in_chunks_of, data.test)
    keys = jax.tree.map(lambda *k: jnp.stack(k), *[network_keys(seed) for seed in config.seeds])
    made = ClassifierTraining(
        config,
        data,
        recipe,
        mesh,
        place(keys, runtime.over_seeds(mesh)),
        place(data.train, everywhere),
        place(test, in_chunks),
    )
    made.state_shapes()  # so that a network rejects impossible images before a run begins
    return made


def _check_numbers(config: ConfigDict) -> None:
    positive = {
        "training.epochs": config.training.epochs,
        "runtime.test_batch_size": config.runtime.test_batch_size,
        "runtime.steps_per_call": config.runtime.steps_per_call,
    }
    for field, value in positive.items():
        if value < 1:
            raise ValueError(f"{field} must be at least 1, got {value}")
    if config.training.compute_dtype not in DTYPES:
        raise ValueError(
            f"training.compute_dtype is {config.training.compute_dtype!r}; expected one of "
            f"{sorted(DTYPES)}"
        )
