"""Writes small files as torch.save and torchvision's transforms leave them.

    python -m tests.oracles.make_pth_goldens

from the repository root writes `tests/goldens/pth/`: `zip.pth` and `legacy.pth` (the two formats of
PyTorch), both with `tensors`, and `code.pth`, which asks for a function of torch; `marked_zip.pth`
and `marked_legacy.pth` with `marked`, whose signs are not in their numbers; `training_zip.pth` and
`training_legacy.pth` with `training`, as a program saves it; `quantized.pth`. `prepared.npz` holds
what torchvision's ImageNet preparation makes of `pictures`; it needs torchvision.
"""

import argparse
import collections
from collections import OrderedDict
import datetime
import functools
import pathlib
import random
import sys
from typing import Any

import numpy as np
from PIL import Image
import torch

from tests.paths import GOLDENS

FOLDER = GOLDENS / "pth"


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


def marked() -> dict[str, torch.Tensor]:
    """Views that torch negates when it reads them: what is stored has the other sign."""
    base = torch.arange(12.0).reshape(3, 4)
    negative = torch.complex(torch.zeros(3, 4), -base).conj().imag
    assert negative.is_neg()
    assert torch.equal(negative, base)
    views = {"negative": negative, "transposed": negative.T[1:], "scalar": negative[0, 3]}
    return {"plain": base, **views}


def training() -> dict[str, Any]:
    """A state_dict beside what training programs keep, and an averaged one."""
    net = torch.nn.Linear(3, 2)
    torch.nn.init.ones_(net.weight)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(3)).sum().backward()
    optimizer.step()
    torch.nn.init.ones_(net.weight)
    parameters = OrderedDict(net.named_parameters())
    parameters["weight"].decay = True
    attributed = torch.full((2,), 3.0)
    attributed.tag = "Python's"
    return {
        "network": parameters,
        "average": {"weight": torch.zeros(2, 3), "bias": attributed, "calls": 3},
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60]).state_dict(),
        "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("runs")),
        "best": np.float64(56.2),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "size": net.weight.shape,
        "random": (torch.get_rng_state()[:8], random.getstate()[0], np.random.RandomState(0)),
        "set": {1, 2},
        "date": datetime.date(2026, 1, 2),
        "loader": functools.partial(print, "x"),
        "defaults": collections.defaultdict(list, a=[1]),
        "module": torch.nn.ReLU(),
    }


def quantized() -> dict[str, torch.Tensor]:
    """A tensor of eight-bit numbers with a scale."""
    return {
        "weight": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "bias": torch.ones(2),
    }


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
    for name, made in {"marked": marked(), "training": training()}.items():
        torch.save(made, FOLDER / f"{name}_zip.pth")
        torch.save(made, FOLDER / f"{name}_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(quantized(), FOLDER / "quantized.pth")
    np.savez_compressed(FOLDER / "prepared.npz", **prepared())
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.stat().st_size / 1000:6.1f} kB  {path.name}")


if __name__ == "__main__":
    sys.exit(main())
