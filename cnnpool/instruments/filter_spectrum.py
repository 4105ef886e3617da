"""Spatial frequencies of convolution filters (paper, Eq. 2, Figures 3, 8, 9, 10).

Filters are projected onto the eigenvectors of the grid's Laplacian, from the constant filter,
which pools, to the checkerboard. Everything is in float64, on the host.
"""

from typing import NamedTuple

import numpy as np

from cnnpool.shapes import Float


def laplacian_modes(
    size: int,
) -> tuple[Float[np.ndarray, "modes size size"], Float[np.ndarray, " modes"]]:
    """Psi_l and lambda_l of the F x F grid with free boundaries.

    The combinatorial Laplacian, degree minus adjacency with 4 neighbours, is a sum over
    rows and columns, so that products of cosines diagonalize it:
    Psi(r, c) ~ cos(pi i (r + 1/2) / F) cos(pi j (c + 1/2) / F), i, j = 0..F-1, with
    lambda = (2 - 2 cos(pi i / F)) + (2 - 2 cos(pi j / F)); F = 3 has
    0, 1, 1, 2, 3, 3, 4, 4, 6. The basis of a degenerate eigenspace is arbitrary; this is
    one choice (docs/protocol.md, "Filter spectra").

    Args:
      size: F, at least 1.

    Returns:
      Orthonormal modes and their eigenvalues, ascending, equal ones ordered by i, then
      by j: (0, 1), which varies from column to column, comes before (1, 0). Eigenvalues are
      rounded to 12 digits, so that degenerate ones are equal.

    Raises:
      ValueError: if F < 1.
    """
    if size < 1:
        raise ValueError(f"expected a filter size of 1 or more, got {size}")
    i = np.arange(size)
    waves = np.cos(np.pi * i[:, None] * (i + 0.5) / size)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    modes = np.einsum("ir,jc->ijrc", waves, waves).reshape(-1, size, size)
    one_axis = 2 - 2 * np.cos(np.pi * i / size)
    eigenvalues = (one_axis[:, None] + one_axis).ravel().round(12)
    order = np.argsort(eigenvalues, kind="stable")
    return modes[order], eigenvalues[order]


class Spectrum(NamedTuple):
    """How the power of a layer's filters is spread over spatial frequencies; l = 1..F^2 ascends.

    Standard errors are over pairs of channels, as if filters were independent; NaN if there
    is only one pair.

    Attributes:
      eigenvalues: lambda_l.
      power: gamma_l = <(Psi_l . w)^2> over all (in, out) pairs of channels (Eq. 2).
      power_se: its standard error.
      mean_frequency: the aggregate of Figure 8,
        N / (sum_l lambda_l) sum_l lambda_l gamma_l / <||w||^2>, N = F^2: 0 for constant
        filters, 1 for white ones. NaN for F = 1 (all lambda are 0) and where all weights are 0.
      mean_frequency_se: its standard error, that of a ratio of means to first order.
    """

    eigenvalues: Float[np.ndarray, " modes"]
    power: Float[np.ndarray, " modes"]
    power_se: Float[np.ndarray, " modes"]
    mean_frequency: float
    mean_frequency_se: float


def spectrum(kernel: Float[np.ndarray, "rows columns inputs outputs"]) -> Spectrum:
    """The spectrum of a convolution's filters.

    Args:
      kernel: F x F, input channels, output channels. A depthwise kernel, with one input
        channel, is averaged over its filters.

    Raises:
      ValueError: if filters are not square.
    """
    rows, columns, inputs, outputs = kernel.shape
    if rows != columns:
        raise ValueError(
            f"expected square filters on the first two axes, got {rows} x {columns}; a kernel's "
            f"shape is (F, F, inputs, outputs)"
        )
    modes, eigenvalues = laplacian_modes(rows)
    filters = np.asarray(kernel, np.float64).reshape(rows * columns, inputs * outputs)
    squares = (modes.reshape(-1, rows * columns) @ filters) ** 2
    frequency, frequency_se = _mean_frequency(squares, eigenvalues)
    return Spectrum(
        eigenvalues=eigenvalues,
        power=squares.mean(1),
        power_se=_standard_error(squares),
        mean_frequency=frequency,
        mean_frequency_se=frequency_se,
    )


def random_power(fan_in: int) -> float:
    """gamma_l of PyTorch's default initialization, the same for every l: 1 / (3 fan_in).

    Weights are independent and uniform in +-1/sqrt(fan_in), of variance 1/(3 fan_in), and
    Psi_l has unit norm.

    Args:
      fan_in: F^2 times the input channels of a filter.

    Raises:
      ValueError: if it is not positive.
    """
    if fan_in < 1:
        raise ValueError(f"expected a fan-in of 1 or more, got {fan_in}")
    return 1 / (3 * fan_in)


def he_power(fan_out: int) -> float:
    """gamma_l of He's normal initialization (mode fan_out), the same for every l: 2 / fan_out.

    torchvision's VGG, ResNet and EfficientNet start from weights of that variance.

    Args:
      fan_out: F^2 times the output channels of a layer.

    Raises:
      ValueError: if it is not positive.
    """
    if fan_out < 1:
        raise ValueError(f"expected a fan-out of 1 or more, got {fan_out}")
    return 2 / fan_out


def _mean_frequency(
    squares: Float[np.ndarray, "modes pairs"], eigenvalues: Float[np.ndarray, " modes"]
) -> tuple[float, float]:
    """The aggregate of Figure 8, and its standard error by the delta method."""
    norms = squares.sum(0)  # ||w||^2, by Parseval
    if not (eigenvalues.sum() > 0 and norms.sum() > 0):
        return np.nan, np.nan
    weighted = eigenvalues @ squares * (len(eigenvalues) / eigenvalues.sum())
    ratio = weighted.mean() / norms.mean()
    error = _standard_error((weighted - ratio * norms)[None])[0] / norms.mean()
    return float(ratio), float(error)


def _standard_error(samples: Float[np.ndarray, "rows pairs"]) -> Float[np.ndarray, " rows"]:
    """Standard error of the mean over the last axis; NaN for a single sample."""
    pairs = samples.shape[1]
    if pairs < 2:
        return np.full(len(samples), np.nan)
    return samples.std(1, ddof=1) / np.sqrt(pairs)
