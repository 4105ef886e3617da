"""Oracle for D, G, R of an imported network on real pictures: PIL, scipy, PyTorch, float64.

ResNet18 with the weights of `torchvision_inputs`, eight pictures, one field and one noise each.
`inputs` is numpy alone and is what both sides are fed with; the rest needs torch. From the folder
of the checkout, with CNNPOOL_DATA_DIR as the tests have it:

    python -m tests.oracles.measured_resnet
"""

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates

from tests.oracles import torchvision_inputs
from tests.paths import GOLDENS

GOLDEN = GOLDENS / "measured_resnet18.npz"
NETWORK, PICTURES, SIDE, DELTA, CUTOFF = "resnet18", 8, 224, 1.0, 3
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Inputs(NamedTuple):
    """Normalized pictures (8, 224, 224, 3), fields (dy, dx) in pixels, directions of noise."""

    clean: np.ndarray
    fields: np.ndarray
    directions: np.ndarray


def files(data: Path) -> list[Path]:
    """The first picture of each of the first eight classes."""
    folders = sorted((data / "imagenet_sample" / "val").iterdir())[:PICTURES]
    return [sorted(folder.iterdir())[0] for folder in folders]


def picture(path: Path) -> np.ndarray:
    """Shorter side to 256, bilinear with antialias, the middle 224 x 224, in 0..1."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    scale = 256 / min(width, height)
    image = image.resize((int(width * scale + 1e-9), int(height * scale + 1e-9)), Image.BILINEAR)
    left, top = round((image.width - SIDE) / 2), round((image.height - SIDE) / 2)
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), np.float64) / 255


def field(rng: np.random.Generator) -> np.ndarray:
    """(dy, dx): n sum_ij C_ij / sqrt(i^2 + j^2) sin(i pi u) sin(j pi v), C ~ N(0, T)."""
    temperature = 4 * DELTA**2 / (math.pi * SIDE**2 * math.log(CUTOFF))
    u = np.linspace(0, 1, SIDE)
    out = np.zeros((2, SIDE, SIDE))
    for component in out:
        for i in range(1, CUTOFF + 1):
            for j in range(1, CUTOFF + 1):
                if i * i + j * j <= (CUTOFF + 0.5) ** 2:
                    c = rng.normal(0, math.sqrt(temperature)) / math.hypot(i, j)
                    waves = np.outer(np.sin(i * math.pi * u), np.sin(j * math.pi * u))
                    component += SIDE * c * waves
    return out


def inputs(data: Path) -> Inputs:
    """What both sides are given."""
    rng = np.random.default_rng(0)
    clean = np.stack([(picture(path) - MEAN) / STD for path in files(data)])
    fields = np.stack([field(rng) for _ in clean])
    return Inputs(clean, fields, rng.normal(size=clean.shape))


def warped(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The image at (row - dy, column - dx), bilinear, positions clamped."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    places = np.clip([rows - displacement[0], columns - displacement[1]], 0, SIDE - 1)
    channels = [map_coordinates(c, places, order=1, mode="nearest") for c in image.T.swapaxes(1, 2)]
    return np.stack(channels, -1)


def sensitivities(given: Inputs) -> dict[str, tuple[float, float, float]]:
    """D, G, R of every unit, from all pairs of pictures."""
    import torch

    from tests.oracles import torchvision_networks

    net = torchvision_networks.build(NETWORK).double().eval()
    state = net.state_dict()
    arrays = torchvision_inputs.state_dict_arrays(
        NETWORK, "random", state, [[*value.shape] for value in state.values()]
    )
    net.load_state_dict({key: torch.as_tensor(array) for key, array in arrays})
    moved = np.stack([warped(x, f) for x, f in zip(given.clean, given.fields, strict=True)])
    lengths = [np.linalg.norm(m - x) for m, x in zip(moved, given.clean, strict=True)]
    noise = [d * n / np.linalg.norm(d) for d, n in zip(given.directions, lengths, strict=True)]

    def units(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            batch = torch.as_tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
            found = torchvision_networks.units(net, batch)[1]
        return {name: f.flatten(1).numpy() for name, f in found.items()}

    at_rest, at_moved, at_noisy = map(units, (given.clean, moved, given.clean + np.stack(noise)))
    out = {}
    for name, rest in at_rest.items():
        pairs = np.mean([[((a - b) ** 2).sum() for b in rest] for a in rest])
        d = np.mean(((at_moved[name] - rest) ** 2).sum(1)) / pairs
        g = np.mean(((at_noisy[name] - rest) ** 2).sum(1)) / pairs
        out[name] = (d, g, d / g)
    return out


def main() -> None:
    """Writes the golden file."""
    found = sensitivities(inputs(Path(os.environ["CNNPOOL_DATA_DIR"])))
    np.savez(GOLDEN, units=list(found), values=np.array(list(found.values())))


if __name__ == "__main__":
    main()
