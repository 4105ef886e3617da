"""Winograd's minimal filtering for 3 x 3 convolutions of stride 1 and padding 1.

m outputs of a 3-tap filter take m + 2 multiplications instead of 3 m:
y = A^T [(G w) * (B^T x)] for a tile x of m + 2 pixels, in each of two dimensions. Over all
tiles and channels the multiplications are (m + 2)^2 matrix products. That is
fewer than in a direct convolution by a factor of 2.25 (m = 2) or 4 (m = 4); float32 rounding is
1e-6 or 1e-5 of the output's maximum. Matrices: Lavin and Gray, "Fast algorithms for convolutional
neural networks", 2015.
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

from jax import Array, lax
import jax.numpy as jnp
import numpy as np

from cnnpool.kernels.tiles import count, fit, overlap, pixels


class MinimalFilter(NamedTuple):
    """The three transforms of F(m, 3): of the input, the filter and the output."""

    B: np.ndarray
    G: np.ndarray
    A: np.ndarray


FILTERS = {
    2: MinimalFilter(
        B=np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], float).T,
        G=np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
        A=np.array([[1, 1, 1, 0], [0, 1, -1, -1]], float).T,
    ),
    4: MinimalFilter(
        B=np.array(
            [
                [4, 0, -5, 0, 1, 0],
                [0, -4, -4, 1, 1, 0],
                [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0],
                [0, 2, -1, -2, 1, 0],
                [0, 4, 0, -5, 0, 1],
            ],
            float,
        ).T,
        G=np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
        A=np.array(
            [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
            float,
        ).T,
    ),
}


def combine(matrix: np.ndarray, parts: Sequence[Array]) -> list[Array]:
    """matrix @ parts as explicit sums, because most entries are 0, 1 or -1."""
    rows = [
        [
            part if w == 1 else -part if w == -1 else part * float(w)
            for w, part in zip(weights, parts, strict=True)
            if w
        ]
        for weights in matrix
    ]
    return [sum(terms[1:], terms[0]) for terms in rows]


@functools.cache
def convolution(*, tile: int):
    """The forward and backward functions of a convolution by tiles of m x m outputs.

    Args:
      tile: m, 2 or 4.

    Returns:
      (x, kernel) -> y and (x, kernel, dy) -> (dx, dkernel).
    """
    B, G, A = FILTERS[tile]
    points = tile + 2
    G2 = np.kron(G, G)

    def transform_image(x):
        """B^T x B of every tile: (points^2, tiles, channels)."""
        n, height, width, channels = x.shape
        th, tw = count(height, tile), count(width, tile)
        x = fit(x, 1, before=1, length=th * tile + 2)
        x = fit(x, 2, before=1, length=tw * tile + 2)
        rows = jnp.stack(combine(B.T, pixels(x, 1, size=points, step=tile, tiles=th)))
        rows = lax.optimization_barrier(rows)  # else XLA fuses it with the next step: 6 times
        both = jnp.stack(combine(B.T, pixels(rows, 3, size=points, step=tile, tiles=tw)), 1)
        return both.reshape(points**2, n * th * tw, channels)

    def transform_image_transposed(dv, shape):
        n, height, width, channels = shape
        th, tw = count(height, tile), count(width, tile)
        dv = dv.reshape(points, points, n, th, tw, channels)
        rows = overlap(combine(B, [dv[:, j] for j in range(points)]), 3, step=tile)
        rows = lax.optimization_barrier(rows)
        dx = overlap(combine(B, list(rows)), 1, step=tile)
        dx = fit(dx, 1, before=-1, length=height)
        return fit(dx, 2, before=-1, length=width)

    def transform_output(products, shape):
        """A^T M A of every tile, assembled to images (batch, height, width, channels)."""
        n, height, width, channels = shape
        th, tw = count(height, tile), count(width, tile)
        products = products.reshape(points, points, n, th, tw, channels)
        rows = jnp.stack(combine(A.T, list(products)), 2)
        rows = lax.optimization_barrier(rows)  # (points, n, tile, th, tw, channels)
        both = jnp.stack(combine(A.T, list(rows)), 3)
        y = both.transpose(0, 2, 1, 4, 3, 5).reshape(n, th * tile, tw * tile, channels)
        return y[:, :height, :width]

    def transform_output_transposed(dy):
        n, height, width, channels = dy.shape
        th, tw = count(height, tile), count(width, tile)
        dy = fit(fit(dy, 1, before=0, length=th * tile), 2, before=0, length=tw * tile)
        dy = dy.reshape(n, th, tile, tw, tile, channels)
        rows = jnp.stack(combine(A, [dy[:, :, i] for i in range(tile)]))
        rows = lax.optimization_barrier(rows)
        both = jnp.stack(combine(A, [rows[:, :, :, :, j] for j in range(tile)]), 1)
        return both.reshape(points**2, n * th * tw, channels)

    def transform_kernel(kernel):
        """G w G^T: (points^2, inputs, outputs)."""
        matrix = jnp.asarray(G2, kernel.dtype)
        return lax.dot(matrix, kernel.reshape(9, -1)).reshape(-1, *kernel.shape[2:])

    def transform_kernel_transposed(du, shape):
        matrix = jnp.asarray(G2.T, du.dtype)
        return lax.dot(matrix, du.reshape(points**2, -1)).reshape(shape)

    def forward(x, kernel):
        image, filters = transform_image(x), transform_kernel(kernel)
        products = lax.dot_general(image, filters, (((2,), (1,)), ((0,), (0,))))
        return transform_output(products, (*x.shape[:3], kernel.shape[3]))

    def backward(x, kernel, dy):
        image, filters = transform_image(x), transform_kernel(kernel)
        dproducts = transform_output_transposed(dy)
        dfilters = lax.dot_general(image, dproducts, (((1,), (1,)), ((0,), (0,))))
        dimage = lax.dot_general(dproducts, filters, (((2,), (2,)), ((0,), (0,))))
        return (
            transform_image_transposed(dimage, x.shape),
            transform_kernel_transposed(dfilters, kernel.shape),
        )

    return forward, backward
