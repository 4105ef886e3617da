"""State dicts, images and fingerprints for torchvision's networks, in numpy alone.

The state dict of a network follows from its keys and shapes, which its golden holds, so that
nothing else is stored. There are two kinds:

- "random": `parity_inputs.parameter`, seeded by network and key.
- "extreme": the same, and then
    - weights of convolutions and linear layers times 10 ** U(-1, 1), one factor per tensor;
    - biases, batch norm's too, and running means times 10;
    - running variances times 10 ** U(-2, 2), one factor per tensor; those of channels 3, 11, ...
      are 1e-8, so that epsilon decides, and batch norm's weights there a hundredth; those of
      channels 7, 15, ... are 1e8, so that the channel is all but constant;
    - weights of output channels 5, 13, 21, ... zero, batch norm's too, and of these, biases of
      channels 13, 29, ...: every other of these channels is zero everywhere, the rest constant.

  They are no wilder because the last units of all networks must still depend on the image, which
  `make_torchvision_goldens` checks.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from tests.oracles import parity_inputs

KINDS = ("random", "extreme")
OUTPUTS = 1000
SIDE = 224
BIAS_FACTOR = 10.0
WEIGHT_DECADES = 1.0
VARIANCE_DECADES = 2.0
SMALL_VARIANCE, SMALL_CHANNELS, SMALL_WEIGHT = 1e-8, slice(3, None, 8), 1e-2
LARGE_VARIANCE, LARGE_CHANNELS = 1e8, slice(7, None, 8)
ZERO_WEIGHTS = slice(5, None, 8)
ZERO_BIASES = slice(13, None, 16)
# Half of parity_inputs.fingerprint: 16 of its entries and 8 of its sums.
KEPT = np.r_[0:16, parity_inputs.ENTRIES : parity_inputs.ENTRIES + 8]


def make_extreme(seed: str, array: np.ndarray) -> None:
    """Turns the random array of that key into the extreme one, in place."""
    kind = seed.rsplit(".", 1)[-1]
    rng = parity_inputs.generator(f"extreme {seed}")
    if kind == "weight":
        if array.ndim >= 2:
            array *= 10 ** rng.uniform(-WEIGHT_DECADES, WEIGHT_DECADES)
        else:
            array[SMALL_CHANNELS] *= SMALL_WEIGHT
        array[ZERO_WEIGHTS] = 0
    elif kind == "running_var":
        array *= 10 ** rng.uniform(-VARIANCE_DECADES, VARIANCE_DECADES)
        array[SMALL_CHANNELS] = SMALL_VARIANCE
        array[LARGE_CHANNELS] = LARGE_VARIANCE
    else:
        array *= BIAS_FACTOR
        if kind == "bias":
            array[ZERO_BIASES] = 0


def state_dict_array(name: str, kind: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Entry `key` of the state dict of network `name`: float64, counters of batches int64.

    Args:
        name: one of torchvision_networks.NAMES.
        kind: "random" or "extreme".
        key: torchvision's.
        shape: torch's shape, () for counters.

    Returns:
        An array of that shape.
    """
    if kind not in KINDS:
        raise ValueError(f"expected one of {KINDS}, got {kind!r}")
    if key.endswith("num_batches_tracked"):
        return np.array(1, dtype=np.int64)
    seed = f"torchvision {name} {key}"
    array = parity_inputs.parameter(seed, shape)
    if kind == "extreme":
        make_extreme(seed, array)
    return array


def state_dict_arrays(
    name: str, kind: str, keys: Iterable[str], shapes: Iterable[Iterable[int]]
) -> Iterator[tuple[str, np.ndarray]]:
    """Keys and arrays of a state dict one at a time, of shapes padded with zeros."""
    for key, padded in zip(keys, shapes, strict=True):
        shape = tuple(int(d) for d in padded if d)
        yield str(key), state_dict_array(name, kind, str(key), shape)


def images(name: str) -> np.ndarray:
    """One white image (1, 224, 224, 3), NHWC, float64, N(0, 1)."""
    return parity_inputs.images(f"torchvision {name}", 1, SIDE, 3)


def fingerprint(unit: str, array: np.ndarray) -> np.ndarray:
    """24 of the 48 numbers of parity_inputs.fingerprint: 16 entries, then 8 sums."""
    return parity_inputs.fingerprint(unit, array)[KEPT]
