"""Measurements of one deep network: moments of every unit, and its filters."""

import functools
import re
from typing import Any

from flax.traverse_util import flatten_dict
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from cnnpool import runtime
from cnnpool.measuring import image_transforms
from cnnpool.measuring.image_inputs import Inputs
from cnnpool.models import layers
from cnnpool.sensitivity import Features, ImageMoments, image_moments
from cnnpool.training.image_step import Variables

_LARGEST_BATCH = 75
_BATCH_BYTES = 2**30


@functools.lru_cache(maxsize=4)
def _apply(model: Any):
    """Named activations in inference mode as a function of (variables, images).

    The same object for the same model, so that JAX compiles once for all networks of a run.
    """
    return lambda variables, images: model.apply(variables._asdict(), images, train=False)[1]


def features(model: Any, variables: Variables) -> Features:
    """All units of one network in inference mode, by name."""
    return jax.tree_util.Partial(_apply(model), variables)


def features_by_copy(model: Any, variables: Variables) -> Features:
    """The same where `batch_stats` has one set a copy of the images, along a leading axis.

    The images are as many copies of a batch, one behind the other, as there are sets.
    """
    return jax.tree_util.Partial(_apply_by_copy(model), variables)


@functools.lru_cache(maxsize=4)
def _apply_by_copy(model: Any):
    def apply(variables: Variables, images: Array) -> dict[str, Array]:
        names: list[str] = []  # in forward order; vmap would sort a dict by its keys

        def of_copy(batch_stats, copy):
            found = _apply(model)(variables._replace(batch_stats=batch_stats), copy)
            names[:] = found
            return tuple(found.values())

        copies = len(jax.tree.leaves(variables.batch_stats)[0])
        split = images.reshape(copies, -1, *images.shape[1:])
        found = jax.vmap(of_copy)(variables.batch_stats, split)
        flat = [f.reshape(-1, *f.shape[2:]) for f in found]
        return dict(zip(names, flat, strict=True))

    return apply


def with_frozen_statistics(
    model: Any, variables: Variables, clean: Float[Array, "images height width channels"]
) -> Variables:
    """The network with the clean images' batch statistics, computed once and frozen.

    At initialization running averages mean nothing (protocol, section 3). Every layer is
    normalized by its statistics over all images, and keeps them, the variance unbiased.

    Args:
      model: of the network.
      variables: of one network; nothing changes where it has no batch normalization.
      clean: the P images.
    """
    if not variables.batch_stats:
        return variables
    return variables._replace(batch_stats=_statistics(variables, clean, model=model))


def with_own_statistics(model: Any, variables: Variables, inputs: Inputs) -> Variables:
    """The network with a set of batch statistics for x, each tau(x) and each x + eta.

    As the authors' program normalizes at initialization.

    Args:
      model: of the network.
      variables: of one network with batch normalization.
      inputs: clean, deformed and noisy images.
    """
    copies = [inputs.clean, *inputs.deformed, *inputs.noisy]
    found = [_statistics(variables, images, model=model) for images in copies]
    return variables._replace(batch_stats=jax.tree.map(lambda *sets: jnp.stack(sets), *found))


def fitting_batch(shown: Features, images: Float[Array, "images height width channels"]) -> int:
    """As many images as have activations of a gigabyte together, at most 75.

    More of them are not faster, even where they are small.

    Args:
      shown: what is measured.
      images: any of the images.
    """
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    activations = jax.tree.leaves(jax.eval_shape(shown, one))
    size = sum(a.size * a.dtype.itemsize for a in activations)
    return max(1, min(_LARGEST_BATCH, _BATCH_BYTES // size))


@functools.partial(jax.jit, static_argnames="model")
def _statistics(variables: Variables, clean: Array, *, model: Any):
    nothing = jax.tree.map(jnp.zeros_like, variables.batch_stats)
    _, changed = model.apply(
        {"params": variables.params, "batch_stats": nothing},
        clean,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(0)},  # behind all batch normalization
    )
    return jax.tree.map(lambda a: a / layers.MOMENTUM, changed["batch_stats"])


def moments(
    model: Any,
    variables: Variables,
    transform: str,
    key: Array,
    inputs: Inputs,
    *,
    untrained: bool,
    own_statistics: bool = False,
    batch_size: int,
) -> dict[str, ImageMoments]:
    """What D, G and R of every unit are made of.

    Args:
      model: of the network.
      variables: of one network.
      transform: a name of `cnnpool.measuring.image_transforms`.
      key: randomness of the transform.
      inputs: clean, deformed and noisy images.
      untrained: whether batch statistics are to be taken from the images.
      own_statistics: from the clean, deformed and noisy ones each for its own, not from the clean.
      batch_size: images whose activations are held at once; 0: see `fitting_batch`.
    """
    changed = image_transforms.transform_variables(transform, variables, key)
    if untrained and own_statistics and changed.batch_stats:
        plain = features_by_copy(model, with_own_statistics(model, changed, inputs))
    elif untrained:
        plain = features(model, with_frozen_statistics(model, changed, inputs.clean))
    else:
        plain = features(model, changed)
    shown = image_transforms.transform_features(transform, plain)
    # Accelerators would round factors to TF32 or bfloat16; D is a difference of large activations.
    with jax.default_matmul_precision("highest"):
        return image_moments(
            shown,
            *inputs,
            batch_size=batch_size or fitting_batch(shown, inputs.clean),
            mesh=runtime.image_mesh(),
            compiler_options=runtime.with_barriers(jax.devices()[0].platform),
        )


def kernels(variables: Variables) -> dict[str, Float[np.ndarray, "F F inputs outputs"]]:
    """Kernels of all convolutions of one network by unit, in float64."""
    return {
        path.removesuffix("/kernel"): np.asarray(kernel, np.float64)
        for path, kernel in flatten_dict(variables.params, sep="/").items()
        if re.fullmatch(image_transforms.KERNELS, path)
    }
