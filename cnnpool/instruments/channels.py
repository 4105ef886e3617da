"""Transforms of filters, pytree -> pytree: channel shuffles and mean channel.

Any pytree of parameters will do: nested dicts of Flax, the state of an NNX model, an Equinox
module. Parameters are chosen by a regular expression on their '/'-joined path (`paths` lists
them). A kernel has its input channels on axis -2 and its output channels on axis -1, as in
Flax; PyTorch and Equinox have them on `input_axis=1, output_axis=0`.
"""

from collections.abc import Callable
import re
from typing import Any
import zlib

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from cnnpool.shapes import Float, Key

Params = Any
Kernel = Array | np.ndarray
_WINDOWS = (1, 3, 5, 7, 9, 11)  # rows or columns of kernels


def paths(params: Params) -> list[str]:
    """Paths of all leaves, in the order of the tree's leaves: "block1/conv/kernel"."""
    found, _ = jax.tree_util.tree_flatten_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in found]


def matching_paths(params: Params, pattern: str) -> list[str]:
    """Paths of all parameters that `pattern` matches in full, sorted.

    Raises:
      ValueError: if there is none; the message lists the paths that there are.
    """
    there = sorted(paths(params))
    found = [path for path in there if re.fullmatch(pattern, path)]
    if not found:
        raise ValueError(f"pattern {pattern!r} matches no parameter; there are {', '.join(there)}")
    return found


def shuffle_channels(
    params: Params,
    key: Key[Array, ""],
    *,
    pattern: str,
    depthwise: str | None = None,
    input_axis: int = -2,
    output_axis: int = -1,
) -> Params:
    """Permutes the input channels of every matching kernel at random.

    One permutation per kernel, the same for all its filters and independent between
    kernels. This shuffles the connections between successive layers and keeps the weights, so
    it breaks channel pooling and keeps single filters (paper, section 2). A depthwise
    kernel has one filter per channel and an input axis of length 1: there the filters are
    permuted, which connects every channel to
    the filter of another (docs/protocol.md, "Channel shuffles").

    Args:
      params: a pytree.
      key: randomness of the permutations. A kernel's permutation depends only on this and its
        path, so that a kernel is shuffled the same way alone or together with others.
      pattern: regular expression for the kernels' paths, e.g. "conv(?!01).*/kernel".
      depthwise: regular expression for the depthwise ones among them; None if there are none.
      input_axis: axis of the input channels.
      output_axis: axis of the output channels; depthwise kernels are permuted along it.

    Raises:
      ValueError: if a pattern matches nothing, or something that is no kernel, or a kernel with
        one channel to permute, or whose given axes look like rows and columns.
    """
    by_channel = [] if depthwise is None else matching_paths(params, depthwise)

    def permuted(path: str, kernel: Kernel) -> Array:
        axis = output_axis if path in by_channel else input_axis
        _check_has_kernel(path, kernel, pattern)
        _check_kernel_axes(path, kernel.shape, input_axis, output_axis)
        if kernel.shape[axis] == 1:
            raise ValueError(
                f"{path} has shape {kernel.shape}, one channel on axis {axis}: nothing to permute; "
                "match it with depthwise= too if it is depthwise, else leave it out of pattern="
            )
        return _permuted(kernel, _key_of(path, key), axis)

    return _changed(params, matching_paths(params, pattern), permuted)


def shuffle_both_axes(
    params: Params,
    key: Key[Array, ""],
    *,
    pattern: str,
    input_axis: int = -2,
    output_axis: int = -1,
) -> Params:
    """Permutes the input and the output channels of every matching kernel at random.

    Two independent permutations per kernel. Biases and the vectors of batch normalization stay
    where they are, so every filter also gets the bias and the statistics of another one. This
    is the shuffle of the authors' first published program (docs/protocol.md,
    "Channel shuffles"). If the biases and statistics moved along with the outputs, this would be
    the same as a shuffle of input channels alone: the order of a layer's channels is arbitrary.

    Args:
      params: a pytree.
      key: randomness of the permutations. A kernel's permutations depend only on this and its
        path; its input permutation is that of `shuffle_channels` with the same key.
      pattern: regular expression for the kernels' paths, e.g. "conv.*/kernel". An axis of length
        1, such as the inputs of a depthwise kernel or of gray images, stays as it is.
      input_axis: axis of the input channels.
      output_axis: axis of the output channels.

    Raises:
      ValueError: if the pattern matches nothing, or something that is no kernel, or whose given
        axes look like rows and columns.
    """

    def permuted(path: str, kernel: Kernel) -> Array:
        _check_has_kernel(path, kernel, pattern)
        _check_kernel_axes(path, kernel.shape, input_axis, output_axis)
        inputs = _key_of(path, key)
        return _permuted(_permuted(kernel, inputs, input_axis), _outputs_key(inputs), output_axis)

    return _changed(params, matching_paths(params, pattern), permuted)


