"""Depthwise convolution as a sum over the taps of the kernel, without large matrix products.

Images are processed one by one, so that the pixels read by several taps stay in the cache. Sums
over pixels are products with a vector of ones: XLA would fuse the slices into an ordinary sum,
which is many times slower.
"""

import functools

from jax import Array, lax
import jax.numpy as jnp

from cnnpool.kernels.tiles import fit, overlap, pixels


@functools.cache
def convolution(*, stride: int, padding: int):
    """The forward and backward functions of a convolution with one filter per channel.

    Args:
      stride: stride in pixels.
      padding: zeros on every side, in pixels.

    Returns:
      (x, kernel) -> y and (x, kernel, dy) -> (dx, dkernel).
    """

    def taps(image, kernel) -> list[list[Array]]:
        """The pixels of an image that each tap of the kernel multiplies."""
        size = [(image.shape[d] + 2 * padding - kernel.shape[d]) // stride + 1 for d in range(2)]
        for d in range(2):
            length = (size[d] - 1) * stride + kernel.shape[d]
            image = fit(image, d, before=padding, length=length)
        image = lax.optimization_barrier(image)
        rows = pixels(image, 0, size=kernel.shape[0], step=stride, tiles=size[0])
        return [pixels(r, 1, size=kernel.shape[1], step=stride, tiles=size[1]) for r in rows]

    def forward(x, kernel):
        def of_image(image):
            terms = [
                tap * kernel[i, j][None]
                for i, row in enumerate(taps(image, kernel))
                for j, tap in enumerate(row)
            ]
            return sum(terms[1:], terms[0])

        return lax.map(of_image, x)

    def kernel_gradient(x, kernel, dy):
        # Values in bfloat16 are summed in float32.
        wide = jnp.promote_types(kernel.dtype, jnp.float32)

        def add_image(total, both):
            image, slope = both
            found = [
                [_sum_over_pixels((tap * slope).astype(wide)) for tap in row]
                for row in taps(image, kernel)
            ]
            return total + jnp.array(found)[:, :, None], None

        total = lax.scan(add_image, jnp.zeros(kernel.shape, wide), (x, dy))[0]
        return total.astype(kernel.dtype)

    def backward(x, kernel, dy):
        rows = [
            overlap([dy * kernel[i, j][None, None] for j in range(kernel.shape[1])], 2, step=stride)
            for i in range(kernel.shape[0])
        ]
        dx = overlap(rows, 1, step=stride)
        for d in range(2):
            dx = fit(dx, 1 + d, before=-padding, length=x.shape[1 + d])
        return dx, kernel_gradient(x, kernel, dy)

    return forward, backward


def _sum_over_pixels(values: Array) -> Array:
    rows = values.reshape(-1, values.shape[-1])
    return lax.dot(jnp.ones((1, len(rows)), rows.dtype), rows, precision="highest")[0]
