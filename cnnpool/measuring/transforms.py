"""What may be done to a network before it is measured, by name."""

from collections.abc import Callable
from typing import NamedTuple

from jax import Array

from cnnpool.instruments.channels import mean_channel_filters, shuffle_channels
from cnnpool.instruments.moments import Features
from cnnpool.instruments.sensitivity import mean_channel_activations

Params = dict

# The simple CNN's filters. The first layer reads the image, whose channels are not shuffled.
KERNELS = r"conv\d+/kernel"
FILTERS = r"conv\d+/(kernel|bias)"
IMAGE_LAYER = r"conv01/(kernel|bias)"
SHUFFLED = r"conv(?!01/)\d+/kernel"


class Transform(NamedTuple):
    """A change of the parameters and a change of how activations are seen."""

    on_params: Callable[[Params, Array], Params]
    on_features: Callable[[Features], Features]


def _keep_params(params: Params, key: Array) -> Params:
    return params


def _keep_features(features: Features) -> Features:
    return features


def _shuffle(params: Params, key: Array) -> Params:
    return shuffle_channels(params, key, pattern=SHUFFLED)


def _mean_filters(params: Params, key: Array) -> Params:
    return mean_channel_filters(params, pattern=FILTERS, image_layer=IMAGE_LAYER)


TRANSFORMS: dict[str, Transform] = {
    "none": Transform(_keep_params, _keep_features),
    "channel_shuffle": Transform(_shuffle, _keep_features),
    "mean_channel_activations": Transform(_keep_params, mean_channel_activations),
    "mean_channel_filters": Transform(_mean_filters, _keep_features),
}


def parse_transforms(text: str) -> tuple[str, ...]:
    """Transform names from a comma-separated list.

    Raises:
      ValueError: if one is unknown.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in TRANSFORMS:
            raise ValueError(f"transform {name!r}: expected one of {', '.join(TRANSFORMS)}")
    return names
