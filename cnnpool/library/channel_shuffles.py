"""Channel shuffles for networks of any library, given the paths and axes of their kernels."""

from collections.abc import Sequence
import re
from typing import Any, NamedTuple

import jax
from jax import Array

from cnnpool.instruments.channels import Params, paths, shuffle_both_axes, shuffle_channels
from cnnpool.shapes import Key

SHUFFLE, WITH_IMAGE, BOTH = "channel_shuffle", "channel_shuffle_image", "channel_shuffle_both"


class Kernel(NamedTuple):
    """The kernel of a convolution.

    Attributes:
      path: its path in a tree of parameters.
      input_axis: the axis of input channels; None where it is not known.
      output_axis: the axis of output channels; None where it is not known.
      depthwise: whether it has an input axis of length 1 and one filter per channel.
    """

    path: str
    input_axis: int | None
    output_axis: int | None
    depthwise: bool = False


def shuffled(
    params: Params,
    kernels: Sequence[Kernel],
    transform: str,
    key: Key[Array, ""],
    *,
    label: str = "the network",
) -> Params:
    """Parameters with permuted channels, by the laws of `cnnpool.instruments.channels`.

    Kernels with one input channel that are not depthwise stay as they are.

    Args:
      params: a pytree that has the kernels.
      kernels: in the order in which they run.
      transform: SHUFFLE permutes the inputs of all but the first, WITH_IMAGE of all, BOTH inputs
        and outputs of all.
      key: randomness of the permutations; a kernel's own depends on this and its path alone.
      label: the network's name, in errors.

    Raises:
      ValueError: if there is nothing to shuffle, or a kernel's axes are not known.
    """
    shapes = dict(zip(paths(params), map(jax.numpy.shape, jax.tree.leaves(params)), strict=True))
    for kernel in chosen(kernels, transform, label):
        axes = _axes(kernel)
        pattern = re.escape(kernel.path)
        if transform == BOTH:
            params = shuffle_both_axes(params, key, pattern=pattern, **axes)
        elif kernel.depthwise:
            params = shuffle_channels(params, key, pattern=pattern, depthwise=pattern, **axes)
        elif shapes[kernel.path][axes["input_axis"]] > 1:
            params = shuffle_channels(params, key, pattern=pattern, **axes)
    return params


def chosen(kernels: Sequence[Kernel], transform: str, label: str) -> Sequence[Kernel]:
    """The kernels that a transform changes.

    Raises:
      ValueError: if there is none.
    """
    found = kernels[1:] if transform == SHUFFLE else kernels
    if not found:
        raise ValueError(f"{transform}: {label} has no convolution behind its first one")
    return found


def _axes(kernel: Kernel) -> dict[str, Any]:
    if kernel.input_axis is None or kernel.output_axis is None:
        raise ValueError(
            f"{kernel.path}: which axes of this kernel are input and output channels is not known; "
            "shuffle it with cnnpool.shuffle_channels, and measure both networks"
        )
    return {"input_axis": kernel.input_axis, "output_axis": kernel.output_axis}
