"""The transforms of a network before it is measured, by name.

| name | what |
|---|---|
| none | the network as it is |
| channel_shuffle | the input channels of every convolution but the first are permuted |
| channel_shuffle_image | channel_shuffle that includes the first one: the image's own channels |
| channel_shuffle_both | input and output channels of every convolution, the first included |
| channel_shuffle_recalibrated | channel_shuffle, then batch statistics from the clean images |
| channel_shuffle_vectors | no kernel; biases and batch-norm vectors of every convolution |
| own_statistics | batch norm uses separate batch statistics for x, tau(x) and x + eta |
| mean_channel_filters | every filter is replaced by its layer's average filter |
| mean_channel_activations | every activation is replaced by its average over channels |

channel_shuffle, channel_shuffle_both and channel_shuffle_recalibrated can be applied to
one convolution alone, as in channel_shuffle:conv03, or to each one in turn, as in
channel_shuffle_each (all but the first; channel_shuffle_both_each: all). The three shuffles are
those of docs/protocol.md, "Channel shuffles": the authors' program since June 2022, their first
one, and the first with running averages that fit the shuffled network. channel_shuffle_vectors is a
control: of channel_shuffle_both, the part that does not change the connections between channels.
"""

import re

from jax import Array

from cnnpool import errors
from cnnpool.instruments.activations import Features
from cnnpool.instruments.channels import (
    matching_paths,
    mean_channel_filters,
    shuffle_both_axes,
    shuffle_channels,
    shuffle_vectors,
)
from cnnpool.instruments.sensitivity import mean_channel_activations
from cnnpool.shapes import Key
from cnnpool.training.variables import Variables

Params = dict

NONE, SHUFFLE = "none", "channel_shuffle"
WITH_IMAGE, BOTH, RECALIBRATED = (f"{SHUFFLE}_{kind}" for kind in ("image", "both", "recalibrated"))
VECTORS = f"{SHUFFLE}_vectors"
SHUFFLES = (SHUFFLE, BOTH, RECALIBRATED)
OWN_STATISTICS = "own_statistics"
MEAN_FILTERS, MEAN_ACTIVATIONS = "mean_channel_filters", "mean_channel_activations"
_PLAIN = (NONE, *SHUFFLES, WITH_IMAGE, VECTORS, OWN_STATISTICS, MEAN_FILTERS, MEAN_ACTIVATIONS)
_EACH = {f"{kind}_each": kind for kind in SHUFFLES}
NAMES = (*_PLAIN, *_EACH)  # and KIND:LAYER of `SHUFFLES`

KERNELS = r"(?:.*/)?[^/]*conv[^/]*/kernel"
DEPTHWISE = r"(?:.*/)?depthwise_conv/kernel"
_IMAGE_KERNEL = "conv01/kernel"
_INNER_KERNELS = f"(?!{_IMAGE_KERNEL}$){KERNELS}"
_AVERAGED = r"(?:.*/)?[^/]*(?:conv|bn)[^/]*/(?:kernel|bias|scale|mean|var)"
_IMAGE_LAYER = r"params/conv01/.*"


def parse(text: str, params: Params) -> tuple[str, ...]:
    """Transform names from a comma-separated list, with those for every layer expanded.

    Args:
      text: the list.
      params: parameters of one network, whose layers may be named.

    Raises:
      ValueError: if a name or layer is unknown, or the network has nothing to shuffle.
    """
    names: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if name in _EACH:
            names += _of_every_layer(_EACH[name], params)
            continue
        check_known(name)
        if name not in (NONE, OWN_STATISTICS, MEAN_ACTIVATIONS, MEAN_FILTERS):
            _pattern(name, params)
        elif name == MEAN_FILTERS:
            matching_paths(params, _INNER_KERNELS)
        names.append(name)
    return tuple(dict.fromkeys(names))


def check_known(name: str) -> None:
    """Raises ValueError for a name that is not a transform of any network."""
    kind, colon, layer = name.partition(":")
    if not (kind in SHUFFLES and colon and layer):
        errors.check_known(name, NAMES, "a transform")


def _of_every_layer(kind: str, params: Params) -> list[str]:
    pattern = KERNELS if kind == BOTH else _INNER_KERNELS
    return [f"{kind}:{_layer(path)}" for path in matching_paths(params, pattern)]


