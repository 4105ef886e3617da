"""Writes small files as torch.save and torchvision's transforms leave them.

    python -m tests.oracles.make_pth_goldens

from the repository root writes `tests/goldens/pth/`: `zip.pth` and `legacy.pth` (the two formats of
PyTorch), both with `tensors`, and `code.pth`, which asks for a function of torch. `prepared.npz`
holds what torchvision's ImageNet preparation makes of `pictures`; it needs torchvision.
"""

from collections import OrderedDict
from pathlib import Path
import sys

import numpy as np
from PIL import Image
import torch

FOLDER = Path(__file__).parents[1] / "goldens" / "pth"


def tensors() -> "OrderedDict[str, torch.Tensor]":
    """One of each type, views that share a storage, an empty one, a scalar, a parameter."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    return OrderedDict(
        float32=base,
        transposed=base.T,
        strided=base[1::2, ::3],
        float64=torch.tensor([1 / 3, 1e300], dtype=torch.float64),
        float16=torch.tensor([0.5, 65504.0], dtype=torch.float16),
        bfloat16=torch.tensor([1.0, 3.0e38], dtype=torch.bfloat16),
        int64=torch.tensor(7),
        uint8=torch.tensor([[1, 2]], dtype=torch.uint8),
        flag=torch.tensor([True, False]),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.tensor([-1.0])),
    )


def picture(height: int, width: int) -> np.ndarray:
    """A smooth picture with noise, uint8 (height, width, 3)."""
    rng = np.random.Generator(np.random.PCG64(height * width))
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 17 + c) + np.cos(columns / 23 - c) for c in range(3)]
    noise = rng.normal(0, 20, (height, width, 3))
    return np.clip(128 + 50 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


SIZES = ((375, 500), (500, 333), (256, 256), (100, 90), (257, 301))


def prepared() -> dict[str, np.ndarray]:
    """Every seventh pixel, both ways, of what torchvision prepares."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):  # of its C extension, which need not be there
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import transforms

    pipeline = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    return {
        f"{h}x{w}": np.asarray(pipeline(Image.fromarray(picture(h, w))))[::7, ::7] for h, w in SIZES
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(), FOLDER / "zip.pth")
    torch.save(tensors(), FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 2), FOLDER / "code.pth")
    np.savez_compressed(FOLDER / "prepared.npz", **prepared())
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.stat().st_size / 1000:6.1f} kB  {path.name}")


if __name__ == "__main__":
    sys.exit(main())
