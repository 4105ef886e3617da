"""`cnnpool.measure` of a module of PyTorch, its bare forward passes, and the field's plain program.

    python -m benchmarks.library --out=benchmarks/library.md

From the folder of the checkout, with PyTorch (`pip install -e '.[benchmark]'`). All three run in
one process, in turns, over the same images and layers. The plain program is what papers of this
field use, written afresh: forward passes in float32 over original, deformed and noisy images that
keep all activations, and distances between all pairs of images. Deforming images is in the time of
`cnnpool.measure` and not in that of the others.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
import statistics
import time

from benchmarks import machine

LAYERS = ("Conv2d", "Linear")
BATCH = 75  # originals, deformed and noisy images together


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", default="vgg11_bn")
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sections = [section(name, args.images, args.repeats) for name in args.networks.split(",")]
    args.out.write_text("\n".join([HEAD.format(machine=machine.describe()), *sections]))


HEAD = """# A module of PyTorch through `cnnpool.measure`

`python -m benchmarks.library`. {machine}. Medians of turns in one process, with the ratio of every
turn's times to those of the bare forward passes, least to most. The machine did other work besides:
the ratios, taken turn by turn, are what to read."""


def section(name: str, count: int, repeats: int) -> str:
    """A network's table, as markdown."""
    programs = prepared(name, count)
    first = {label: timed(program) for label, program in programs.items()}
    turns = [{label: timed(p) for label, p in programs.items()} for _ in range(repeats)]
    bare = list(programs)[1]
    rows = [
        "| | wall, s | CPU, s | wall, times bare | CPU, times bare | first call, CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for label in programs:
        wall, cpu = ([turn[label][kind] for turn in turns] for kind in (0, 1))
        ratios = [
            ranged([turn[label][kind] / turn[bare][kind] for turn in turns]) for kind in (0, 1)
        ]
        seconds = f"{statistics.median(wall):.2f} | {statistics.median(cpu):.2f}"
        rows.append(f"| {label} | {seconds} | {' | '.join(ratios)} | {first[label][1]:.1f} |")
    return f"\n## {name}, {count} images of 32 x 32, {repeats} turns\n\n" + "\n".join(rows) + "\n"


def ranged(values: list[float]) -> str:
    """The median, the least and the most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def timed(program: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of all the process's threads together."""
    wall, cpu = time.perf_counter(), time.process_time()
    program()
    return time.perf_counter() - wall, time.process_time() - cpu


def prepared(name: str, count: int) -> dict[str, Callable[[], object]]:
    """The three programs, of one module and its images."""
    import jax
    import numpy as np
    import torch

    import cnnpool as cp
    from cnnpool.measuring.inputs import measurement_keys
    from tests.oracles import torch_networks

    torch.manual_seed(0)
    module = torch_networks.build(name, in_channels=3, outputs=10).float().eval()
    x = np.array(jax.random.normal(jax.random.key(0), (count, 32, 32, 3)))
    keys = measurement_keys(0)
    inputs = cp.perturb(jax.numpy.asarray(x), keys.diffeomorphism, keys.noise)
    arrays = (inputs.clean, inputs.deformed[0], inputs.noisy[0])
    kinds = [torch.from_numpy(np.array(one)).permute(0, 3, 1, 2).contiguous() for one in arrays]
    return {
        "`cnnpool.measure`": lambda: cp.measure(module, x, batch=BATCH),
        "bare forward passes": lambda: forward(module, torch.cat(kinds)),
        "the plain program": lambda: plain(module, kinds),
    }


def forward(module, images) -> None:
    """All images, batch by batch; nothing is kept."""
    import torch

    with torch.no_grad():
        for batch in images.split(BATCH):
            module(batch)


def plain(module, kinds) -> dict[str, float]:
    """R of every layer from activations that are all kept."""
    import torch

    kept: dict[str, list] = {}
    hooks = [
        one.register_forward_hook(
            lambda _module, _inputs, output, name=name: kept.setdefault(name, []).append(
                output.flatten(1).clone()
            )
        )
        for name, one in module.named_modules()
        if type(one).__name__ in LAYERS
    ]
    found = []
    for images in kinds:
        kept.clear()
        forward(module, images)
        found.append({name: torch.cat(parts) for name, parts in kept.items()})
    for hook in hooks:
        hook.remove()
    ratios = {}
    for name, clean in found[0].items():
        pairs = torch.cdist(clean, clean).square().mean()
        D, G = ((one[name] - clean).square().sum(1).mean() / pairs for one in found[1:])
        ratios[name] = float(D / G)
    return ratios


if __name__ == "__main__":
    main()