def is_random(name: str) -> bool:
    """Whether a transform is random, so that it depends on the key."""
    return name.startswith(SHUFFLE)


def repetitions(name: str, shuffles: int) -> int:
    """How often a transform is measured: a random one for every shuffle, any other once."""
    return shuffles if is_random(name) else 1


def recalibrates(name: str) -> bool:
    """Whether batch statistics are computed from the clean images after the transform."""
    return name.partition(":")[0] == RECALIBRATED


def changes_all_units(name: str) -> bool:
    """Whether a transform changes units before the first kernel that it changes."""
    return name in (OWN_STATISTICS, MEAN_ACTIVATIONS) or recalibrates(name)


def equivalent(name: str, variables: Variables, *, untrained: bool = False) -> str:
    """The simplest transform that has the same effect on a network.

    Without batch normalization there are no statistics to compute; before training they are
    computed from the clean images for every transform.

    Args:
      name: name of a transform.
      variables: variables of the network.
      untrained: whether no step was made.

    Returns:
      Another name, or `name` itself.
    """
    has_none = not variables.batch_stats
    if has_none and name == OWN_STATISTICS:
        return NONE
    needless = recalibrates(name) and (has_none or untrained)
    return name.replace(RECALIBRATED, SHUFFLE, 1) if needless else name


def transform_variables(name: str, variables: Variables, key: Key[Array, ""]) -> Variables:
    """Parameters and batch statistics of one network after a transform.

    Statistics from images, as `recalibrates` says, are not taken here.

    Args:
      name: name of the transform.
      variables: variables of one network.
      key: randomness of a shuffle.
    """
    if name == VECTORS:
        return Variables(
            *(
                shuffle_vectors(tree, key, kernel_of=_kernel_of) if tree else tree
                for tree in variables
            )
        )
    if is_random(name):
        pattern = _pattern(name, variables.params)
        if name.partition(":")[0] == BOTH:
            params = shuffle_both_axes(variables.params, key, pattern=pattern)
        else:
            params = _shuffled(variables.params, key, pattern)
        return variables._replace(params=params)
    if name == MEAN_FILTERS:
        both = {"params": variables.params, "batch_stats": variables.batch_stats}
        both = mean_channel_filters(both, pattern=_AVERAGED, image_layer=_IMAGE_LAYER)
        return Variables.of(both)
    return variables


def _shuffled(params: Params, key: Key[Array, ""], pattern: str) -> Params:
    """Permutes channels; a kernel with a single input channel, as for grey images, stays."""
    from flax.traverse_util import flatten_dict  # imported here: names of transforms need no Flax

    kernels = flatten_dict(params, sep="/")
    matching = matching_paths(params, pattern)
    depthwise = [path for path in matching if re.fullmatch(DEPTHWISE, path)]
    chosen = [path for path in matching if path in depthwise or kernels[path].shape[-2] > 1]
    if not chosen:
        return params
    either = "|".join(map(re.escape, depthwise)) if depthwise else None
    return shuffle_channels(params, key, pattern="|".join(map(re.escape, chosen)), depthwise=either)


def _kernel_of(path: str) -> str | None:
    """The kernel whose outputs a bias, or a vector of the batch norm after it, belongs to."""
    layer, _, name = path.rpartition("/")
    block, slash, layer = layer.rpartition("/")
    kernel = f"{block}{slash}{layer.replace('bn', 'conv')}/kernel"
    return kernel if name != "kernel" and re.fullmatch(KERNELS, kernel) else None


def transform_features(name: str, features: Features) -> Features:
    """Named activations after a transform."""
    return mean_channel_activations(features) if name == MEAN_ACTIVATIONS else features


def _pattern(name: str, params: Params) -> str:
    """The paths of the kernels that a shuffle permutes.

    Raises:
      ValueError: if the network has no such kernels.
    """
    kind, _, layer = name.partition(":")
    if not layer:
        pattern = KERNELS if kind in (WITH_IMAGE, BOTH, VECTORS) else _INNER_KERNELS
        matching_paths(params, pattern)
        return pattern
    convolutions = matching_paths(params, KERNELS)
    if f"{layer}/kernel" not in convolutions:
        errors.check_known(layer, list(map(_layer, convolutions)), f"the convolution of {kind}")
    return re.escape(f"{layer}/kernel")


def _layer(path: str) -> str:
    return path.removesuffix("/kernel")
