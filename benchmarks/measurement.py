"""D, G, R of all units of VGG11-bn: this code, its bare forward passes, and plain PyTorch.

    python -m benchmarks.measurement --out=benchmarks/measurement.md
    python -m benchmarks.measurement --batch=0 --repeats=10 --out=benchmarks/measurement_gpu.md

From the folder of the checkout. PyTorch (`pip install -e '.[benchmark]'`) may be absent. The
PyTorch programs are what papers of this field use, written afresh: three forward passes that keep
every unit, a Python loop over the diffeomorphisms of single images, and matrices of distances
between all pairs of images; once in float32, once in float64. Where JAX has a GPU, all sides are
on it; convolutions and products of all float32 sides are in full float32 there, not in TF32.
"""

import argparse
import os
from pathlib import Path
import statistics
import sys
import tempfile
from typing import NamedTuple

from tqdm import tqdm

from benchmarks import machine
from benchmarks.workers import Runner, Worker, alternate, with_spread

NETWORK, SIDE, CHANNELS, CLASSES = "vgg11_bn", 32, 3, 10
DELTA, CUTOFF = 1.0, 3
OURS, FORWARD = "this code", "bare forward passes"
SPREAD = "bare forward passes, a device a core"
FLOAT32, FLOAT64 = "PyTorch, float32", "PyTorch, float64"


class Options(NamedTuple):
    """What a worker is told: P, images in a batch, PyTorch's device, compilation cache's folder."""

    images: int
    batch: int
    device: str
    cache: str


def random_images(count: int):
    """Normalized images of random pixels; what they show costs no time."""
    import jax

    return jax.random.normal(jax.random.key(0), (count, SIDE, SIDE, CHANNELS))


