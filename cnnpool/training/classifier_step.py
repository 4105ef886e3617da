"""Training steps and evaluations of classifiers, several networks in one program."""

from collections.abc import Callable
import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
from jax import Array, lax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Bool, Float, Int, Key
import optax

from cnnpool.data.images import Split
from cnnpool.devices import runtime
from cnnpool.training.groups import NO_STEP, over_groups
from cnnpool.training.losses import Loss
from cnnpool.training.variables import Params, Variables


class TrainState(NamedTuple):
    """One network in training.

    Attributes:
      current: the network after the latest step.
      optimizer: state of the optimizer.
      best: the network with the smallest test error after any epoch so far.
      best_error: test error of `best`; infinite before the first epoch.
    """

    current: Variables
    optimizer: Any
    best: Variables
    best_error: Float[Array, ""]


class NetworkKeys(NamedTuple):
    """The independent randomness of one network."""

    init: Key[Array, "..."]
    order: Key[Array, "..."]
    view: Key[Array, "..."]
    dropout: Key[Array, "..."]
    test: Key[Array, "..."]


def network_keys(seed: int) -> NetworkKeys:
    """Keys for initialization, order of images, their views, dropout, and noise in test images."""
    return NetworkKeys(*jax.random.split(jax.random.key(seed), len(NetworkKeys._fields)))


class StepMetrics(NamedTuple):
    """Sums over the steps of a call.

    Attributes:
      loss: sum over steps of the mean training loss before the update.
      error: sum over steps of the fraction of misclassified images.
      first_bad_step: the epoch's first step with a loss that is not finite; or `NO_STEP`.
    """

    loss: Float[Array, "..."]
    error: Float[Array, "..."]
    first_bad_step: Int[Array, "..."]


class Evaluation(NamedTuple):
    """The evaluation of a network on the test images.

    Attributes:
      loss: mean loss.
      error: fraction of misclassified images.
      dead: whether the network's output is the same for every image.
    """

    loss: Float[Array, "..."]
    error: Float[Array, "..."]
    dead: Bool[Array, "..."]


