"""Oracle for the one-dimensional scale-detection data and its deformations."""

import itertools

import numpy as np


def all_pairs(length: int) -> list[tuple[int, int]]:
    """All pairs i < j of pixels of the ring, in lexicographic order: L (L - 1) / 2 of them
    (protocol, section 6).
    """
    return [(i, j) for i in range(length) for j in range(i + 1, length)]


def ring_distance(i: int, j: int, length: int) -> int:
    """Distance on the ring, d = min(|i - j|, L - |i - j|) (protocol, section 6)."""
    return min(abs(i - j), length - abs(i - j))


def sector(i: int, length: int, scale: int) -> int:
    """Sector of pixel i when the L pixels are cut into L / xi sectors of xi neighbours, the first
    one starting at pixel 0: i // xi (protocol, section 6, task 2).
    """
    if length % scale != 0:
        raise ValueError("the scale must divide the length")
    return i // scale


def label(i: int, j: int, length: int, scale: int, gap: float, task: str) -> int:
    """Label of the pair (i, j), 0 where it is dropped. Task "distance": +1 for d < xi - g/2,
    -1 for d >= xi + g/2, dropped between. Task "sector": +1 where both pixels lie in the same
    sector, else -1; the gap is not used (protocol, section 6).
    """
    if task == "distance":
        distance = ring_distance(i, j, length)
        if distance < scale - gap / 2:
            return 1
        if distance >= scale + gap / 2:
            return -1
        return 0
    if task == "sector":
        return 1 if sector(i, length, scale) == sector(j, length, scale) else -1
    raise ValueError(f"unknown task {task!r}")


def labelled_pairs(length: int, scale: int, gap: float, task: str) -> list[tuple[int, int, int]]:
    """The pairs that are kept with their labels, (i, j, y), in the order of `all_pairs`
    (protocol, section 6).
    """
    kept = []
    for i, j in all_pairs(length):
        y = label(i, j, length, scale, gap, task)
        if y != 0:
            kept.append((i, j, y))
    return kept


def image(i: int, j: int, length: int) -> np.ndarray:
    """Image of L pixels with two active ones, each of value sqrt(L / 2), so that ||x||^2 = L;
    pixels on one place add their values (protocol, section 6).
    """
    x = np.zeros(length)
    x[i] += np.sqrt(length / 2)
    x[j] += np.sqrt(length / 2)
    return x


def images_and_labels(
    length: int, scale: int, gap: float, task: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images (P, L) and labels (P,) of +1 and -1, in the order of `labelled_pairs`
    (protocol, section 6).
    """
    pairs = labelled_pairs(length, scale, gap, task)
    images = np.array([image(i, j, length) for i, j, _ in pairs])
    labels = np.array([float(y) for _, _, y in pairs])
    return images, labels


def moved_pixel(i: int, step: int, length: int, boundary: str) -> int:
    """Place of pixel i after one step of +1 or -1: (i + step) mod L for "wrap", limited to
    0 .. L - 1 for "clip" (protocol, section 6).
    """
    if boundary == "wrap":
        return (i + step) % length
    if boundary == "clip":
        return min(max(i + step, 0), length - 1)
    raise ValueError(f"unknown boundary {boundary!r}")


def moved_images(i: int, j: int, length: int, boundary: str) -> list[tuple[float, np.ndarray]]:
    """Exact distribution of tau(x) for the image with active pixels i and j: each pixel moves by
    +1 or -1, independently and with equal probability, so four outcomes of probability 1/4 (equal
    images are not merged). Pixels that land on one place add (protocol, section 6).
    """
    outcomes = []
    for step_i, step_j in itertools.product([-1, 1], [-1, 1]):
        new_i = moved_pixel(i, step_i, length, boundary)
        new_j = moved_pixel(j, step_j, length, boundary)
        outcomes.append((0.25, image(new_i, new_j, length)))
    return outcomes


def moved_pixel_sector(i: int, step: int, length: int, scale: int) -> int:
    """Place of pixel i after one step on the ring which is undone, for this pixel alone, if it
    leads out of the pixel's sector (protocol, section 6, task 2).
    """
    new_i = (i + step) % length
    return new_i if sector(new_i, length, scale) == sector(i, length, scale) else i


def moved_images_sector(i: int, j: int, length: int, scale: int) -> list[tuple[float, np.ndarray]]:
    """Exact distribution of tau(x) in task 2: as `moved_images`, with every single-pixel move that
    leaves the pixel's sector undone (protocol, section 6, task 2).
    """
    outcomes = []
    for step_i, step_j in itertools.product([-1, 1], [-1, 1]):
        new_i = moved_pixel_sector(i, step_i, length, scale)
        new_j = moved_pixel_sector(j, step_j, length, scale)
        outcomes.append((0.25, image(new_i, new_j, length)))
    return outcomes
