"""Two-dimensional convolutions, the fastest implementation for each platform and shape.

GPUs and TPUs use XLA's convolution. On a CPU, XLA's convolutions are slow, their gradients above
all (openxla/xla#34273), so there a convolution becomes matrix products over tiles of the
image. `cpu_algorithm` chooses which; `python -m benchmarks.convolution` measures all of them.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from jax import Array, lax
import jax.numpy as jnp

from cnnpool.devices import batch_sharding
from cnnpool.devices.divisors import largest_divisor
from cnnpool.kernels import depthwise, tiles, winograd
from cnnpool.shapes import Float

_CACHE_BYTES = 2**21  # the second-level cache of one core
_LARGE_MAP = 16 * 16


class Algorithm(NamedTuple):
    """A convolution with fixed stride, padding and groups, and its gradient.

    Attributes:
      forward: (x, kernel) -> y.
      backward: (x, kernel, dy) -> (dx, dkernel).
    """

    forward: Callable[[Array, Array], Array]
    backward: Callable[[Array, Array, Array], tuple[Array, Array]]


def xla(*, stride: int, padding: int, groups: int) -> Algorithm:
    """XLA's convolution and XLA's gradient."""

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
    """How many images' F(4 x 4, 3 x 3) transforms fit the cache; all images if maps are small.

    Small maps have many channels, and their filters, read for every chunk, fill the cache.
    """
    batch, height, width, inputs = image
    if height * width < _LARGE_MAP:
        return batch
    transformed = 36 / 16 * height * width * max(inputs, outputs)  # values per image
    return largest_divisor(batch, at_most=int(_CACHE_BYTES / (4 * transformed)))


def in_chunks(algorithm: Algorithm, size: int) -> Algorithm:
    """Applies it to a few images at a time, so that intermediate results stay in the cache.

    Args:
      algorithm: a convolution of any number of images.
      size: images per chunk; divides the batch.
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
    """The algorithm that was measured to be fastest on a CPU for these shapes.

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
    """Outputs (rows, columns) per tile: several if there are few channels."""
    kh, _, inputs, outputs = kernel
    if kh == 1 or inputs > 16:
        return 1, 1
    if outputs > 32:
        return 1, 4
    return (2, 2) if outputs > 8 else (2, 4)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
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
      kernel: w; with groups, c counts the inputs of the group that o belongs to.
      stride: s, pixels.
      padding: zeros on every side, pixels.
      groups: number of groups of channels; divides inputs and outputs.

    Raises:
      ValueError: if the channels do not fit the kernel, or the image is too small for it.
    """
    kh, kw, inputs, outputs = kernel.shape
    if inputs * groups != x.shape[-1] or outputs % groups:
        raise ValueError(
            f"kernel {kernel.shape} in {groups} groups expects {inputs * groups} input channels "
            f"and outputs that the groups divide; got an image with {x.shape[-1]} channels"
        )
    if min(x.shape[1] + 2 * padding - kh, x.shape[2] + 2 * padding - kw) < 0:
        raise ValueError(
            f"an image of {x.shape[1]} x {x.shape[2]} pixels with padding {padding} is smaller "
            f"than the kernel, {kh} x {kw}"
        )
    # Otherwise what computes x is fused into the copying of tiles and repeated for each copy.
    return _convolve(lax.optimization_barrier(x), kernel, stride, padding, groups)
