"""Transforms of filters, pytree -> pytree: channel shuffle and mean channel.

Parameters are chosen by a regular expression on their '/'-joined path. Kernels have
their input channels on axis -2 and their output channels on axis -1.
"""

import re
import zlib

from flax.traverse_util import flatten_dict, unflatten_dict
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Key

Params = dict


def matching_paths(params: Params, pattern: str) -> list[str]:
    """Paths of all parameters that `pattern` matches in full, sorted.

    Raises:
      ValueError: if there is none, with the paths that there are.
    """
    paths = sorted(flatten_dict(params, sep="/"))
    found = [path for path in paths if re.fullmatch(pattern, path)]
    if not found:
        raise ValueError(f"pattern {pattern!r} matches no parameter; there are {', '.join(paths)}")
    return found


def shuffle_channels(
    params: Params, key: Key[Array, ""], *, pattern: str, depthwise: str | None = None
) -> Params:
    """Permutes the input channels of every matching kernel at random.

    One permutation a kernel, the same for all its filters, independent between
    kernels: connections between successive layers are shuffled and the weights kept,
    so channel pooling is broken and single filters stay (paper, section 2). A depthwise
    kernel has one filter a channel and an input axis of length 1: there the filters are
    permuted, which connects every channel to another's (protocol, section 3).

    Args:
      params: nested dict.
      key: randomness of the permutations. A kernel's own depends on this and its path alone,
        so that one kernel is shuffled as it would be among all.
      pattern: of the kernels' paths, e.g. "conv(?!01).*/kernel".
      depthwise: of the paths of depthwise kernels among them; None if there are none.

    Raises:
      ValueError: if the pattern matches nothing.
    """
    flat = flatten_dict(params, sep="/")
    for path in matching_paths(params, pattern):
        axis = -1 if depthwise is not None and re.fullmatch(depthwise, path) else -2
        own_key = jax.random.fold_in(key, zlib.crc32(path.encode()))
        order = jax.random.permutation(own_key, flat[path].shape[axis])
        flat[path] = jnp.take(flat[path], order, axis=axis)
    return unflatten_dict(flat, sep="/")


def mean_channel_filters(params: Params, *, pattern: str, image_layer: str) -> Params:
    """Replaces every filter of a layer by the layer's average filter.

    Kernels are averaged over input and output channels, the image layer's over
    output channels only; biases over channels; shapes stay (protocol, section 3).

    Args:
      params: nested dict.
      pattern: of the paths to average, kernels and biases, e.g. "conv.*".
      image_layer: pattern of those among them that read the image, e.g. "conv01/.*".

    Raises:
      ValueError: if a pattern matches nothing.
    """
    flat = flatten_dict(params, sep="/")
    on_image = matching_paths(params, image_layer)
    for path in matching_paths(params, pattern):
        value = flat[path]
        axes = (-1,) if value.ndim == 1 or path in on_image else (-2, -1)
        flat[path] = jnp.broadcast_to(value.mean(axes, keepdims=True), value.shape)
    return unflatten_dict(flat, sep="/")


def mean_filters(params: Params, *, pattern: str) -> dict[str, Float[Array, "*taps"]]:
    """The raw kernels averaged over input and output channels (Table 1).

    Args:
      params: nested dict.
      pattern: of the kernels' paths.

    Returns:
      {layer: (F,) or (F, F)}, the layer being the path without its last name.
    """
    flat = flatten_dict(params, sep="/")
    return {
        path.rsplit("/", 1)[0]: flat[path].mean((-2, -1))
        for path in matching_paths(params, pattern)
    }
