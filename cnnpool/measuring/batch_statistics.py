"""Batch statistics computed from the images to measure on, instead of the running averages.

At initialization running averages are meaningless, and after a shuffle they belong to another
network (docs/protocol.md, "Batch normalization").
"""

from collections.abc import Iterator
import functools
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict, unflatten_dict
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from cnnpool.instruments.perturbation import Inputs
from cnnpool.models import layers
from cnnpool.shapes import Float
from cnnpool.training.variables import Variables

# Pixel values of images whose activations are held at once; 500 of CIFAR-10 have 2^20.5. For more,
# statistics are computed batch by batch, which costs one forward pass per layer.
AT_ONCE = 2**23
Path = tuple[str, ...]


def with_frozen_statistics(
    model: Any, variables: Variables, clean: Float[Array, "images *size channels"]
) -> Variables:
    """The network with the clean images' batch statistics, computed once and frozen.

    Every layer is normalized by its statistics over all images; they are stored with unbiased
    variance.

    Args:
      model: the network's module.
      variables: variables of one network; unchanged if it has no batch normalization.
      clean: the P images.
    """
    if not variables.batch_stats:
        return variables
    statistics = _at_once if clean.size <= AT_ONCE else _in_batches
    return variables._replace(batch_stats=statistics(variables, clean, model=model))


def with_own_statistics(model: Any, variables: Variables, inputs: Inputs) -> Variables:
    """The network with separate batch statistics for x, each tau(x) and each x + eta.

    The authors' program does this by normalizing in training mode.

    Args:
      model: the network's module.
      variables: variables of one network with batch normalization.
      inputs: clean, deformed and noisy images.
    """
    copies = [inputs.clean, *inputs.deformed, *inputs.noisy]
    found = [with_frozen_statistics(model, variables, images).batch_stats for images in copies]
    return variables._replace(batch_stats=jax.tree.map(lambda *sets: jnp.stack(sets), *found))


@functools.partial(jax.jit, static_argnames="model")
def _at_once(variables: Variables, clean: Array, *, model: Any):
    nothing = jax.tree.map(jnp.zeros_like, variables.batch_stats)
    _, changed = model.apply(
        {"params": variables.params, "batch_stats": nothing},
        clean,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(0)},  # after the last batch normalization
    )
    return jax.tree.map(lambda a: a / layers.MOMENTUM, changed["batch_stats"])


class _Moments(NamedTuple):
    """Moments of a batch normalization's input, by channel.

    Attributes:
      size: number of values per channel.
      mean: mean of the values.
      squares: sum of squared distances from the mean.
    """

    size: float
    mean: np.ndarray
    squares: np.ndarray

    def and_also(self, other: "_Moments") -> "_Moments":
        """Moments of the union (Chan, Golub and LeVeque)."""
        size = self.size + other.size
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.size / size)
        squares = self.squares + other.squares + apart**2 * (self.size * other.size / size)
        return _Moments(size, mean, squares)


def _in_batches(variables: Variables, clean: Array, *, model: Any):
    """Statistics layer by layer, each computed with the final statistics of earlier layers."""
    known = flatten_dict(jax.tree.map(jnp.asarray, variables.batch_stats))
    for path in _norms(variables, clean[:1], model=model):
        current = variables._replace(batch_stats=unflatten_dict(known))
        found = [_moments(current, batch, model=model)[path] for batch in _batches(clean)]
        whole = functools.reduce(_Moments.and_also, (_on_host(one) for one in found))
        for name, value in (("mean", whole.mean), ("var", whole.squares / (whole.size - 1))):
            known[*path, name] = jnp.asarray(value, known[*path, name].dtype)
    return unflatten_dict(known)


def _batches(images: Array) -> Iterator[Array]:
    count = max(1, AT_ONCE // images[0].size)
    return (images[start : start + count] for start in range(0, len(images), count))


def _on_host(found: tuple[Array, Array, Array]) -> _Moments:
    size, mean, squares = (np.asarray(value, np.float64) for value in found)
    return _Moments(float(size), mean, squares)


def _norms(variables: Variables, images: Array, *, model: Any) -> list[Path]:
    """The batch normalizations of a network in forward order."""
    order: list[Path] = []

    def apply(variables: Variables, images: Array) -> None:
        order.extend(path for path, _ in _norm_inputs(variables, images, model))

    jax.eval_shape(apply, variables, images)
    return order


@functools.partial(jax.jit, static_argnames="model")
def _moments(variables: Variables, images: Array, *, model: Any) -> dict[Path, tuple]:
    """Size, mean and squares of what every batch normalization reads, see `_Moments`."""

    def of(x: Array) -> tuple[int, Array, Array]:
        values = x.reshape(-1, x.shape[-1]).astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = values.mean(0)
        return len(values), mean, ((values - mean[None]) ** 2).sum(0)

    return {path: of(x) for path, x in _norm_inputs(variables, images, model)}


def _norm_inputs(variables: Variables, images: Array, model: Any) -> list[tuple[Path, Array]]:
    """(path, input) of every batch normalization of a network in inference mode."""
    found: list[tuple[Path, Array]] = []
    with layers.batch_norms_noted(lambda norm, x, y: found.append((norm.path, x))):
        model.apply(variables._asdict(), images, train=False)
    return found
