"""What may be done to a deep network before it is measured, by name.

| name | what |
|---|---|
| none | the network as it is |
| channel_shuffle | input channels of all convolutions but the first are permuted |
| channel_shuffle_image | of the first one too: the image's own channels (as the authors do) |
| channel_shuffle:LAYER | of one convolution alone |
| channel_shuffle_each | stands for channel_shuffle:LAYER with every convolution but the first |
| mean_channel_filters | every filter of a layer is its average filter |
| mean_channel_activations | every activation is its average over channels |
"""

import re

from flax.traverse_util import flatten_dict
from jax import Array
from jaxtyping import Key

from cnnpool.channels import matching_paths, mean_channel_filters, shuffle_channels
from cnnpool.measuring.transforms import Params
from cnnpool.moments import Features
from cnnpool.sensitivity import mean_channel_activations
from cnnpool.training.image_step import Variables

NONE, SHUFFLE = "none", "channel_shuffle"
WITH_IMAGE, EACH = "channel_shuffle_image", "channel_shuffle_each"
MEAN_FILTERS, MEAN_ACTIVATIONS = "mean_channel_filters", "mean_channel_activations"
NAMES = (NONE, SHUFFLE, WITH_IMAGE, f"{SHUFFLE}:LAYER", EACH, MEAN_FILTERS, MEAN_ACTIVATIONS)

KERNELS = r"(?:.*/)?[^/]*conv[^/]*/kernel"
DEPTHWISE = r"(?:.*/)?depthwise_conv/kernel"
_IMAGE_KERNEL = "conv01/kernel"
_INNER_KERNELS = f"(?!{_IMAGE_KERNEL}$){KERNELS}"
_AVERAGED = r"(?:.*/)?[^/]*(?:conv|bn)[^/]*/(?:kernel|bias|scale|mean|var)"
_IMAGE_LAYER = r"params/conv01/.*"


def parse(text: str, params: Params) -> tuple[str, ...]:
    """Transform names from a comma-separated list; `channel_shuffle_each` is written out.

    Args:
      text: the list.
      params: of one network, whose layers may be named.

    Raises:
      ValueError: if a name or layer is unknown, or the network has nothing to shuffle.
    """
    names: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if name == EACH:
            layers = [_layer(path) for path in matching_paths(params, _INNER_KERNELS)]
            names += [f"{SHUFFLE}:{layer}" for layer in layers]
            continue
        if name.startswith(f"{SHUFFLE}:"):
            _pattern(name, params)
        elif name not in NAMES:
            raise ValueError(f"transform {name!r}: expected one of {', '.join(NAMES)}")
        elif name not in (NONE, MEAN_ACTIVATIONS):
            matching_paths(params, _INNER_KERNELS)
        names.append(name)
    return tuple(dict.fromkeys(names))


def is_random(name: str) -> bool:
    """Whether a transform is drawn anew with every key."""
    return name.startswith(SHUFFLE)


def transform_variables(name: str, variables: Variables, key: Key[Array, ""]) -> Variables:
    """Parameters and batch statistics of one network after a transform.

    Args:
      name: of the transform.
      variables: of one network.
      key: randomness of a shuffle.
    """
    if is_random(name):
        pattern = _pattern(name, variables.params)
        return variables._replace(params=_shuffled(variables.params, key, pattern))
    if name == MEAN_FILTERS:
        both = {"params": variables.params, "batch_stats": variables.batch_stats}
        both = mean_channel_filters(both, pattern=_AVERAGED, image_layer=_IMAGE_LAYER)
        return Variables(both["params"], both.get("batch_stats", {}))
    return variables


def _shuffled(params: Params, key: Key[Array, ""], pattern: str) -> Params:
    """Channels permuted; a kernel that reads one channel alone, as of grey images, stays."""
    kernels = flatten_dict(params, sep="/")
    matching = matching_paths(params, pattern)
    depthwise = [path for path in matching if re.fullmatch(DEPTHWISE, path)]
    chosen = [path for path in matching if path in depthwise or kernels[path].shape[-2] > 1]
    if not chosen:
        return params
    either = "|".join(map(re.escape, depthwise)) if depthwise else None
    return shuffle_channels(params, key, pattern="|".join(map(re.escape, chosen)), depthwise=either)


def transform_features(name: str, features: Features) -> Features:
    """Named activations as a transform shows them."""
    return mean_channel_activations(features) if name == MEAN_ACTIVATIONS else features


def _pattern(name: str, params: Params) -> str:
    """Of the kernels that a shuffle permutes."""
    if name == SHUFFLE:
        return _INNER_KERNELS
    if name == WITH_IMAGE:
        return KERNELS
    layer = name.removeprefix(f"{SHUFFLE}:")
    kernels = [path for path in flatten_dict(params, sep="/") if path == f"{layer}/kernel"]
    if not kernels or not set(kernels) <= set(matching_paths(params, KERNELS)):
        layers = ", ".join(_layer(path) for path in matching_paths(params, KERNELS))
        raise ValueError(f"transform {name!r}: expected a convolution, one of {layers}")
    return re.escape(kernels[0])


def _layer(path: str) -> str:
    return path.removesuffix("/kernel")
