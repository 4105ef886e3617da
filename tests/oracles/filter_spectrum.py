"""Oracle for filter spectra: the grid's Laplacian as a matrix, and filters one by one."""

import itertools
import math

import numpy as np


def laplacian(size: int) -> np.ndarray:
    """Degree minus adjacency of the F x F grid, 4 neighbours, free boundaries, pixels in row-major
    order (protocol, section 4).
    """
    matrix = np.zeros((size * size, size * size))
    for row, column in itertools.product(range(size), range(size)):
        for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            other_row, other_column = row + down, column + right
            if 0 <= other_row < size and 0 <= other_column < size:
                here, there = row * size + column, other_row * size + other_column
                matrix[here, here] += 1
                matrix[here, there] -= 1
    return matrix


def filters(kernel: np.ndarray) -> list[np.ndarray]:
    """The F^2 weights of every (in, out) pair of channels."""
    _, _, inputs, outputs = kernel.shape
    return [kernel[:, :, i, o].ravel() for i, o in itertools.product(range(inputs), range(outputs))]


def eigenspace_power(kernel: np.ndarray) -> list[tuple[float, float]]:
    """(lambda, sum of gamma_l over lambda's eigenspace), ascending: what does not depend on the
    basis of degenerate eigenvalues (paper, Eq. 2).
    """
    values, vectors = np.linalg.eigh(laplacian(kernel.shape[0]))
    pairs = filters(kernel)
    found: list[tuple[float, float]] = []
    for value, vector in zip(values, vectors.T, strict=True):
        gamma = sum(float(vector @ w) ** 2 for w in pairs) / len(pairs)
        if found and abs(found[-1][0] - value) < 1e-6:
            found[-1] = (found[-1][0], found[-1][1] + gamma)
        else:
            found.append((float(value), gamma))
    return found


def mean_frequency(pairs: list[np.ndarray], size: int) -> float:
    """The aggregate of Figure 8's caption, without eigenvectors: sum_l lambda_l (Psi_l . w)^2 is
    w . L w, the sum of squared differences of neighbours, and sum_l lambda_l the trace.
    """
    matrix = laplacian(size)
    rough = sum(float(w @ matrix @ w) for w in pairs) / len(pairs)
    norm = sum(float(w @ w) for w in pairs) / len(pairs)
    return size**2 / float(np.trace(matrix)) * rough / norm


def jackknife_error(values: list[float]) -> float:
    """Standard error from estimates that each leave one pair out."""
    n, mean = len(values), sum(values) / len(values)
    return math.sqrt((n - 1) / n * sum((v - mean) ** 2 for v in values))


def jackknife_mean_frequency(kernel: np.ndarray) -> float:
    """Standard error of `mean_frequency`, leaving out one pair of channels at a time."""
    pairs, size = filters(kernel), kernel.shape[0]
    return jackknife_error(
        [mean_frequency(pairs[:k] + pairs[k + 1 :], size) for k in range(len(pairs))]
    )


def jackknife_power(kernel: np.ndarray, mode: np.ndarray) -> float:
    """Standard error of gamma of one mode, leaving out one pair of channels at a time."""
    squares = [float(mode.ravel() @ w) ** 2 for w in filters(kernel)]
    n = len(squares)
    return jackknife_error([sum(squares[:k] + squares[k + 1 :]) / (n - 1) for k in range(n)])


def bootstrap_mean_frequency(kernel: np.ndarray, resamples: int, seed: int) -> float:
    """Standard error of `mean_frequency`, drawing pairs of channels with replacement."""
    pairs, size = filters(kernel), kernel.shape[0]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        chosen = rng.integers(len(pairs), size=len(pairs))
        values.append(mean_frequency([pairs[k] for k in chosen], size))
    return float(np.std(values, ddof=1))


def uniform_square_variance(fan_in: int, mode: np.ndarray) -> float:
    """Var (Psi . w)^2 for independent w uniform in +-a, a = 1/sqrt(fan_in), and ||Psi|| = 1.

    E (Psi . w)^4 = 3 s^4 + kappa sum Psi^4 with s^2 = a^2/3 and the fourth cumulant
    kappa = a^4/5 - 3 s^4 = -2 a^4/15.
    """
    a = 1 / math.sqrt(fan_in)
    s = a / math.sqrt(3)
    return 2 * s**4 - 2 * a**4 / 15 * float((mode**4).sum())
