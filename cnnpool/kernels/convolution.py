"""Two-dimensional convolutions with the fastest implementation for each platform and shape.

GPUs and TPUs use XLA's convolution. On CPUs, XLA's convolutions are slow, especially their
gradients (openxla/xla#34273), so that matrix products over tiles of the image are used there
instead. `cpu_algorithm` chooses the algorithm; `python -m benchmarks.convolution` measures all of
them.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
from jax import Array, lax
import jax.numpy as jnp

from cnnpool.devices import batch_sharding
from cnnpool.devices.divisors import largest_divisor
from cnnpool.kernels import depthwise, tiles, winograd
from cnnpool.shapes import Float

_CACHE_BYTES = 2**21  # level-2 cache of one core
_LARGE_MAP = 16 * 16  # pixels


class Algorithm(NamedTuple):
    """A convolution with fixed stride, padding and groups, and its gradient.

    Attributes:
      forward: (x, kernel) -> y.
      backward: (x, kernel, dy) -> (dx, dkernel).
    """

    forward: Callable[[Array, Array], Array]
    backward: Callable[[Array, Array, Array], tuple[Array, Array]]


@functools.cache
def xla(*, stride: int, padding: int, groups: int) -> Algorithm:
    """XLA's convolution and its gradient."""

    def forward(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((padding, padding), (padding, padding)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    return Algorithm(forward, lambda x, kernel, dy: jax.vjp(forward, x, kernel)[1](dy))


def chunk_size(image: tuple[int, ...], outputs: int) -> int:
    """The number of images whose F(4 x 4, 3 x 3) transforms fit the cache; all for small maps.

    Small maps have many channels, whose filters fill the cache and would be read for every chunk.

    Args:
      image: (batch, height, width, channels).
      outputs: number of output channels.

    Returns:
      A divisor of the batch.
    """
    batch, height, width, inputs = image
    if height * width < _LARGE_MAP:
        return batch
    transformed = 36 / 16 * height * width * max(inputs, outputs)  # values per image
    return largest_divisor(batch, at_most=int(_CACHE_BYTES / (4 * transformed)))


def in_chunks(algorithm: Algorithm, size: int) -> Algorithm:
    """Applies an algorithm to a few images at a time, so that intermediate results stay in cache.

    Args:
      algorithm: a convolution of any number of images.
      size: number of images per chunk; must divide the batch.
    """

    def split(images):
        return images.reshape(-1, size, *images.shape[1:])

    def merge(chunks):
        return chunks.reshape(-1, *chunks.shape[2:])

    def forward(x, kernel):
        return merge(lax.map(lambda chunk: algorithm.forward(chunk, kernel), split(x)))

    def backward(x, kernel, dy):
        def add(total, chunk):
            dx, dkernel = algorithm.backward(chunk[0], kernel, chunk[1])
            return total + dkernel, dx

        dkernel, dx = lax.scan(add, jnp.zeros_like(kernel), (split(x), split(dy)))
        return merge(dx), dkernel

    return Algorithm(forward, backward)


def cpu_algorithm(
    image: tuple[int, ...], kernel: tuple[int, ...], *, stride: int, padding: int, groups: int
) -> Algorithm:
    """The algorithm that is fastest on a CPU for the given shapes, by our measurements.

    Args:
      image: (batch, height, width, channels).
      kernel: (kh, kw, inputs per group, outputs).
      stride: stride in pixels.
      padding: zeros on every side, in pixels.
      groups: number of groups of channels.
    """
    batch, height, width, channels = image
    kh, kw, inputs, outputs = kernel
    if groups > 1:
        if inputs == 1 and outputs == channels:
            return Algorithm(*depthwise.convolution(stride=stride, padding=padding))
        return xla(stride=stride, padding=padding, groups=groups)
    if (kh, kw, stride, padding) == (3, 3, 1, 1) and min(inputs, outputs) >= 32:
        tile = 2 if max(height, width) <= 2 else 4
        minimal = Algorithm(*winograd.convolution(tile=tile))
        size = chunk_size(image, outputs)
        return minimal if size == batch else in_chunks(minimal, size)
    by_tiles = Algorithm(*tiles.convolution(stride=stride, padding=padding, block=_block(kernel)))
    if inputs <= 3 and outputs >= 32 and stride == 1:
        stock = xla(stride=stride, padding=padding, groups=groups)
        return Algorithm(stock.forward, by_tiles.backward)
    return by_tiles


def _cpu(x: Array, kernel: Array, **options: int) -> Algorithm:
    """The algorithm for one CPU device's share of the images."""
    shares = batch_sharding.shares(len(x))
    algorithm = cpu_algorithm((len(x) // shares, *x.shape[1:]), kernel.shape, **options)
    if shares == 1:
        return algorithm
    return Algorithm(
        batch_sharding.forward(algorithm.forward), batch_sharding.backward(algorithm.backward)
    )


def _block(kernel: tuple[int, ...]) -> tuple[int, int]:
    """Outputs (rows, columns) per tile: more than one if there are few channels."""
    kh, _, inputs, outputs = kernel
    if kh == 1 or inputs > 16:
        return 1, 1
    if outputs > 32:
        return 1, 4
    return (2, 2) if outputs > 8 else (2, 4)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(x: Array, kernel: Array, stride: int, padding: int, groups: int) -> Array:
    options = {"stride": stride, "padding": padding, "groups": groups}
    return lax.platform_dependent(
        x,
        kernel,
        cpu=_cpu(x, kernel, **options).forward,
        default=xla(**options).forward,
    )


def _convolve_forward(x, kernel, stride, padding, groups):
    return _convolve(x, kernel, stride, padding, groups), (x, kernel)


def _convolve_backward(stride, padding, groups, residuals, dy):
    x, kernel = residuals
    options = {"stride": stride, "padding": padding, "groups": groups}
    return lax.platform_dependent(
        x,
        kernel,
        dy,
        cpu=_cpu(x, kernel, **options).backward,
        default=xla(**options).backward,
    )


_convolve.defvjp(_convolve_forward, _convolve_backward)


def conv2d(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "kh kw inputs_of_group outputs"],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Float[Array, "batch h w outputs"]:
    """Cross-correlation, which deep learning libraries call convolution.

    y[n, p, q, o] = sum_{i, j, c} x[n, s p + i - padding, s q + j - padding, c] w[i, j, c, o]

    Args:
      x: images, channels last.
      kernel: w; with several groups, c runs over the input channels of the group of o.
      stride: s, in pixels.
      padding: zeros on every side, in pixels.
      groups: number of groups of channels; must divide the numbers of inputs and of outputs.

    Raises:
      ValueError: if the number of channels does not match the kernel, or the padded image is
        smaller than the kernel.
    """
    kh, kw, inputs, outputs = kernel.shape
    if inputs * groups != x.shape[-1] or outputs % groups:
        raise ValueError(
            f"kernel {kernel.shape} with {groups} groups expects {inputs * groups} input channels "
            "and a number of outputs divisible by the groups; got an image with "
            f"{x.shape[-1]} channels"
        )
    if min(x.shape[1] + 2 * padding - kh, x.shape[2] + 2 * padding - kw) < 0:
        raise ValueError(
            f"expected an image no smaller than the kernel, {kh} x {kw}; got {x.shape[1]} x "
            f"{x.shape[2]} pixels with padding {padding}"
        )
    # Without the barrier, the computation of x is fused into the copying of tiles and repeated for
    # each copy.
    return _convolve(lax.optimization_barrier(x), kernel, stride, padding, groups)
