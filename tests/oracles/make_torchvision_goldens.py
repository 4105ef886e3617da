"""Writes the fingerprints that networks with torchvision's weights are held against.

    python -m tests.oracles.make_torchvision_goldens

from the repository root writes `tests/goldens/torchvision/`; names of networks after it write
those alone. Everything is float64, from the state dicts and images of `torchvision_inputs`.

NAME.npz holds, for one image of 224 x 224 and 1000 outputs:

- `keys`, `shapes` (keys, 4), padded with zeros: torchvision's state dict, in its order, with the
  counters of batches, which have the shape ();
- for the KINDs random and extreme, `KIND_unit_names`, `KIND_unit_fingerprints` (units, 24),
  `KIND_unit_scales`, `KIND_unit_shapes` (units, 4), NCHW and padded with zeros: every unit in
  inference mode, in forward order.
"""

import sys
import time

import numpy as np
import torch
from torch import nn

from tests.oracles import parity_inputs, torchvision_inputs, torchvision_networks
from tests.paths import GOLDENS

LEAST_CHANGE = 1e-6  # of the last unit's maximum, for another image
FOLDER = GOLDENS / "torchvision"

Arrays = dict[str, np.ndarray]


def padded(shape: tuple[int, ...]) -> list[int]:
    return list(shape) + [0] * (4 - len(shape))


def empty_network(name: str) -> nn.Module:
    """The network without numbers: 144 million of them need not be drawn twice."""
    with torch.device("meta"):
        return torchvision_networks.build(name, torchvision_inputs.OUTPUTS)


def fill(net: nn.Module, name: str, kind: str, keys: np.ndarray, shapes: np.ndarray) -> None:
    """Gives the network the state dict of that kind, in float64."""
    arrays = torchvision_inputs.state_dict_arrays(name, kind, keys, shapes)
    net.load_state_dict({key: torch.from_numpy(array) for key, array in arrays}, assign=True)


def check_sees(net: nn.Module, images: torch.Tensor, output: np.ndarray, what: str) -> None:
    """Raises ValueError if the last unit says the same of another image."""
    _, recorded = torchvision_networks.units(net, images.flip(3))
    change = abs(list(recorded.values())[-1].numpy() - output).max() / parity_inputs.scale(output)
    print(f"{what}: another image moves the output by {change:.0e} of its maximum")
    if change < LEAST_CHANGE:
        raise ValueError(f"{what}: the output does not depend on the image")


def unit_arrays(net: nn.Module, name: str, kind: str) -> Arrays:
    """Name, fingerprint, scale and shape of every unit."""
    images = torch.from_numpy(torchvision_inputs.images(name)).permute(0, 3, 1, 2).contiguous()
    _, recorded = torchvision_networks.units(net, images)
    arrays = {unit: tensor.numpy() for unit, tensor in recorded.items()}
    scales = np.array([parity_inputs.scale(array) for array in arrays.values()])
    if not np.all(np.isfinite(scales) & (scales > 0)):
        raise ValueError(f"{name}, {kind}: a unit is zero or not finite: {scales}")
    check_sees(net, images, list(arrays.values())[-1], f"{name}, {kind}")
    rows = [torchvision_inputs.fingerprint(unit, array) for unit, array in arrays.items()]
    return {
        f"{kind}_unit_names": np.array(list(arrays), dtype=str),
        f"{kind}_unit_fingerprints": np.array(rows),
        f"{kind}_unit_scales": scales,
        f"{kind}_unit_shapes": np.array([padded(array.shape) for array in arrays.values()]),
    }


def golden(name: str) -> Arrays:
    """All arrays of NAME.npz."""
    state = empty_network(name).state_dict()
    keys = np.array(list(state), dtype=str)
    shapes = np.array([padded(tuple(tensor.shape)) for tensor in state.values()])
    arrays = {"keys": keys, "shapes": shapes}
    for kind in torchvision_inputs.KINDS:
        net = empty_network(name)
        fill(net, name, kind, keys, shapes)
        arrays |= unit_arrays(net, name, kind)
        del net
    return arrays


def main(names: list[str]) -> None:
    # One thread adds in one order, so that a second run writes the same bytes.
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    for name in names:
        path = FOLDER / f"{name}.npz"
        np.savez_compressed(path, **golden(name))
        elapsed = time.perf_counter() - started
        print(f"{elapsed:6.1f} s  {path.stat().st_size / 1000:6.1f} kB  {path.name}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(torchvision_networks.NAMES))