def network(options: Options):
    """VGG11-bn at initialization, with frozen statistics, and its images."""
    import jax

    from cnnpool import models
    from cnnpool.configs import cifar10
    from cnnpool.devices import runtime
    from cnnpool.measuring.batch_statistics import with_frozen_statistics
    from cnnpool.training.variables import Variables

    jax.config.update("jax_compilation_cache_dir", options.cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    runtime.one_cpu_device_per_core(1)
    config = cifar10.get_config("paper").unlock()
    config.model.name = NETWORK
    model = models.build(config.model)
    clean = random_images(options.images)
    init = jax.jit(model.init, static_argnames="train")  # op by op it takes half a GiB
    variables = Variables(**init(jax.random.key(1), clean[:1], train=False))
    return model, with_frozen_statistics(model, variables, clean), clean


def ours(options: Options) -> tuple[Runner, float]:
    """Deformation, noise, moments of all units and their errors, as `cnnpool.eval` does it."""
    import time

    import jax

    from cnnpool.instruments.perturbation import perturb
    from cnnpool.instruments.sensitivity import sensitivities
    from cnnpool.measuring.network import moments

    model, variables, clean = network(options)
    began = time.perf_counter()

    def once(number: int) -> float:
        key = jax.random.key(number)
        inputs = perturb(clean, *jax.random.split(key), delta=DELTA, cutoff=CUTOFF)
        found = moments(
            model, variables, "none", key, inputs, untrained=False, batch_size=options.batch
        )
        return sensitivities(found)["linear09"].R

    once(0)
    seconds = time.perf_counter() - began
    return lambda count: sum(once(number) for number in range(count)), seconds


def forward(options: Options, *, spread: bool) -> tuple[Runner, float]:
    """The outputs of three times P images and nothing else, in the same batches.

    As one program with all threads, or spread over devices as this code spreads images.
    """
    import time

    import jax
    from jax.sharding import PartitionSpec

    from cnnpool.devices import runtime
    from cnnpool.devices.batch_sharding import DATA_AXIS
    from cnnpool.devices.divisors import largest_divisor

    model, variables, clean = network(options)
    mesh = runtime.image_mesh() if spread else None
    share = -(-3 * options.images // (mesh.size if mesh else 1))
    size = largest_divisor(share, at_most=options.batch or share)

    def everything(variables, images):
        def outputs(batch):
            return model.apply(variables._asdict(), batch, train=False)[0]

        return jax.lax.map(outputs, images.reshape(-1, size, *clean.shape[1:]))

    if mesh:
        specs = {"in_specs": (PartitionSpec(), PartitionSpec(DATA_AXIS))}
        out = PartitionSpec(DATA_AXIS)
        everything = jax.shard_map(everything, mesh=mesh, **specs, out_specs=out, check_vma=False)
    images = random_images(share * (mesh.size if mesh else 1))
    run = jax.jit(everything, compiler_options=runtime.with_barriers(jax.default_backend()))

    def once() -> float:
        with jax.default_matmul_precision("highest"):
            return float(run(variables, images).sum())

    began = time.perf_counter()
    once()
    seconds = time.perf_counter() - began
    return lambda count: sum(once() for _ in range(count)), seconds


def pytorch(options: Options, *, double: bool) -> tuple[Runner, float]:
    """The same numbers as the field's programs get them."""
    import math

    import torch

    from tests.oracles import torch_networks

    torch.set_num_threads(machine.cores())
    torch.set_default_device(options.device)
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    dtype = torch.float64 if double else torch.float32
    net = torch_networks.build(NETWORK, in_channels=CHANNELS, outputs=CLASSES).eval().to(dtype)
    clean = torch.randn(options.images, CHANNELS, SIDE, SIDE, dtype=dtype)
    temperature = 4 * DELTA**2 / (math.pi * SIDE**2 * math.log(CUTOFF))
    modes = torch.arange(1, CUTOFF + 1, dtype=dtype)
    sine = torch.sin(math.pi * torch.linspace(0, 1, SIDE, dtype=dtype)[:, None] * modes)
    radius = modes[:, None] ** 2 + modes**2
    size = torch.where(radius <= (CUTOFF + 0.5) ** 2, (temperature / radius).sqrt(), 0)
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")

    def field():
        return SIDE * sine @ (size * torch.randn(CUTOFF, CUTOFF, dtype=dtype)) @ sine.T

    def deformed(image):
        y = (rows - field()).clamp(0, SIDE - 1)
        x = (columns - field()).clamp(0, SIDE - 1)
        top, left = y.floor().long(), x.floor().long()
        bottom, right = (top + 1).clamp(max=SIDE - 1), (left + 1).clamp(max=SIDE - 1)
        v, u = y - top, x - left
        upper = image[:, top, left] * (1 - u) + image[:, top, right] * u
        lower = image[:, bottom, left] * (1 - u) + image[:, bottom, right] * u
        return upper * (1 - v) + lower * v

    def units(images):
        return torch_networks.units(net, images)[1]

    def once() -> float:
        moved = torch.stack([deformed(image) for image in clean])
        noise = torch.randn_like(clean)
        lengths = (moved - clean).flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
        noisy = clean + noise * lengths[:, None, None, None]
        at_rest, at_moved, at_noisy = units(clean), units(moved), units(noisy)
        for name, rest in at_rest.items():
            flat = rest.flatten(1)
            pairs = torch.cdist(flat, flat).square().mean()
            d = (at_moved[name].flatten(1) - flat).square().sum(1).mean() / pairs
            g = (at_noisy[name].flatten(1) - flat).square().sum(1).mean() / pairs
        return float(d / g)

    def run(count: int) -> float:
        with torch.no_grad():
            return sum(once() for _ in range(count))

    return run, 0.0


def build(side: str, options: Options) -> tuple[Runner, float]:
    """One side of the comparison and its seconds of compiling."""
    if side in (FLOAT32, FLOAT64):
        return pytorch(options, double=side == FLOAT64)
    return ours(options) if side == OURS else forward(options, spread=side == SPREAD)


def measure(args: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, str], list]:
    """Seconds of every turn, peak memory, and seconds to the first result, cold and warm."""
    with tempfile.TemporaryDirectory() as cache:
        options = Options(args.images, args.batch, "cuda" if machine.gpu() else "cpu", cache)
        first = [Worker(OURS, build, (OURS, options)) for _ in range(2)]
        starts = [one.compile_seconds for one in first]
        for one in first:
            one.finish()
        names = [OURS, FORWARD, *((FLOAT32, FLOAT64) if machine.has_torch() else ())]
        if not machine.gpu():
            names.insert(2, SPREAD)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        memory = {}
        workers = {name: Worker(name, build, (name, options)) for name in names}
        turns = list(alternate(args.repeats, names))
        for _, name in tqdm(turns, unit="turn"):
            workers[name].seconds(1)  # the side before has filled caches and keeps threads waiting
            seconds[name].append(workers[name].seconds(1))
        for name, worker in workers.items():
            memory[name] = f"{worker.finish():.2f}"
            memory[name] += f" + {worker.device_memory:.2f}" if machine.gpu() else ""
    return seconds, memory, starts


def table(args: argparse.Namespace) -> str:
    """The results as markdown."""
    seconds, memory, starts = measure(args)
    fastest = seconds[OURS]
    batches = f"batches of {args.batch}" if args.batch else "batches as `cnnpool.eval` takes them"
    lines = [
        "# Sensitivities of all units of VGG11-bn",
        "",
        f"{machine.describe()}. P = {args.images} images, one diffeomorphism and one noise each, "
        f"{batches}.",
        "",
        f"Command: `{' '.join(['python -m benchmarks.measurement', *sys.argv[1:]])}`",
        "",
        f"Sides are processes that live side by side and take {args.repeats} turns, each the "
        "second of two measurements; given are medians (smallest to largest), and ratios of "
        "neighbouring turns. This code draws, "
        "deforms, measures and computes standard errors of D, G, R of all units; the bare forward "
        "passes return outputs only, as one program that uses all cores. Of a CPU, this code makes "
        "a device a core, and each has images and batches of its own. Peak memory is that of the "
        "whole process"
        + (", beside it what its arrays took of the GPU's." if machine.gpu() else "."),
        "",
        "| program | seconds | over this code | peak memory, GiB |",
        "|---|---|---|---|",
    ]
    for name, turns in seconds.items():
        ratios = [b / a for a, b in zip(fastest, turns, strict=True)]
        lines.append(
            f"| {name} | {with_spread(turns, 3)} | {with_spread(ratios, 2)} | {memory[name]} |"
        )
    over = [a / b for a, b in zip(fastest, seconds[FORWARD], strict=True)]
    lines += [
        "",
        f"This code takes {with_spread(over, 2)} times the bare forward passes. From a network "
        f"in memory to its first result, compiling included, it takes {starts[0]:.1f} s, with a "
        f"warm compilation cache {starts[1]:.1f} s; a measurement itself "
        f"{statistics.median(fastest):.2f} s.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="markdown file to write")
    parser.add_argument("--repeats", type=int, default=3, help="turns a side (%(default)s)")
    parser.add_argument("--images", type=int, default=500, help="P (%(default)s)")
    parser.add_argument(
        "--batch",
        type=int,
        default=75,
        help="images at once, 0: as many as "
        "cnnpool.eval takes, all in the bare forward passes (%(default)s)",
    )
    args = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # all sides share a GPU
    text = table(args)
    if args.out:
        args.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
