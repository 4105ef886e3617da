"""Blocks of SGD epochs on the hinge loss, several networks in one compiled program.

After interpolation most batches have a hinge loss of exactly 0. Its gradient is
then exactly 0 too, and the backward pass is skipped. This leaves the
parameters unchanged, bit for bit: a step is p <- shrink * p - lr * g, which for g = 0
rounds like shrink * p, with or without fused multiply-adds.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
from jax import Array, lax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int, Key

from cnnpool.training.groups import NO_STEP, over_groups
from cnnpool.training.hinge import Params, hinge, hinge_slope


class TrainingSet(NamedTuple):
    """The training images of several networks, and the key that orders them.

    Attributes:
      images: training images of each network.
      labels: +1 or -1.
      key: order of the batches; the epoch is folded in.
    """

    images: Float[Array, "seeds images *shape"]
    labels: Float[Array, "seeds images"]
    key: Key[Array, " seeds"]


class BlockMetrics(NamedTuple):
    """Metrics of each network over a block of epochs.

    Attributes:
      hinge: mean hinge loss over the block's steps, each before its update.
      backward_fraction: fraction of the steps with a backward pass.
      first_bad_step: first step in the block with a loss that is not finite, or `NO_STEP`.
      finite: whether all parameters are finite after the block, as no loss covers its last step.
    """

    hinge: Float[Array, " seeds"]
    backward_fraction: Float[Array, " seeds"]
    first_bad_step: Int[Array, " seeds"]
    finite: Bool[Array, " seeds"]


@dataclasses.dataclass(frozen=True)
class SGD:
    """Plain stochastic gradient descent on hinge loss and ridge.

    Attributes:
      output: (params of one network, images) -> its outputs, (images,).
      shrinkage: pytree of floats, the ridge's factor on each parameter per step.
      learning_rate: lr.
      batch_size: images per step; divides the number of training images.
      skip_zero_gradients: leave out backward passes whose result is exactly 0.
    """

    output: Callable[[Params, Array], Array]
    shrinkage: Params
    learning_rate: float
    batch_size: int
    skip_zero_gradients: bool = True

    def step(
        self,
        params: Params,
        images: Array,
        labels: Array,
        active: Bool[Array, " seeds"],
        skip: Bool[Array, ""],
    ) -> tuple[Params, tuple[Array, Array]]:
        """One step of each active network of a stack; the others do not change.

        The condition asks whether any network of the stack has a gradient, because
        `vmap` of a `lax.cond` would compute both branches for all. Whether to skip is an
        argument of the compiled program, not a constant in it: outside a condition, XLA might
        fuse, and so round, a backward pass differently.
        """
        outputs, pullback = jax.vjp(lambda p: jax.vmap(self.output)(p, images), params)
        margins = labels * outputs
        slope = hinge_slope(margins, labels) / self.batch_size

        def if_active(new: Array, old: Array) -> Array:
            return jnp.where(active.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        def descend() -> Params:
            (gradient,) = pullback(slope)
            return jax.tree.map(
                lambda p, s, g: if_active(s * p - self.learning_rate * g, p),
                params,
                self.shrinkage,
                gradient,
            )

        def shrink() -> Params:
            return jax.tree.map(
                lambda p, s: p if s == 1.0 else if_active(s * p, p), params, self.shrinkage
            )

        needed = jnp.any((slope != 0) & active[:, None]) | ~skip
        return lax.cond(needed, descend, shrink), (hinge(margins).mean(-1), needed)

    def epochs(
        self,
        params: Params,
        data: TrainingSet,
        active: Bool[Array, " seeds"],
        start: Int[Array, ""],
        stop: Int[Array, ""],
        skip: Bool[Array, ""],
    ) -> tuple[Params, BlockMetrics]:
        """Epochs start..stop-1 of a stack of networks that step together."""
        n_images = data.labels.shape[1]
        steps = n_images // self.batch_size

        def epoch(number, carry):
            params, total, backward, bad = carry
            order = jax.vmap(lambda key: jax.random.permutation(key, n_images))(
                jax.vmap(jax.random.fold_in, (0, None))(data.key, number)
            )
            batches = order.reshape(-1, steps, self.batch_size).swapaxes(0, 1)
            take = jax.vmap(lambda array, index: array[index])
            params, (losses, needed) = lax.scan(
                lambda p, index: self.step(
                    p, take(data.images, index), take(data.labels, index), active, skip
                ),
                params,
                batches,
                unroll=2,  # two buffers for the parameters; otherwise XLA copies them every step
            )
            step = (number - start) * steps + jnp.arange(steps)[:, None]
            bad = jnp.minimum(bad, jnp.where(jnp.isfinite(losses), NO_STEP, step).min(0))
            return params, total + losses.mean(0), backward + needed.mean(), bad

        seeds = active.shape[0]
        zero = jnp.zeros(seeds), jnp.zeros(()), jnp.full(seeds, NO_STEP)
        stop = jnp.where(active.any(), stop, start)
        params, total, backward, bad = lax.fori_loop(start, stop, epoch, (params, *zero))
        count = jnp.maximum(stop - start, 1)
        return params, BlockMetrics(
            total / count, jnp.full(seeds, backward / count), bad, _all_finite(params)
        )

    def compile(self, mesh: Mesh, *, seeds_per_batch: int) -> Callable[..., tuple]:
        """The jitted (params, data, active, start, stop) -> (params, metrics) of all networks.

        As `program`, which has to be told whether to skip zero gradients.
        """
        compiled = self.program(mesh, seeds_per_batch=seeds_per_batch)
        skip = jnp.asarray(self.skip_zero_gradients)
        return lambda params, data, active, start, stop: compiled(
            params, data, active, start, stop, skip
        )

    def program(self, mesh: Mesh, *, seeds_per_batch: int) -> Any:
        """The jitted (params, data, active, start, stop, skip) -> (params, metrics).

        Every argument but start, stop and skip has the seed axis first. One network per group is
        fastest on a CPU, because each network's backward passes are then skipped independently;
        all networks in one group make full use of an accelerator.

        Args:
          mesh: a mesh with the axis `seed`.
          seeds_per_batch: most networks vectorized together; a divisor of all is chosen.
        """
        return over_groups(
            self.epochs, mesh, stacked=3, shared=3, seeds_per_batch=seeds_per_batch, options={}
        )


def _all_finite(params: Params) -> Bool[Array, " seeds"]:
    """Selects by network of a stack."""
    leaves = [jnp.isfinite(p).reshape(len(p), -1).all(1) for p in jax.tree.leaves(params)]
    return jnp.stack(leaves).all(0)