def shuffle_vectors(
    params: Params, key: Key[Array, ""], *, kernel_of: Callable[[str], str | None]
) -> Params:
    """Permutes biases and batch-norm vectors at random, and leaves all kernels alone.

    One permutation per kernel, for all vectors that belong to its output channels. With the same
    key, every filter gets the bias and the statistics that it gets from `shuffle_both_axes`, while
    the connections between channels stay as they were: a control that tells how much of that
    shuffle's effect does not come from them.

    Args:
      params: a pytree.
      key: randomness of the permutations, which depend only on this and the kernels' paths.
      kernel_of: maps the path of a vector of shape (outputs,) to that of the kernel whose outputs
        it belongs to, as `shuffle_both_axes` sees it; all other paths to None.

    Raises:
      ValueError: if no path belongs to a kernel; the message lists the paths that there are.
    """
    there = paths(params)
    owners = {path: kernel for path in there if (kernel := kernel_of(path)) is not None}
    if not owners:
        raise ValueError(f"there is no vector to permute; there are {', '.join(sorted(there))}")

    def permuted(path: str, vector: Array | np.ndarray) -> Array:
        order = jax.random.permutation(_outputs_key(_key_of(owners[path], key)), vector.shape[0])
        return jnp.take(vector, jnp.argsort(order), axis=0)

    return _changed(params, list(owners), permuted)


def _outputs_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """The randomness of the permutation of a kernel's output channels."""
    return jax.random.fold_in(key, 1)


def _key_of(path: str, key: Key[Array, ""]) -> Key[Array, ""]:
    """A kernel's key, which does not depend on the other kernels that are shuffled."""
    return jax.random.fold_in(key, zlib.crc32(path.encode()))


def _permuted(kernel: Kernel, key: Key[Array, ""], axis: int) -> Array:
    return jnp.take(kernel, jax.random.permutation(key, kernel.shape[axis]), axis=axis)


def _check_has_kernel(path: str, kernel: Kernel, pattern: str) -> None:
    if jnp.ndim(kernel) < 2:
        raise ValueError(
            f"{path} matches {pattern!r} and is no kernel: its shape is {jnp.shape(kernel)}"
        )


def _check_kernel_axes(
    path: str, shape: tuple[int, ...], input_axis: int, output_axis: int
) -> None:
    """Raises ValueError if a kernel's given axes look like rows and columns and the others do not.

    Only for kernels of 2-D convolutions, whose rows and columns are equal, odd and few. A kernel
    of shape (3, 3, 3, 3) is ambiguous and passes.
    """
    if len(shape) != 4:
        return
    given = (shape[input_axis], shape[output_axis])
    channels = {input_axis % 4, output_axis % 4}
    others = tuple(size for axis, size in enumerate(shape) if axis not in channels)
    if _like_a_window(given) and not _like_a_window(others):
        raise ValueError(
            f"{path or 'the kernel'} has shape {shape}: its axes {input_axis} and {output_axis}, "
            f"of lengths {given[0]} and {given[1]}, look like rows and columns, not like input and "
            "output channels; PyTorch's and Equinox's are on input_axis=1, output_axis=0"
        )


def _like_a_window(sizes: tuple[int, ...]) -> bool:
    return len(set(sizes)) == 1 and sizes[0] in _WINDOWS


def mean_channel_filters(
    params: Params,
    *,
    pattern: str,
    image_layer: str,
    input_axis: int = -2,
    output_axis: int = -1,
) -> Params:
    """Replaces every filter of a layer by the layer's average filter.

    Kernels are averaged over input and output channels, the image layer's over
    output channels only; biases over channels. Shapes are kept (docs/protocol.md, "Mean channel").

    Args:
      params: a pytree.
      pattern: regular expression for the paths of kernels and biases, e.g. "conv.*".
      image_layer: regular expression for those of them that read the image, e.g. "conv01/.*".
      input_axis: axis of the kernels' input channels.
      output_axis: axis of the kernels' output channels.

    Raises:
      ValueError: if a pattern matches nothing.
    """
    on_image = matching_paths(params, image_layer)

    def averaged(path: str, value: Kernel) -> Array:
        _check_kernel_axes(path, value.shape, input_axis, output_axis)
        only_output = value.ndim == 1 or path in on_image
        axes = (output_axis,) if only_output else (input_axis, output_axis)
        return jnp.broadcast_to(value.mean(axes, keepdims=True), value.shape)

    return _changed(params, matching_paths(params, pattern), averaged)


def mean_filters(
    params: Params, *, pattern: str, input_axis: int = -2, output_axis: int = -1
) -> dict[str, Float[Array, "*taps"]]:
    """The raw kernels averaged over input and output channels (Table 1).

    Args:
      params: a pytree.
      pattern: regular expression for the kernels' paths.
      input_axis: axis of the input channels.
      output_axis: axis of the output channels.

    Returns:
      {layer: (F,) or (F, F)}, the layer being the path without its last name.
    """
    leaves = dict(zip(paths(params), jax.tree.leaves(params), strict=True))
    return {
        path.rsplit("/", 1)[0]: leaves[path].mean((input_axis, output_axis))
        for path in matching_paths(params, pattern)
    }


def _changed(params: Params, chosen: list[str], change: Any) -> Params:
    """The same tree with the chosen leaves replaced by `change(path, leaf)`."""
    leaves, structure = jax.tree.flatten(params)
    new = [
        change(path, leaf) if path in chosen else leaf
        for path, leaf in zip(paths(params), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, new)
