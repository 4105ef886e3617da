"""Depthwise convolution as a sum over the taps of the kernel: no products to speak of."""

from jax import Array
import jax.numpy as jnp

from cnnpool.tiles import fit, overlap, pixels


def convolution(*, stride: int, padding: int):
    """Forward and backward of a convolution with one filter a channel.

    Returns:
      (x, kernel) -> y and (x, kernel, dy) -> (dx, dkernel).
    """

    def outputs(x, kernel) -> list[int]:
        return [(x.shape[1 + d] + 2 * padding - kernel.shape[d]) // stride + 1 for d in range(2)]

    def taps(x, kernel) -> list[list[Array]]:
        """What each tap of the kernel sees."""
        size = outputs(x, kernel)
        for d in range(2):
            length = (size[d] - 1) * stride + kernel.shape[d]
            x = fit(x, 1 + d, before=padding, length=length)
        rows = pixels(x, 1, size=kernel.shape[0], step=stride, tiles=size[0])
        return [pixels(r, 2, size=kernel.shape[1], step=stride, tiles=size[1]) for r in rows]

    def forward(x, kernel):
        terms = [
            tap * kernel[i, j][None, None]
            for i, row in enumerate(taps(x, kernel))
            for j, tap in enumerate(row)
        ]
        return sum(terms[1:], terms[0])

    def backward(x, kernel, dy):
        dkernel = jnp.stack(
            [jnp.stack([(tap * dy).sum((0, 1, 2)) for tap in row]) for row in taps(x, kernel)]
        )
        rows = [
            overlap([dy * kernel[i, j][None, None] for j in range(kernel.shape[1])], 2, step=stride)
            for i in range(kernel.shape[0])
        ]
        dx = overlap(rows, 1, step=stride)
        for d in range(2):
            dx = fit(dx, 1 + d, before=-padding, length=x.shape[1 + d])
        return dx, dkernel[:, :, None]

    return forward, backward
