"""Builds what a config of the ring describes: data, network, step and first state."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, NamedTuple

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict
import numpy as np

from cnnpool import data as data_sets
from cnnpool import models
from cnnpool.data.scale1d import Scale1D, balanced_split, ring_distance
from cnnpool.devices import global_arrays, runtime
from cnnpool.training.checkpoints import RunState
from cnnpool.training.groups import stacked_shapes
from cnnpool.training.hinge import Params, ridge_shrinkage
from cnnpool.training.ring_step import SGD, TrainingSet
from cnnpool.training.stopping import RingProgress


class SeedKeys(NamedTuple):
    """The independent randomness of one network."""

    init: Array
    split: Array
    order: Array


def seed_keys(seed: int | Int[Array, ""]) -> SeedKeys:
    """Keys for initialization, choice of the training set and order of the batches."""
    return SeedKeys(*jax.random.split(jax.random.key(seed), 3))


@dataclasses.dataclass(frozen=True, eq=False)
class RingNetwork:
    """The networks of the ring, as one model, and their images.

    Attributes:
      data: all images.
      model: the Flax module, images -> (output, activations).
    """

    data: Scale1D
    model: nn.Module

    def init(self, seed: int | Int[Array, ""]) -> Params:
        """The parameters of one network before training."""
        return self.model.init(seed_keys(seed).init, self.data.images[:1])["params"]

    def apply(self, params: Params, images: Array) -> tuple[Array, dict[str, Array]]:
        """Output and named activations."""
        applied: Any = self.model.apply({"params": params}, images)
        return applied

    def output(self, params: Params, images: Array) -> Float[Array, " images"]:
        """The network's output f(x)."""
        return self.apply(params, images)[0]

    def outputs_program(self, mesh: Mesh) -> Any:
        """(stacked params, images) -> outputs of all networks for all images, jitted."""
        by_seed = PartitionSpec(runtime.SEED_AXIS)
        return jax.jit(
            jax.shard_map(
                lambda params, images: jax.lax.map(lambda p: self.output(p, images), params),
                mesh=mesh,
                in_specs=(by_seed, PartitionSpec()),
                out_specs=by_seed,
                check_vma=False,
            )
        )

    def stacked_shapes(self, n_seeds: int, mesh: Mesh) -> Params:
        """Shapes, types and shardings of the parameters of `n_seeds` networks."""
        return stacked_shapes(jax.eval_shape(self.init, 0), n_seeds, mesh)


def network(config: ConfigDict) -> RingNetwork:
    """The network and data set of a config.

    Raises:
      ValueError: if their fields are impossible.
    """
    if config.model.name != "simple_cnn":
        raise ValueError(
            f"the ring of data.name {config.data.name!r} is for model.name 'simple_cnn', got "
            f"{config.model.name!r}; classifiers of pictures take configs/cifar10.py or "
            "configs/scale2d.py"
        )
    data = data_sets.build(config.data)
    if not isinstance(data, Scale1D):
        raise ValueError(
            f"the simple CNN of Figure 4 trains on data.name 'scale1d', got {config.data.name!r}"
        )
    return RingNetwork(data, models.build(config.model))


def initial_state(net: RingNetwork, seeds: Sequence[int], mesh: Mesh) -> RunState:
    """All networks before the first epoch."""
    init = jax.jit(net.init)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[init(seed) for seed in seeds])
    params = global_arrays.place(stacked, runtime.over_seeds(mesh))
    return RunState(0, params, tuple(RingProgress(seed) for seed in seeds), seconds=0.0)


def is_training_image(config: ConfigDict, data: Scale1D) -> Bool[np.ndarray, "seeds images"]:
    """The images that each network trains on; the others are for validation."""
    mask = np.zeros((len(config.seeds), len(data.labels)), bool)
    for row, seed in zip(mask, config.seeds, strict=True):
        row[balanced_split(seed_keys(seed).split, data.labels, config.data.train_size)[0]] = True
    return mask


def training_sets(
    config: ConfigDict,
    data: Scale1D,
    mesh: Mesh,
    *,
    place: Callable[[Any, NamedSharding], Any] = global_arrays.place,
) -> TrainingSet:
    """The training images of every network.

    Args:
      config: complete.
      data: the ring.
      mesh: with the axis `seed`.
      place: on its devices.

    Raises:
      ValueError: if the batch size does not divide the number of training images.
    """
    size, batch = config.data.train_size, config.training.batch_size
    if batch < 1 or size % batch:
        raise ValueError(f"training.batch_size {batch} must divide data.train_size {size}")
    chosen = [np.flatnonzero(row) for row in is_training_image(config, data)]
    images, labels = data.images, data.labels.astype(np.float32)
    representatives = [_representatives(config, data, index) for index in chosen]
    most = max(map(len, representatives))
    sets = TrainingSet(
        jnp.stack([images[index] for index in chosen]),
        jnp.stack([labels[index] for index in chosen]),
        jnp.stack([jnp.asarray(np.resize(some, most)) for some in representatives]),
        jnp.stack([seed_keys(seed).order for seed in config.seeds]),
    )
    return place(sets, runtime.over_seeds(mesh))


def _representatives(config: ConfigDict, data: Scale1D, chosen: np.ndarray) -> np.ndarray:
    """Indices into `chosen` of images that stand for all others, see `TrainingSet`.

    With stride 1, the output is the same, up to rounding, for all translations of an image, which
    are the images of the same distance between active pixels.
    """
    if config.model.stride > 1:
        return np.arange(len(chosen))
    kinds = np.stack([ring_distance(data.pairs, data.length), data.labels], axis=1)[chosen]
    return np.unique(kinds, axis=0, return_index=True)[1]


def sgd(config: ConfigDict, net: RingNetwork) -> SGD:
    """The training step of a config."""
    width, depth = config.model.width, config.model.depth
    learning_rate = config.training.learning_rate_per_channel * width
    shrinkage = ridge_shrinkage(
        jax.eval_shape(net.init, 0),
        ridge=config.training.ridge,
        width=width,
        depth=depth,
        learning_rate=learning_rate,
    )
    return SGD(
        net.output,
        shrinkage,
        learning_rate,
        config.training.batch_size,
        config.training.skip_zero_gradients,
    )
