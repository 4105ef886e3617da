"""Oracle for max-entropy diffeomorphisms: one pixel and one mode at a time, in float64."""

import math

import numpy as np


def modes(cutoff: int) -> list[tuple[int, int]]:
    """All (i, j) with 1 <= i, j <= c and i^2 + j^2 <= (c + 1/2)^2 (protocol, section 1)."""
    return [
        (i, j)
        for i in range(1, cutoff + 1)
        for j in range(1, cutoff + 1)
        if i**2 + j**2 <= (cutoff + 0.5) ** 2
    ]


def temperature(delta: float, size: int, cutoff: int) -> float:
    """T that solves delta = n sqrt(pi T ln c) / 2, by bisection (protocol, section 1)."""
    low, high = 0.0, delta**2
    for _ in range(200):
        middle = (low + high) / 2
        if size * math.sqrt(math.pi * middle * math.log(cutoff)) / 2 < delta:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def component(coefficients: dict[tuple[int, int], float], u: float, v: float, size: int) -> float:
    """One component of the displacement at (u, v) in pixels: n sum C_ij / sqrt(i^2 + j^2)
    sin(i pi u) sin(j pi v) (protocol, section 1).
    """
    total = 0.0
    for (i, j), c in coefficients.items():
        wave = math.sin(i * math.pi * u) * math.sin(j * math.pi * v)
        total += c / math.sqrt(i**2 + j**2) * wave
    return size * total


def field(coefficients: dict[tuple[int, int], float], size: int) -> np.ndarray:
    """One component of the displacement at all pixels, which sit at linspace(0, 1, n) (protocol,
    section 1).
    """
    out = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            u, v = row / (size - 1), column / (size - 1)
            out[row, column] = component(coefficients, u, v, size)
    return out


def variance(t: float, u: float, v: float, size: int, cutoff: int) -> float:
    """Var of one component at (u, v), in pixels^2: n^2 T sum sin^2 sin^2 / (i^2 + j^2)
    (protocol, section 1).
    """
    total = 0.0
    for i, j in modes(cutoff):
        wave = math.sin(i * math.pi * u) * math.sin(j * math.pi * v)
        total += wave**2 / (i**2 + j**2)
    return size**2 * t * total


def variances(t: float, size: int, cutoff: int) -> np.ndarray:
    """`variance` at all pixels."""
    out = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            out[row, column] = variance(t, row / (size - 1), column / (size - 1), size, cutoff)
    return out


def coefficients_of(component_field: np.ndarray) -> np.ndarray:
    """C_ij, i, j = 1..n-2, of a component that vanishes on the border: sines are orthogonal on
    the grid, sum_k sin(i pi k/(n-1)) sin(j pi k/(n-1)) = (n - 1)/2 where i = j.
    """
    size = len(component_field)
    out = np.zeros((size - 2, size - 2))
    for i in range(1, size - 1):
        for j in range(1, size - 1):
            wave = np.array(
                [
                    [
                        math.sin(i * math.pi * row / (size - 1))
                        * math.sin(j * math.pi * column / (size - 1))
                        for column in range(size)
                    ]
                    for row in range(size)
                ]
            )
            projection = float((component_field * wave).sum()) * (2 / (size - 1)) ** 2
            out[i - 1, j - 1] = projection * math.sqrt(i**2 + j**2) / size
    return out


def source(place: int, by: float, size: int) -> float:
    """The clamped coordinate that a pixel is sampled at (protocol, section 1)."""
    return min(max(place - by, 0.0), size - 1.0)


def warp_nearest(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The nearest pixel, the higher one from halfway, at (row - dy, column - dx) (protocol,
    section 1).
    """
    size = len(image)
    out = np.zeros_like(image)
    for row in range(size):
        for column in range(size):
            y = source(row, displacement[0, row, column], size)
            x = source(column, displacement[1, row, column], size)
            out[row, column] = image[math.floor(y + 0.5), math.floor(x + 0.5)]
    return out


def warp_gaussian(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The average of all pixels of the image with weights exp(-d^2 / (2 sigma^2)), d the distance
    to (row - dy, column - dx), sigma = 0.4715; nothing truncated (protocol, section 1).
    """
    size = len(image)
    out = np.zeros_like(image)
    for row in range(size):
        for column in range(size):
            y = source(row, displacement[0, row, column], size)
            x = source(column, displacement[1, row, column], size)
            total, mass = np.zeros(image.shape[2]), 0.0
            for other_row in range(size):
                for other_column in range(size):
                    square = (other_row - y) ** 2 + (other_column - x) ** 2
                    weight = math.exp(-square / (2 * 0.4715**2))
                    total += weight * image[other_row, other_column]
                    mass += weight
            out[row, column] = total / mass
    return out
