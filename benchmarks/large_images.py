"""D, G, R of all units of torchvision's networks at 224 x 224, beside bare forward passes.

    python -m benchmarks.large_images --out=benchmarks/large_images.md

From the folder of the checkout. PyTorch (`pip install -e '.[benchmark]'`) may be absent. Its side
does nothing but the forward passes over the same three batches (clean, deformed, noisy images), of
as many networks: the one as it is, and one with shuffled channels. Weights are random: what they
are costs no time.
"""

import argparse
from pathlib import Path
import sys
import time
from typing import NamedTuple

from tqdm import tqdm

from benchmarks import machine
from benchmarks.workers import Runner, Worker, alternate, with_spread

SIDE, BATCH = 224, 24  # pixels; images at once, where only outputs are kept
OURS, FORWARD, PYTORCH = "this code", "its bare forward passes", "PyTorch's forward passes"


class Options(NamedTuple):
    """What a worker is told: the network, P, and how the network is changed."""

    network: str
    images: int
    transforms: tuple[str, ...]

    @property
    def batches(self) -> int:
        """Of P images: clean, deformed and noisy ones through every network."""
        return 3 * len(self.transforms)


def network(options: Options):
    """A network with random weights, and random images."""
    import jax
    from ml_collections import ConfigDict

    from cnnpool import models
    from cnnpool.devices import runtime
    from cnnpool.importing import torchvision_names
    from cnnpool.training.variables import Variables

    runtime.one_cpu_device_per_core(1)
    name = torchvision_names.registry_name(options.network)
    model = models.build(ConfigDict({"name": name, "outputs": 1000, "features_only": False}))
    clean = jax.random.normal(jax.random.key(0), (options.images, SIDE, SIDE, 3))
    initial = model.init(jax.random.key(1), clean[:1], train=False)
    return model, Variables(initial["params"], initial.get("batch_stats", {})), clean


def ours(options: Options) -> tuple[Runner, float]:
    """Deformation, noise, moments of all units and their errors, as `cnnpool.eval` does it."""
    import jax

    from cnnpool.instruments.perturbation import perturb
    from cnnpool.instruments.sensitivity import sensitivities
    from cnnpool.measuring.network import moments

    model, variables, clean = network(options)

    def measure(transform, key, inputs, **more):
        return moments(
            model, variables, transform, key, inputs, untrained=False, batch_size=0, **more
        )

    def once(number: int, images) -> float:
        key = jax.random.key(number)
        inputs = perturb(images, *jax.random.split(key))
        found, total = None, 0.0
        for transform in options.transforms:
            found = measure(transform, key, inputs, original=found)
            total += float(list(sensitivities(found).values())[-1].G)
        return total

    began = time.perf_counter()
    once(0, clean)
    seconds = time.perf_counter() - began
    return lambda count: sum(once(number, clean) for number in range(count)), seconds


def forward(options: Options) -> tuple[Runner, float]:
    """The outputs of three times P images and nothing else."""
    import jax

    from cnnpool.devices import runtime

    model, variables, clean = network(options)

    def outputs(variables, images):
        return model.apply(variables._asdict(), images, train=False)[0]

    compiled = jax.jit(outputs, compiler_options=runtime.with_barriers("cpu"))

    def run(count: int) -> float:
        total = 0.0
        for _ in range(options.batches * count):
            for start in range(0, len(clean), BATCH):
                total += float(compiled(variables, clean[start : start + BATCH]).sum())
        return total

    began = time.perf_counter()
    run(1)
    return run, time.perf_counter() - began


def pytorch(options: Options) -> tuple[Runner, float]:
    """Forward passes of the plain definition that parity is tested against."""
    import torch

    from tests.oracles import torchvision_networks

    torch.set_num_threads(machine.cores())
    net = torchvision_networks.build(options.network).eval()
    net = net.to(memory_format=torch.channels_last)
    clean = torch.randn(options.images, 3, SIDE, SIDE).to(memory_format=torch.channels_last)

    def run(count: int) -> float:
        total = 0.0
        with torch.no_grad():
            for _ in range(options.batches * count):
                total += sum(float(net(part).sum()) for part in clean.split(BATCH))
        return total

    began = time.perf_counter()
    run(1)
    return run, time.perf_counter() - began


BUILDERS = {OURS: ours, FORWARD: forward, PYTORCH: pytorch}


def build(side: str, options: Options) -> tuple[Runner, float]:
    """One side of the comparison and its seconds of compiling."""
    return BUILDERS[side](options)


def row(name: str, args: argparse.Namespace) -> str:
    """A network's line of the table."""
    sides = [OURS, FORWARD, *([PYTORCH] if machine.has_torch() else [])]
    options = Options(name, args.images, tuple(args.transforms.split(",")))
    workers = {side: Worker(side, build, (side, options)) for side in sides}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _, side in tqdm(list(alternate(args.repeats, sides)), desc=name, unit="turn"):
        seconds[side].append(workers[side].seconds(1))
    memory = {side: worker.finish() for side, worker in workers.items()}
    cells = [with_spread([options.batches * args.images / s for s in seconds[OURS]], 1)]
    for side in (FORWARD, PYTORCH):
        if side not in sides:
            cells.append("no PyTorch")
            continue
        ratios = [b / a for a, b in zip(seconds[OURS], seconds[side], strict=True)]
        cells.append(with_spread(ratios, 2))
    cells += [f"{memory[OURS]:.2f}", f"{memory[PYTORCH]:.2f}" if PYTORCH in memory else ""]
    return f"| {name} | {' | '.join(cells)} |"


def table(args: argparse.Namespace) -> str:
    """The results as markdown."""
    lines = [
        "# Sensitivities at 224 x 224",
        "",
        f"{machine.describe()}. P = {args.images} images, one diffeomorphism and one noise each; "
        f"networks: {args.transforms}; forward passes in batches of {BATCH}.",
        "",
        f"Command: `{' '.join(['python -m benchmarks.large_images', *sys.argv[1:]])}`",
        "",
        f"Sides are processes that live side by side and take {args.repeats} turns; given are "
        "medians (smallest to largest) of ratios of neighbouring turns. This code draws, deforms, "
        "measures D, G, R of all units and their standard errors; the others return outputs alone. "
        "A speed of 1 is as fast as they are. Peak memory is that of the whole process.",
        "",
        "| network | this code, images/s | its speed over its own bare forward passes | over "
        "PyTorch's forward passes | peak memory, GiB | PyTorch's, GiB |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(row(name, args) for name in args.networks.split(","))]) + "\n"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="markdown file to write")
    parser.add_argument("--repeats", type=int, default=3, help="turns a side (%(default)s)")
    parser.add_argument("--images", type=int, default=24, help="P (%(default)s)")
    parser.add_argument(
        "--networks", default="vgg19_bn,resnet50,alexnet,efficientnet_b0", help="(%(default)s)"
    )
    parser.add_argument(
        "--transforms", default="none,channel_shuffle", help="none first (%(default)s)"
    )
    args = parser.parse_args()
    text = table(args)
    if args.out:
        args.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
