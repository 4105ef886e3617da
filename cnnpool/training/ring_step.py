"""Blocks of SGD epochs on the hinge loss, several networks in one compiled program.

After interpolation most batches have a hinge loss of exactly 0. Its gradient is
then exactly 0 too, and the backward pass is skipped. This leaves the
parameters unchanged, bit for bit: a step is p <- shrink * p - lr * g, which for g = 0
rounds like shrink * p, with or without fused multiply-adds.

Whole epochs are skipped as well. While no training image has a loss, only the ridge acts, so
future parameters are known without a forward pass. `look` computes the margins of the training
images and how much the next epoch of shrinking changes them, and extrapolates linearly how many
epochs remain until a margin may fall to 1. The parameters are then shrunk by that many epochs at
once, with the same multiplications as in single steps. If no image has a loss afterwards, these
epochs count as trained; otherwise half as many are tried. Margins are checked at both ends of such
a leap; between them, a margin could fall below 1 only if it turned twice. A leap is at most 64
epochs, which shrink the filters by 0.6 % in the protocol of Figure 4.
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

MOST_EPOCHS_AHEAD = 64  # longest leap between two looks at the training set
STEPS_PER_PASS = 64  # steps of shrinking in one pass over the memory of the parameters
ROUNDING = 1e-5  # margins of translations, and in another program, differ by less


class TrainingSet(NamedTuple):
    """The training images of several networks, and the key that orders them.

    Attributes:
      images: training images of each network.
      labels: +1 or -1.
      representatives: indices of images; every image has the label and, up to rounding, the output
        of one of them.
      key: order of the batches; the epoch is folded in.
    """

    images: Float[Array, "seeds images *shape"]
    labels: Float[Array, "seeds images"]
    representatives: Int[Array, "seeds some"]
    key: Key[Array, " seeds"]


class BlockMetrics(NamedTuple):
    """Metrics of each network over a block of epochs.

    Attributes:
      hinge: mean hinge loss over the block's steps, each before its update; 0 for a network that is
        not active.
      backward_fraction: fraction of the steps with a backward pass.
      first_bad_step: first step in the block with a loss that is not finite, or `NO_STEP`.
      finite: whether all parameters are finite after the block, as no loss covers its last step.
    """

    hinge: Float[Array, " seeds"]
    backward_fraction: Float[Array, " seeds"]
    first_bad_step: Int[Array, " seeds"]
    finite: Bool[Array, " seeds"]


class _Carry(NamedTuple):
    """The state of the loop in `SGD.epochs`.

    `ahead` is the number of epochs to leap over next; for 0, one is trained step by step.
    """

    number: Int[Array, ""]
    ahead: Int[Array, ""]
    params: Params
    total: Float[Array, " seeds"]
    backward: Float[Array, ""]
    bad: Int[Array, " seeds"]


@dataclasses.dataclass(frozen=True)
class SGD:
    """Plain stochastic gradient descent on hinge loss and ridge.

    Attributes:
      output: (params of one network, images) -> its outputs, (images,).
      shrinkage: pytree of floats, the ridge's factor on each parameter per step.
      learning_rate: lr.
      batch_size: images per step; divides the number of training images.
      skip_zero_gradients: skip backward passes, and whole epochs, in which the hinge loss is 0.
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

        def descend() -> Params:
            (gradient,) = pullback(slope)
            return jax.tree.map(
                lambda p, s, g: _if_active(active, s * p - self.learning_rate * g, p),
                params,
                self.shrinkage,
                gradient,
            )

        def only_shrink() -> Params:
            return jax.tree.map(
                lambda p, s: p if s == 1.0 else _if_active(active, s * p, p), params, self.shrinkage
            )

        needed = jnp.any((slope != 0) & active[:, None]) | ~skip
        return lax.cond(needed, descend, only_shrink), (hinge(margins).mean(-1), needed)

    def epoch(
        self,
        params: Params,
        data: TrainingSet,
        active: Bool[Array, " seeds"],
        number: Int[Array, ""],
        skip: Bool[Array, ""],
    ) -> tuple[Params, tuple[Array, Array]]:
        """One epoch of a stack; also each step's losses (steps, seeds) and backward passes."""
        n_images = data.labels.shape[1]
        order = jax.vmap(lambda key: jax.random.permutation(key, n_images))(
            jax.vmap(jax.random.fold_in, (0, None))(data.key, number)
        )
        batches = order.reshape(len(order), -1, self.batch_size).swapaxes(0, 1)
        take = jax.vmap(lambda array, index: array[index])
        return lax.scan(
            lambda p, index: self.step(
                p, take(data.images, index), take(data.labels, index), active, skip
            ),
            params,
            batches,
            unroll=2,  # two buffers for the parameters; otherwise XLA copies them every step
        )

    def shrink(
        self, params: Params, active: Bool[Array, " seeds"], steps: int, epochs: Int[Array, ""]
    ) -> Params:
        """The parameters of the active networks after epochs without a gradient.

        The factors depend on the loop counter, so that XLA cannot multiply them with one another
        beforehand: every product is rounded as in `step`. A factor of 1 changes nothing.
        """
        total = epochs * steps

        def by(number: Array, params: Params) -> Params:
            def shrunk(p: Array, s: float) -> Array:
                if s == 1.0:
                    return p
                for each in range(STEPS_PER_PASS):
                    p = jnp.where(number * STEPS_PER_PASS + each < total, s, 1.0) * p
                return p

            return jax.tree.map(shrunk, params, self.shrinkage)

        passes = (total + STEPS_PER_PASS - 1) // STEPS_PER_PASS
        after = lax.fori_loop(0, passes, by, params)
        return jax.tree.map(lambda new, old: _if_active(active, new, old), after, params)

    def look(
        self, params: Params, data: TrainingSet, active: Bool[Array, " seeds"], steps: int
    ) -> tuple[Bool[Array, ""], Int[Array, ""]]:
        """Whether no active network has a loss, and for how many more epochs that should hold.

        Margins within rounding of 1 count as a loss: whether they are one, only `step` decides.
        """
        take = jax.vmap(lambda array, index: array[index])
        images, labels = (
            take(data.images, data.representatives),
            take(data.labels, data.representatives),
        )
        next_params = jax.tree.map(lambda p, s: s**steps * p, params, self.shrinkage)
        margins, next_margins = (
            labels * jax.vmap(self.output)(p, images) for p in (params, next_params)
        )
        slopes = next_margins - margins
        spare = jnp.where(active[:, None], margins - 1.0 - ROUNDING, jnp.inf)
        epochs_left = jnp.where(slopes < 0, spare / -slopes, jnp.inf).min()
        return (spare >= 0).all(), jnp.clip(epochs_left, 0, MOST_EPOCHS_AHEAD).astype(int)

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
        seeds, n_images = data.labels.shape
        steps = n_images // self.batch_size

        def train(carry: _Carry) -> _Carry:
            number, _, params, total, backward, bad = carry
            params, (losses, needed) = self.epoch(params, data, active, number, skip)

            def foresee() -> Array:
                clear, epochs_left = self.look(params, data, active, steps)
                return jnp.where(clear, epochs_left, 0).astype(number.dtype)

            ahead = lax.cond(skip & ~needed[-1], foresee, lambda: jnp.zeros_like(number))
            step = (number - start) * steps + jnp.arange(steps)[:, None]
            bad = jnp.minimum(bad, jnp.where(jnp.isfinite(losses), NO_STEP, step).min(0))
            total = total + jnp.where(active, losses.mean(0), 0.0)
            backward = backward + needed.mean()
            return _Carry(number + 1, ahead, params, total, backward, bad)

        def leap(carry: _Carry) -> _Carry:
            ahead = jnp.minimum(carry.ahead, stop - carry.number)
            after = self.shrink(carry.params, active, steps, ahead)
            clear, epochs_left = self.look(after, data, active, steps)
            return carry._replace(
                number=carry.number + jnp.where(clear, ahead, 0),
                ahead=jnp.where(clear, epochs_left.astype(ahead.dtype), ahead // 2),
                params=jax.tree.map(lambda a, b: jnp.where(clear, a, b), after, carry.params),
            )

        zero = jnp.zeros(seeds), jnp.zeros(()), jnp.full(seeds, NO_STEP)
        stop = jnp.where(active.any(), stop, start)
        end = lax.while_loop(
            lambda carry: carry.number < stop,
            lambda carry: lax.cond(carry.ahead > 0, leap, train, carry),
            _Carry(start, jnp.zeros_like(start), params, *zero),
        )
        count = jnp.maximum(stop - start, 1)
        return end.params, BlockMetrics(
            end.total / count,
            jnp.full(seeds, end.backward / count),
            end.bad,
            _all_finite(end.params),
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
        fastest on a CPU: each network's passes are then skipped independently, whereas a group
        leaps over epochs only when none of its networks has a loss.

        Args:
          mesh: a mesh with the axis `seed`.
          seeds_per_batch: most networks vectorized together; a divisor of all is chosen.
        """
        return over_groups(
            self.epochs, mesh, stacked=3, shared=3, seeds_per_batch=seeds_per_batch, options={}
        )


def _if_active(active: Bool[Array, " seeds"], new: Array, old: Array) -> Array:
    """`new` for active networks of a stack, `old` for the others."""
    return jnp.where(active.reshape(-1, *[1] * (old.ndim - 1)), new, old)


def _all_finite(params: Params) -> Bool[Array, " seeds"]:
    """Selects by network of a stack."""
    leaves = [jnp.isfinite(p).reshape(len(p), -1).all(1) for p in jax.tree.leaves(params)]
    return jnp.stack(leaves).all(0)
