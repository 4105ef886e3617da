"""Inputs and fingerprints that two implementations of a network can both make, in numpy alone.

Names and shapes of parameters are those of the torch state_dict: convolutions (out, in / groups,
height, width), linear layers (out, in). A seed is the crc32 of a name, so nothing is stored.
"""

import zlib

import numpy as np

ENTRIES = 32
SUMS = 16
# Prime, so that no axis of an array lines up with the pattern of signs.
SIGN_PERIOD = 1021
IMAGE_SIDE = {3: 32, 1: 28}
OUTPUTS = {3: 10, 1: 1}
GOLDEN_BATCH = 4
STEPS = 20
STEP_BATCH = 8


def generator(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def parameter(name: str, shape: tuple[int, ...], *, ntk: bool = False) -> np.ndarray:
    """Parameter or batch-norm statistic of the torch state_dict key `name`, float64.

    Args:
        name: ends in weight, bias, running_mean or running_var.
        shape: torch's shape.
        ntk: whether the weights are NTK-style, N(0, 1) (fully connected nets).

    Returns:
        Weights N(0, 2 / fan_in), batch norm's weights and running variances U(0.5, 1.5), biases
        and running means 0.1 N(0, 1).
    """
    rng = generator(name)
    kind = name.rsplit(".", 1)[-1]
    if kind == "weight" and len(shape) >= 2:
        scale = 1.0 if ntk else np.sqrt(2 / np.prod(shape[1:]))
        return scale * rng.standard_normal(shape)
    if kind in ("weight", "running_var"):
        return rng.uniform(0.5, 1.5, shape)
    if kind in ("bias", "running_mean"):
        return 0.1 * rng.standard_normal(shape)
    raise ValueError(f"expected a weight, bias, running_mean or running_var, got {name!r}")


def images(name: str, n: int, size: int, channels: int) -> np.ndarray:
    """White images (n, size, size, channels), NHWC, float64, N(0, 1)."""
    return generator(f"images {name}").standard_normal((n, size, size, channels))


def labels(name: str, n: int, classes: int) -> np.ndarray:
    """Integer labels (n,) in 0 .. classes - 1."""
    return generator(f"labels {name}").integers(0, classes, n)


def signs(name: str, n: int) -> np.ndarray:
    """Labels (n,) of +1.0 and -1.0 for the hinge loss."""
    return 2.0 * labels(name, n, 2) - 1.0


def golden_batch(network: str, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Images NHWC and labels of a golden: ten classes with 3 channels, +-1 with one."""
    name = f"{network}_{channels}"
    side, outputs = IMAGE_SIDE[channels], OUTPUTS[channels]
    y = signs(name, GOLDEN_BATCH) if outputs == 1 else labels(name, GOLDEN_BATCH, outputs)
    return images(name, GOLDEN_BATCH, side, channels), y


def step_batches(network: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images NHWC (8, 32, 32, 3) and class labels of each of the 20 training steps."""
    names = [f"steps_{network}_{t}" for t in range(STEPS)]
    return [
        (images(name, STEP_BATCH, IMAGE_SIDE[3], 3), labels(name, STEP_BATCH, OUTPUTS[3]))
        for name in names
    ]


def dropout_mask(unit: str, shape: tuple[int, ...]) -> np.ndarray:
    """Bernoulli(1/2) / (1/2): zeros and twos. Entries come in C order whatever the shape, so a
    map's mask is that of the flattened (channel, height, width) features.
    """
    return 2.0 * generator(f"dropout {unit}").integers(0, 2, shape)


def signed_sums(rng: np.random.Generator, flat: np.ndarray) -> np.ndarray:
    """Sums (16,) over all entries with random signs, over sqrt(size). The sign of entry i is
    column[i % period] * row[i // period], so that a matrix product takes them all at once.
    """
    columns = 2.0 * rng.integers(0, 2, (SIGN_PERIOD, SUMS)) - 1.0
    rows = 2.0 * rng.integers(0, 2, (flat.size // SIGN_PERIOD + 1, SUMS)) - 1.0
    whole = flat[: flat.size - flat.size % SIGN_PERIOD].reshape(-1, SIGN_PERIOD)
    rest = flat[whole.size :]
    sums = np.sum(whole @ columns * rows[:-1], axis=0) + rest @ columns[: rest.size] * rows[-1]
    return sums / np.sqrt(flat.size)


def fingerprint(name: str, array: np.ndarray) -> np.ndarray:
    """48 numbers that tell an array from another of the same name and size.

    Args:
        name: unit or parameter name; it and the size fix positions and signs.
        array: in torch's order of axes (maps NCHW).

    Returns:
        32 entries at random flat positions, then 16 sums of all entries with random signs
        divided by sqrt(size).
    """
    flat = np.ascontiguousarray(array, dtype=np.float64).ravel()
    rng = generator(f"fingerprint {name} {flat.size}")
    positions = rng.integers(0, flat.size, ENTRIES)
    return np.concatenate([flat[positions], signed_sums(rng, flat)])


def scale(array: np.ndarray) -> float:
    """Largest absolute value, what a tolerance is relative to."""
    return float(np.max(np.abs(array)))


def tolerances(scales: np.ndarray, relative: float) -> np.ndarray:
    """Absolute tolerances (k, 1) for the fingerprints (k, 48) of arrays with these scales (k,).

    Gradients of a bias in front of batch norm are zero but for rounding, so a tolerance relative
    to themselves would compare noise: a scale counts as at least 1e-3 of the largest one.
    """
    return relative * np.maximum(scales, 1e-3 * np.max(scales, initial=0.0))[:, None]
