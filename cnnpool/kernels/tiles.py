"""Convolution as one matrix product over tiles of the image.

A tile of (b - 1) s + k pixels per side is the receptive field of b x b neighbouring outputs of a
k x k kernel with stride s: on a tile, the convolution is a fully connected layer. b = 1 is the
well-known im2col, which has no redundant multiplications; with few channels, larger blocks of
outputs need less copying and make the product wide enough for a CPU. Blocks need not be square.
"""

from collections.abc import Sequence
import functools

from jax import Array, lax
import jax.numpy as jnp
import numpy as np

from cnnpool.shapes import Float


def count(size: int, step: int) -> int:
    """The number of tiles of `step` outputs that cover `size` outputs: ceil(size / step)."""
    return -(-size // step)


def fit(x: Array, axis: int, *, before: int, length: int) -> Array:
    """Adds `before` zeros at the start of an axis (or crops, if negative), then fits its length.

    The end of the axis is padded with zeros or cropped so that it has `length` elements.
    """
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (before, length - before - x.shape[axis], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def pixels(x: Array, axis: int, *, size: int, step: int, tiles: int) -> list[Array]:
    """The i-th pixel of every tile along an axis, for i = 0..size-1."""
    last = (tiles - 1) * step + 1
    return [lax.slice_in_dim(x, i, i + last, step, axis) for i in range(size)]


def overlap(parts: Sequence[Array], axis: int, *, step: int) -> Array:
    """The transpose of `pixels`: sums tiles where they overlap.

    Args:
      parts: the i-th pixel of every tile.
      axis: the axis of each part that runs over tiles.
      step: distance between tiles, in pixels.

    Returns:
      The line of pixels; its length is at least (tiles - 1) step + len(parts), filled with zeros.
    """
    tiles, levels = parts[0].shape[axis], count(len(parts), step)
    columns = []
    for residue in range(step):
        shifted = [
            fit(part, axis, before=level, length=tiles + levels - 1)
            for level, part in enumerate(parts[residue::step])
        ]
        zeros = fit(jnp.zeros_like(parts[0]), axis, before=0, length=tiles + levels - 1)
        columns.append(sum(shifted[1:], shifted[0]) if shifted else zeros)
    joined = jnp.stack(columns, axis + 1)
    return joined.reshape(*joined.shape[:axis], -1, *joined.shape[axis + 2 :])


def rows_of_tiles(
    x: Float[Array, "batch height width channels"],
    *,
    tile: Sequence[int],
    step: Sequence[int],
    tiles: Sequence[int],
) -> Float[Array, "rows inputs"]:
    """All tiles as rows of a matrix.

    Gathers whole lines of a tile, which are contiguous in memory. With few channels, this is
    several times faster than slices of single pixels.
    """
    batch, _, width, channels = x.shape
    if tuple(tile) == (1, 1):  # nothing to gather, and a gather of single pixels is slow
        return x[:, :: step[0], :: step[1]].reshape(-1, channels)
    line = np.arange(tile[0]) * width
    corner = (np.arange(tiles[0]) * step[0] * width)[:, None] + np.arange(tiles[1]) * step[1]
    starts = (corner[:, :, None] + line) * channels
    lines = lax.GatherDimensionNumbers(
        offset_dims=(0, 2),
        collapsed_slice_dims=(),
        start_index_map=(1,),
    )
    found = lax.gather(
        x.reshape(batch, -1),
        starts.reshape(-1, 1),
        lines,
        (batch, tile[1] * channels),
        mode="promise_in_bounds",
    )
    return found.reshape(batch * tiles[0] * tiles[1], -1)


@functools.cache
def convolution(*, stride: int, padding: int, block: tuple[int, int]):
    """The forward and backward functions of a convolution by tiles.

    Args:
      stride: stride in pixels.
      padding: zeros on every side, in pixels.
      block: number of outputs per tile (rows, columns).

    Returns:
      (x, kernel) -> y and (x, kernel, dy) -> (dx, dkernel).
    """
    step = tuple(b * stride for b in block)

    def sizes(x_shape, kernel_shape):
        """The sizes (height, width) of the outputs, the tiling and a tile, in that order."""
        outputs = [(x_shape[1 + d] + 2 * padding - kernel_shape[d]) // stride + 1 for d in range(2)]
        tile = [(block[d] - 1) * stride + kernel_shape[d] for d in range(2)]
        return outputs, [count(size, b) for size, b in zip(outputs, block, strict=True)], tile

    def patches(x, kernel_shape):
        """All tiles as rows of a matrix."""
        _, tiles, tile = sizes(x.shape, kernel_shape)
        for d in range(2):
            x = fit(x, 1 + d, before=padding, length=(tiles[d] - 1) * step[d] + tile[d])
        return rows_of_tiles(x, tile=tile, step=step, tiles=tiles)

    def dense(kernel):
        """The weights of the fully connected layer on a tile."""
        kh, kw, c, o = kernel.shape
        tile = [(b - 1) * stride + k for b, k in zip(block, (kh, kw), strict=True)]

        def at(u, v):
            moved = fit(kernel, 0, before=u * stride, length=tile[0])
            return fit(moved, 1, before=v * stride, length=tile[1])

        moved = [at(u, v) for u in range(block[0]) for v in range(block[1])]
        return jnp.stack(moved, 3).reshape(tile[0] * tile[1] * c, block[0] * block[1] * o)

    def dense_transposed(weights, kernel_shape):
        kh, kw, c, o = kernel_shape
        tile = [(b - 1) * stride + k for b, k in zip(block, (kh, kw), strict=True)]
        weights = weights.reshape(*tile, c, block[0] * block[1], o)
        kernels = [
            weights[u * stride : u * stride + kh, v * stride : v * stride + kw, :, u * block[1] + v]
            for u in range(block[0])
            for v in range(block[1])
        ]
        return sum(kernels[1:], kernels[0])

    def forward(x, kernel):
        outputs, tiles, _ = sizes(x.shape, kernel.shape)
        y = lax.dot(patches(x, kernel.shape), dense(kernel))
        y = y.reshape(len(x), *tiles, *block, -1)
        if block[0] > 1:
            y = y.transpose(0, 1, 3, 2, 4, 5)
        y = y.reshape(len(x), tiles[0] * block[0], tiles[1] * block[1], -1)
        # Without the barrier, the transposition is repeated in every operation that reads y.
        return lax.optimization_barrier(y[:, : outputs[0], : outputs[1]])

    def backward(x, kernel, dy):
        _, tiles, tile = sizes(x.shape, kernel.shape)
        for d in range(2):
            dy = fit(dy, 1 + d, before=0, length=tiles[d] * block[d])
        if block[0] > 1:
            dy = dy.reshape(len(x), tiles[0], block[0], tiles[1], block[1], -1)
            dy = dy.transpose(0, 1, 3, 2, 4, 5)
        dy = dy.reshape(len(x) * tiles[0] * tiles[1], -1)
        dweights = lax.dot_general(patches(x, kernel.shape), dy, (((0,), (0,)), ((), ())))
        dtiles = lax.dot_general(dy, dense(kernel), (((1,), (1,)), ((), ())))
        dtiles = dtiles.reshape(len(x), *tiles, tile[0], tile[1], -1)
        columns = overlap([dtiles[:, :, :, :, j] for j in range(tile[1])], 2, step=step[1])
        dx = overlap([columns[:, :, :, i] for i in range(tile[0])], 1, step=step[0])
        for d in range(2):
            dx = fit(dx, 1 + d, before=-padding, length=x.shape[1 + d])
        return dx, dense_transposed(dweights, kernel.shape)

    return forward, backward
