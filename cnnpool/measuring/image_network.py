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


@functools.lru_cache(maxsize=4)
def _apply(model: Any):
    """Named activations in inference mode as a function of (variables, images).

    The same object for the same model, so that JAX compiles once for all networks of a run.
    """
    return lambda variables, images: model.apply(variables._asdict(), images, train=False)[1]


def features(model: Any, variables: Variables) -> Features:
    """All units of one network in inference mode, by name."""
    return jax.tree_util.Partial(_apply(model), variables)


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
    batch_size: int,
) -> dict[str, ImageMoments]:
    """What D, G and R of every unit are made of.

    Args:
      model: of the network.
      variables: of one network.
      transform: a name of `cnnpool.measuring.image_transforms`.
      key: randomness of the transform.
      inputs: clean, deformed and noisy images.
      untrained: whether batch statistics are to be taken from the clean images.
      batch_size: images whose activations are held at once.
    """
    changed = image_transforms.transform_variables(transform, variables, key)
    if untrained:
        changed = with_frozen_statistics(model, changed, inputs.clean)
    shown = image_transforms.transform_features(transform, features(model, changed))
    # Accelerators would round factors to TF32 or bfloat16; D is a difference of large activations.
    with jax.default_matmul_precision("highest"):
        return image_moments(
            shown,
            *inputs,
            batch_size=batch_size,
            compiler_options=runtime.with_barriers(jax.devices()[0].platform),
        )


def kernels(variables: Variables) -> dict[str, Float[np.ndarray, "F F inputs outputs"]]:
    """Kernels of all convolutions of one network by unit, in float64."""
    return {
        path.removesuffix("/kernel"): np.asarray(kernel, np.float64)
        for path, kernel in flatten_dict(variables.params, sep="/").items()
        if re.fullmatch(image_transforms.KERNELS, path)
    }