class TestSet(NamedTuple):
    """Test images in chunks of equal size; the last one is filled up with weight 0."""

    images: Array
    labels: Int[Array, "chunks size"]
    weights: Float[Array, "chunks size"]

    @classmethod
    def of(cls, split: Split, *, chunk: int, devices: int = 1) -> "TestSet":
        """Chunks of at most `chunk` images, or a few more so that `devices` divides them."""
        count = len(split.labels)
        size = -(-min(chunk, count) // devices) * devices
        missing = -count % size

        def fill(array):
            padded = jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
            return padded.reshape(-1, size, *array.shape[1:])

        return cls(fill(split.images), fill(split.labels), fill(jnp.ones(count)))


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """How one network is trained.

    Attributes:
      model: images -> (outputs, activations), a Flax module with the argument `train`.
      augment: (key, stored images) -> images to train on.
      normalize: (key, stored images) -> images to test on.
      loss: the loss of each image.
      optimizer: optimizer of the parameters.
      batch_size: images per step.
      compute_dtype: dtype of the network's arithmetic; parameters and statistics stay float32.
      batch_sharding: sharding of a batch over the devices of one network.
    """

    model: Any
    augment: Callable[[Array, Array], Array]
    normalize: Callable[[Array, Array], Array]
    loss: Loss
    optimizer: optax.GradientTransformation
    batch_size: int
    compute_dtype: Any
    batch_sharding: PartitionSpec | None = None

    def init(self, key: Key[Array, ""], images: Array) -> TrainState:
        """A network before its first step; only the shape of `images` matters."""
        view = self.normalize(key, images[:1])
        variables = self.model.init(key, view, train=False)
        current = Variables.of(variables)
        optimizer = self.optimizer.init(current.params)
        # A weakly typed infinity would make every program compile again after the first epoch.
        worst = jnp.full((), jnp.inf, jnp.result_type(float))
        return TrainState(current, optimizer, current, worst)

    def outputs(self, variables: Variables, images: Array) -> Array:
        """Outputs in inference mode."""
        return self._apply(variables.params, variables.batch_stats, images, train=False)[0]

    def _apply(self, params, batch_stats, images, *, train, dropout=None):
        cast = partial(jax.tree.map, lambda a: a.astype(self.compute_dtype))
        (outputs, _), updated = self.model.apply(
            {"params": cast(params), "batch_stats": batch_stats},
            cast(images),
            train=train,
            rngs={} if dropout is None else {"dropout": dropout},
            mutable=["batch_stats"] if train else [],
        )
        return outputs.astype(jnp.result_type(float)), updated.get("batch_stats", batch_stats)

    def gradient(
        self, variables: Variables, images: Array, labels: Array, dropout: Key[Array, ""] | None
    ) -> tuple[Params, Params, Array, Array]:
        """Gradient of the mean loss, updated batch statistics, loss and error of a batch."""

        def mean_loss(params):
            outputs, stats = self._apply(
                params, variables.batch_stats, images, train=True, dropout=dropout
            )
            loss = self.loss.values(outputs, labels).mean()
            return loss, (stats, self.loss.wrong(outputs, labels).mean())

        (loss, (stats, error)), gradient = jax.value_and_grad(mean_loss, has_aux=True)(
            variables.params
        )
        return gradient, stats, loss, error

    def step(
        self, state: TrainState, images: Array, labels: Array, dropout: Key[Array, ""] | None
    ) -> tuple[TrainState, Array, Array]:
        """One step on views of images; also returns its loss and error."""
        gradient, stats, loss, error = self.gradient(state.current, images, labels, dropout)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.current.params)
        params = optax.apply_updates(state.current.params, updates)
        return state._replace(current=Variables(params, stats), optimizer=optimizer), loss, error

    def steps(
        self,
        state: TrainState,
        keys: NetworkKeys,
        train: Split,
        epoch: Int[Array, ""],
        start: Int[Array, ""],
        stop: Int[Array, ""],
    ) -> tuple[TrainState, StepMetrics]:
        """Steps start..stop-1 of an epoch, whose images are reshuffled.

        Images that do not fill a last batch are not used in that epoch.
        """
        order = jax.random.permutation(jax.random.fold_in(keys.order, epoch), len(train.labels))

        def body(index, carry):
            state, total = carry
            batch = lax.dynamic_slice(order, (index * self.batch_size,), (self.batch_size,))
            number = epoch * (len(train.labels) // self.batch_size) + index
            view_key = jax.random.fold_in(keys.view, number)
            images = lax.optimization_barrier(self.augment(view_key, train.images[batch]))
            images, labels = self._spread((images, train.labels[batch]))
            dropout = jax.random.fold_in(keys.dropout, number)
            state, loss, error = self.step(state, images, labels, dropout)
            bad = jnp.where(jnp.isfinite(loss), NO_STEP, index).astype(jnp.int32)
            return state, StepMetrics(
                total.loss + loss, total.error + error, jnp.minimum(total.first_bad_step, bad)
            )

        nothing = StepMetrics(jnp.zeros(()), jnp.zeros(()), jnp.asarray(NO_STEP, jnp.int32))
        return lax.fori_loop(start, stop, body, (state, nothing))

    def _spread(self, batch: Any) -> Any:
        """Shards a batch over the devices of one network."""
        if self.batch_sharding is None:
            return batch
        return lax.with_sharding_constraint(batch, self.batch_sharding)

    def evaluate(self, variables: Variables, key: Key[Array, ""], test: TestSet) -> Evaluation:
        """Loss and error over all test images."""

        def one(chunk):
            number, *spread = chunk
            images, labels, weights = self._spread(spread)
            view = self._spread(self.normalize(jax.random.fold_in(key, number), images))
            outputs = self.outputs(variables, view)
            counted = weights[:, None] > 0
            return (
                (self.loss.values(outputs, labels) * weights).sum(),
                (self.loss.wrong(outputs, labels) * weights).sum(),
                jnp.where(counted, outputs, -jnp.inf).max(0),
                jnp.where(counted, outputs, jnp.inf).min(0),
            )

        loss, wrong, largest, smallest = lax.map(one, (jnp.arange(len(test.labels)), *test))
        count = test.weights.sum()
        dead = (largest.max(0) == smallest.min(0)).all()
        return Evaluation(loss.sum() / count, wrong.sum() / count, dead)

    def finish_epoch(
        self, state: TrainState, keys: NetworkKeys, test: TestSet, epoch: Int[Array, ""]
    ) -> tuple[TrainState, Evaluation]:
        """Evaluates the network, and keeps it if it is the best so far."""
        evaluation = self.evaluate(state.current, jax.random.fold_in(keys.test, epoch), test)
        better = evaluation.error < state.best_error
        best = jax.tree.map(partial(jnp.where, better), state.current, state.best)
        error = jnp.where(better, evaluation.error, state.best_error)
        return state._replace(best=best, best_error=error), evaluation


def over_networks(
    function: Callable, mesh: Mesh, *, stacked: int, shared: int, seeds_per_batch: int
) -> Callable:
    """Jits a function of one network for many, as `over_groups`, each group vectorized.

    Args:
      function: (*arguments of one network, *shared) -> pytree of one network.
      mesh: a mesh with axes `seed` and `data`; the latter is left to the compiler.
      stacked: number of leading arguments whose first axis is the seed.
      shared: number of the other arguments.
      seeds_per_batch: most networks vectorized together; a divisor of all is chosen.
    """
    return over_groups(
        lambda *arguments: jax.vmap(lambda one: function(*one, *arguments[stacked:]))(
            arguments[:stacked]
        ),
        mesh,
        stacked=stacked,
        shared=shared,
        seeds_per_batch=seeds_per_batch,
        options=runtime.with_barriers(runtime.platform_of(mesh)),
    )
