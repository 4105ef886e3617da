"""Measurements of one network: sensitivities, receptive fields, filters, errors."""

import functools
import math
import re
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Float
from ml_collections import ConfigDict
import numpy as np

from cnnpool.instruments import diffusion
from cnnpool.instruments.channels import mean_filters
from cnnpool.instruments.moments import image_moments
from cnnpool.instruments.sensitivity import Sensitivity, sensitivities
from cnnpool.measuring.transforms import KERNELS, Transform
from cnnpool.training.setup import Network

Params = dict

# Training splits the plain key of a seed; any constant keeps measurements off those keys.
_KEY_CONSTANT = 20221006


class Inputs(NamedTuple):
    """The images that every network of a run is measured on.

    Attributes:
      clean: x, all images of the task.
      deformed: tau(x).
      noisy: x + eta.
    """

    clean: Float[Array, "images length 1"]
    deformed: Float[Array, "draws images length 1"]
    noisy: Float[Array, "draws images length 1"]


class Measurement(NamedTuple):
    """All that is measured of one network at one stage under one transform.

    Attributes:
      sensitivities: by layer, in forward order.
      sizes: measured A_k in pixels, by layer; NaN where there are no positions.
      filters: channel-averaged filter (F,), by convolution.
      test_error: part of the images outside the training set that are misclassified.
    """

    sensitivities: dict[str, Sensitivity]
    sizes: dict[str, float]
    filters: dict[str, Array]
    test_error: float


class MeasurementKeys(NamedTuple):
    """The independent randomness of a measurement."""

    perturbation: Array
    transform: Array


def measurement_keys(config: ConfigDict) -> MeasurementKeys:
    """Keys of moves and noise, and of channel shuffles; apart from every training key."""
    key = jax.random.fold_in(jax.random.key(config.measurement.seed), _KEY_CONSTANT)
    return MeasurementKeys(*jax.random.split(key))


def inputs(config: ConfigDict, net: Network) -> Inputs:
    """All images of the task, with the draws that the `measurement` section asks for."""
    key = measurement_keys(config).perturbation
    draws = config.measurement.draws
    if draws < 1:
        raise ValueError(f"measurement.draws must be at least 1, got {draws}")
    return Inputs(net.data.images, *net.data.perturb(key, draws))


def depth_of(layer: str) -> int | None:
    """k of a convolution or its ReLU, counted from 1; None for pooling and readout."""
    match = re.fullmatch(r"(?:conv|relu)(\d+)", layer)
    return int(match.group(1)) if match else None


@functools.lru_cache(maxsize=4)
def _features(net: Network):
    """Named activations as a function of (params, images).

    The same object at every call, so that JAX compiles a measurement once for all seeds.
    """
    return lambda params, images: net.apply(params, images)[1]


def measure(
    config: ConfigDict,
    net: Network,
    params: Params,
    transform: Transform,
    key: Array,
    images: Inputs,
    is_test: Bool[np.ndarray, " images"],
) -> Measurement:
    """Measures one network.

    Args:
      config: of its run.
      net: model and data.
      params: of this network alone.
      transform: applied first.
      key: randomness of the transform.
      images: what to measure on.
      is_test: which images the network was not trained on.
    """
    params = transform.on_params(params, key)
    features = transform.on_features(jax.tree_util.Partial(_features(net), params))
    moments = image_moments(features, *images, batch_size=config.measurement.batch_size)
    outputs = _evaluate(jax.tree_util.Partial(_features(net), params), images.clean)["linear"]
    wrong = ~(net.data.labels * np.asarray(outputs)[:, 0] > 0)
    return Measurement(
        sensitivities(moments),
        receptive_field_sizes(config, features),
        jax.device_get(mean_filters(params, pattern=KERNELS)),
        float(wrong[is_test].mean()),
    )


def receptive_field_sizes(config: ConfigDict, features) -> dict[str, float]:
    """Measured A_k of every layer that has positions (protocol, section 6)."""
    length = config.data.length
    pixels = math.sqrt(length / 2) * jnp.eye(length)[..., None]
    responses = jax.device_get(_evaluate(features, pixels))
    background = jax.device_get(_evaluate(features, jnp.zeros((1, length, 1))))
    model = config.model
    return {
        layer: diffusion.measured_size(
            responses[layer],
            background[layer][0],
            filter_size=model.filter_size,
            stride=model.stride,
            layer=depth,
        )
        if (depth := depth_of(layer))
        else math.nan
        for layer in background
    }


@jax.jit
def _evaluate(features, images):
    return features(images)
