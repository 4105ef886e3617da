"""Diffusion theory of the receptive field (paper, section 4 and appendix A).

A layer of constant positive filters without bias is linear on non-negative input: it
averages over F neighbours, f_k = M^k x. Everything here is exact and in float64;
where the constants printed in the paper differ, both are given.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnnpool.shapes import Float

Matrix = Float[np.ndarray, "_ _"]


def step_matrix(length: int, filter_size: int, stride: int = 1) -> Matrix:
    """One layer's average over F pixels, with the network's padding: (L/s, L).

    Row p holds 1/F at pixels s p + t - left (mod L), t = 0..F-1, left = (F-1)/2 for odd
    and F/2 - 1 for even F.
    """
    left = (filter_size - 1) // 2
    return _rows_of_averages(length, filter_size, stride, left)


def paper_step_matrix(length: int, filter_size: int) -> Matrix:
    """M of Eq. 3, divided by F so that it is stochastic: for even F one pixel further left.

    Row a holds 1/F at pixels a - F/2 .. a + F/2 - 1 for even F; for odd F it is
    `step_matrix`.
    """
    return _rows_of_averages(length, filter_size, 1, filter_size // 2)


def _rows_of_averages(length: int, filter_size: int, stride: int, left: int) -> Matrix:
    if not 1 <= filter_size <= length or length % stride:
        raise ValueError(
            f"expected 1 <= filter size <= length and a stride that divides the length; got filter "
            f"size {filter_size}, length {length}, stride {stride}"
        )
    matrix = np.zeros((length // stride, length))
    for tap in range(filter_size):
        rows = np.arange(length // stride)
        matrix[rows, (stride * rows + tap - left) % length] += 1 / filter_size
    return matrix


def layer_matrices(length: int, *, depth: int, filter_size: int, stride: int) -> list[Matrix]:
    """M_k ... M_1 for k = 1..depth: what the k-th layer does to the input."""
    product = np.eye(length)
    matrices = []
    for _ in range(depth):
        product = step_matrix(len(product), filter_size, stride) @ product
        matrices.append(product)
    return matrices


def lattice_variance(filter_size: int) -> float:
    """(F^2 - 1)/12, the exact variance that a layer of stride 1 adds, in pixels^2."""
    return (filter_size**2 - 1) / 12


def lattice_drift(filter_size: int) -> float:
    """Exact mean displacement of the response per layer, in pixels: 0, or -1/2 for even F.

    With the network's padding; the paper's M drifts by +1/2 for even F.
    """
    return 0.0 if filter_size % 2 else -0.5


def paper_diffusion_coefficient(filter_size: int) -> float:
    """D^(1) (odd F) or D^(2) (even F) as printed in Prop. A.1; the variance per layer is 2 D.

    D^(1) = (F-1)^3 / (12 F), D^(2) = (F^3 - 3F^2 + 6F - 4) / (12 F). They differ from
    the exact (F^2 - 1)/24: for F = 3 0.222 against 0.333. Eq. 9 integrates over the jump
    as a continuous variable, and has no 1/2 in front of its second moment.
    """
    f = filter_size
    return (f - 1) ** 3 / (12 * f) if f % 2 else (f**3 - 3 * f**2 + 6 * f - 4) / (12 * f)


def paper_drift(filter_size: int) -> float:
    """v^(2) = (1 - F)/(2F) of Prop. A.1 for even F, 0 for odd; the exact size is 1/2."""
    return 0.0 if filter_size % 2 else (1 - filter_size) / (2 * filter_size)


def paper_gaussian(length: int, filter_size: int, layer: int) -> Float[np.ndarray, " length"]:
    """The response to pixel 0 after k layers by Prop. A.1 (Eqs. 4 and 5), as printed.

    Returns:
      The density at pixels a = 0..L-1, a counted in [-L/2, L/2) from pixel 0.
    """
    a = ring_positions(length)
    variance = 2 * paper_diffusion_coefficient(filter_size) * layer
    center = -paper_drift(filter_size) * layer
    return np.exp(-((a - center) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def ring_positions(length: int) -> Float[np.ndarray, " length"]:
    """Signed distance of pixels 0..L-1 from pixel 0, in [-L/2, L/2)."""
    return (np.arange(length) + length // 2) % length - length / 2 + (length % 2) / 2


def receptive_field_size(layer: int, filter_size: int, stride: int = 1) -> float:
    """A_k, the standard deviation of the response to one pixel, in input pixels.

    A_k^2 = (F^2 - 1)/12 sum_{j<k} s^(2j): k (F^2-1)/12 for stride 1, (s^(2k) - 1)/12 for
    F = s. This holds on an infinite line, and on the ring while A_k << L.
    """
    spread = sum(stride ** (2 * j) for j in range(layer))
    return float(np.sqrt(lattice_variance(filter_size) * spread))


def measured_size(
    responses: Float[np.ndarray, "pixels positions channels"],
    background: Float[np.ndarray, "positions channels"],
    *,
    filter_size: int,
    stride: int,
    layer: int,
) -> float:
    """The measured A_k: root mean square distance of the response from its pixel.

    sqrt(sum m r^2 / sum m) with m = mean over channels of |f_k(a delta_i) - f_k(0)|, r the
    distance on the ring between pixel i and the centre of an output position, averaged
    over all i (docs/protocol.md, "Scale detection in one dimension"; there i = 0, the same for
    stride 1). The centre moves with the padding of even filters, so their drift does not count.

    Args:
      responses: f_k(a delta_i) for every pixel i.
      background: f_k(0).
      filter_size: F.
      stride: s.
      layer: k, which determines the input position of an output position.

    Returns:
      A_k in input pixels; NaN if nothing responds.
    """
    pixels, positions, _ = responses.shape
    shift = (filter_size - 1) / 2 - (filter_size - 1) // 2
    offset = shift * sum(stride**j for j in range(layer))
    centers = np.arange(positions) * stride**layer + offset
    apart = centers[None, :] - np.arange(pixels)[:, None]
    apart = (apart + pixels / 2) % pixels - pixels / 2
    mass = np.abs(responses.astype(np.float64) - background).mean(-1)
    return float(np.sqrt((mass * apart**2).sum() / mass.sum())) if mass.sum() > 0 else np.nan


class Prediction(NamedTuple):
    """D_k and G_k of constant positive filters for k = 1..K; NaN for dead layers."""

    D: Float[np.ndarray, " layers"]
    G: Float[np.ndarray, " layers"]


def predicted_sensitivities(
    matrices: Sequence[Matrix],
    images: Float[np.ndarray, "images length"],
    moved: Float[np.ndarray, "moves images length"],
) -> Prediction:
    """Exact expectations on the finite ring, without sampling.

    With C_tau = E (tau x - x)(tau x - x)^T over images and equally likely moves, C_x
    the covariance of the images, and sigma^2 = tr C_tau / L:
    D_k = tr(M C_tau M^T) / (2 tr(M C_x M^T)), and for eta = ReLU(N(0, sigma^2)), of mean
    mu = sigma / sqrt(2 pi) and variance sigma^2 / 2 - mu^2,
    G_k = (var tr(M M^T) + mu^2 ||M 1||^2) / (2 tr(M C_x M^T)).

    Args:
      matrices: M_k ... M_1 of each layer k, from `layer_matrices`.
      images: all images of the task.
      moved: tau(x) for every possible move of the diffeomorphism.
    """
    images, moved = np.asarray(images, np.float64), np.asarray(moved, np.float64)
    steps = (moved - images).reshape(-1, images.shape[-1])
    c_tau = steps.T @ steps / len(steps)
    centered = images - images.mean(0)
    c_x = centered.T @ centered / len(images)
    variance = np.trace(c_tau) / len(c_tau)
    mu = np.sqrt(variance / (2 * np.pi))
    D, G = [], []
    for m in matrices:
        pairs = 2 * np.trace(m @ c_x @ m.T)
        noise = (variance / 2 - mu**2) * np.trace(m @ m.T) + mu**2 * (m.sum(1) ** 2).sum()
        alive = pairs > 1e-12 * np.trace(c_x)
        D.append(np.trace(m @ c_tau @ m.T) / pairs if alive else np.nan)
        G.append(noise / pairs if alive else np.nan)
    return Prediction(np.array(D), np.array(G))
