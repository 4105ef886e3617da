"""Oracle for the two-dimensional scale-detection data and its deformations."""

import itertools
import math

import numpy as np


def all_pairs(size: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """All unordered pairs of distinct pixels (row, column) of a d x d grid
    (protocol, section 5).
    """
    pixels = [(row, column) for row in range(size) for column in range(size)]
    return [(pixels[a], pixels[b]) for a in range(len(pixels)) for b in range(a + 1, len(pixels))]


def distance(p: tuple[int, int], q: tuple[int, int], size: int, kind: str, periodic: bool):
    """Euclidean or L-infinity distance of two pixels, on the torus if periodic
    (protocol, section 5).
    """
    shifts = [-size, 0, size] if periodic else [0]
    best = math.inf
    for shift_row, shift_column in itertools.product(shifts, shifts):
        rows, columns = abs(p[0] - q[0] + shift_row), abs(p[1] - q[1] + shift_column)
        away = math.sqrt(rows**2 + columns**2) if kind == "euclidean" else max(rows, columns)
        best = min(best, away)
    return best


def label(away: float, scale: float, gap: float) -> int:
    """+1 for dist < xi - g/2, -1 for dist >= xi + g/2, 0 where dropped
    (protocol, section 5).
    """
    if away < scale - gap / 2:
        return 1
    if away >= scale + gap / 2:
        return -1
    return 0


def image(p: tuple[int, int], q: tuple[int, int], size: int) -> np.ndarray:
    """Image with the value d^2/2 at two pixels, which add where they are one
    (protocol, section 5).
    """
    x = np.zeros((size, size))
    for row, column in (p, q):
        x[row, column] += size**2 / 2
    return x


def step_probabilities(intervals: int = 3600) -> dict[tuple[int, int], float]:
    """Distribution of a unit vector (sin, cos) of uniform angle rounded to the grid, by the
    midpoints of many equal intervals of angle (protocol, section 5).
    """
    found: dict[tuple[int, int], float] = {}
    for k in range(intervals):
        angle = 2 * math.pi * (k + 0.5) / intervals
        step = (round(math.sin(angle)), round(math.cos(angle)))
        found[step] = found.get(step, 0.0) + 1 / intervals
    return found


def moved_pixel(p: tuple[int, int], step: tuple[int, int], size: int, periodic: bool):
    """Place of a pixel after a step: clipped at the border, or on the other side if periodic
    (protocol, section 5).
    """
    moved = []
    for place, by in zip(p, step, strict=True):
        to = place + by
        moved.append(to % size if periodic else min(max(to, 0), size - 1))
    return tuple(moved)


def moved_images(p, q, size: int, periodic: bool) -> dict[bytes, float]:
    """Exact distribution of tau(x) for the image of p and q, by the image's bytes: each pixel
    moves on its own (protocol, section 5).
    """
    found: dict[bytes, float] = {}
    steps = step_probabilities()
    for (step_p, chance_p), (step_q, chance_q) in itertools.product(steps.items(), steps.items()):
        to_p, to_q = moved_pixel(p, step_p, size, periodic), moved_pixel(q, step_q, size, periodic)
        name = image(to_p, to_q, size).tobytes()
        found[name] = found.get(name, 0.0) + chance_p * chance_q
    return found
