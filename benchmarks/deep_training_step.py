"""Training steps of the deep networks: this code, as the trainer runs it, and plain PyTorch.

    python -m benchmarks.deep_training_step --out=benchmarks/deep_training_step.md

From the folder of the checkout. PyTorch (`pip install -e '.[benchmark]'`) may be absent; its
columns stay empty then. Every side of a network is a process of its own, so that its peak
memory is its own; both stay alive and take turns, because the machine's speed changes with its
neighbours. `--stock` also measures VGG11-bn with XLA's own convolutions, which takes minutes.
"""

# Libraries are imported in functions: the peak memory of a side must not hold the other's.
import argparse
import dataclasses
import math
from pathlib import Path
import statistics
import sys
import tempfile
import time

from tqdm import tqdm

from benchmarks import machine
from benchmarks.workers import Runner, Worker, alternate, with_spread

NETWORKS = ("lenet", "alexnet", "vgg11_bn", "vgg16_bn", "resnet18", "efficientnet_b0")
OURS, NCHW, NHWC = "this code", "PyTorch NCHW", "PyTorch channels-last"
STOCK, STOCK_NETWORK = "XLA's convolutions", "vgg11_bn"
CLASSES, SIDE, CHANNELS = 10, 32, 3
MOMENTUM, DECAY = 0.9, 5e-4
# Labels are random: a rate at which nothing diverges, as NaN may cost other time.
LEARNING_RATE = 0.01
DISTINCT_IMAGES = 512
STEPS_PER_CALL = 20  # the trainer's


@dataclasses.dataclass(frozen=True)
class Options:
    """What a worker is told.

    Attributes:
      batch: images a step.
      images: of the training set that batches are drawn from, this code only.
      steps_per_call: of the trainer, this code only.
      cache: folder of the persistent compilation cache, this code only.
    """

    batch: int
    images: int
    steps_per_call: int
    cache: str


def synthetic_training(network: str, options: Options):
    """The trainer's own `ClassifierTraining` of CIFAR-10's config, on random images."""
    from functools import partial

    import jax
    import numpy as np

    from cnnpool.configs import cifar10 as cifar10_config
    from cnnpool.data import cifar10
    from cnnpool.data.images import Split, crop_and_flip
    from cnnpool.training import classifier_setup

    rng = np.random.default_rng(0)
    count = max(DISTINCT_IMAGES, 2 * options.batch)
    images = rng.integers(0, 256, (count, SIDE, SIDE, CHANNELS), np.uint8)
    labels = np.arange(count, dtype=np.int32) % CLASSES
    config = cifar10_config.get_config("paper").copy_and_resolve_references().unlock()
    config.model.name = network
    config.training.batch_size = options.batch
    config.training.schedule = "constant"
    config.training.learning_rate = LEARNING_RATE
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        np.save(Path(folder) / "labels.npy", labels)
        config.data = {
            "name": "arrays",
            "data_dir": folder,
            "test_fraction": 0.25,
            "seed": 0,
            "mean": None,
            "std": None,
            "image_noise": 0.0,
        }
        training = classifier_setup.setup(config.lock())
    view = partial(crop_and_flip, padding=cifar10.PADDING)
    data = dataclasses.replace(training.data, random_view=view)
    rows = np.arange(options.images) % count
    return dataclasses.replace(
        training,
        data=data,
        recipe=dataclasses.replace(training.recipe, augment=data.augment),
        train=Split(jax.numpy.asarray(images)[rows], jax.numpy.asarray(labels)[rows]),
    )


def ours(network: str, options: Options) -> tuple[Runner, float]:
    """Steps of this code and the seconds of tracing and compiling them."""
    import jax

    from cnnpool.devices import runtime
    from cnnpool.training.groups import NO_STEP

    jax.config.update("jax_compilation_cache_dir", options.cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    runtime.one_cpu_device_per_core(1)
    training = synthetic_training(network, options)
    state = training.initial_state().networks
    began = time.perf_counter()
    steps = training.compile(training.recipe.steps, stacked=2, shared=4)
    compiled = steps.lower(state, training.keys, training.train, 0, 0, 1).compile()
    seconds = time.perf_counter() - began

    def run(count: int) -> float:
        nonlocal state
        loss = 0.0
        for start in range(0, count, options.steps_per_call):
            stop = min(options.steps_per_call, count - start)
            state, metrics = compiled(state, training.keys, training.train, 0, 0, stop)
            metrics = jax.device_get(metrics)
            loss += float(metrics.loss[0]) if metrics.first_bad_step[0] == NO_STEP else math.nan
        return loss

    return run, seconds


def stock(network: str, options: Options) -> tuple[Runner, float]:
    """`ours` with XLA's own convolutions and their own gradients."""
    from cnnpool.kernels import convolution
    from cnnpool.models import layers

    def conv2d(x, kernel, *, stride, padding, groups):
        return convolution.xla(stride=stride, padding=padding, groups=groups).forward(x, kernel)

    layers.conv2d = conv2d  # type: ignore[assignment]  # this process does nothing else
    return ours(network, options)


def pytorch(network: str, options: Options, *, channels_last: bool) -> tuple[Runner, float]:
    """Eager steps of the same network on one batch in memory; nothing is compiled."""
    import torch
    from torch.nn import functional

    from tests.oracles import torch_networks

    torch.set_num_threads(machine.cores())
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = torch_networks.build(network, in_channels=CHANNELS, outputs=CLASSES)
    net = net.to(memory_format=layout).train()
    images = torch.randn(options.batch, CHANNELS, SIDE, SIDE).to(memory_format=layout)
    labels = torch.randint(0, CLASSES, (options.batch,))
    optimizer = torch.optim.SGD(
        net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=DECAY
    )

    def run(count: int) -> float:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return run, 0.0


def build(side: str, network: str, options: Options) -> tuple[Runner, float]:
    """One side of the comparison and its seconds of compiling."""
    if side in (NCHW, NHWC):
        return pytorch(network, options, channels_last=side == NHWC)
    return {OURS: ours, STOCK: stock}[side](network, options)


def worker(side: str, network: str, options: Options) -> Worker:
    """One side of one network in a process of its own."""
    return Worker(f"{side} of {network}", build, (side, network, options))


@dataclasses.dataclass(frozen=True)
class Side:
    """What was measured of one side of a network.

    Attributes:
      rates: images/s of every turn.
      memory: peak, GiB.
    """

    rates: list[float]
    memory: float

    @property
    def median(self) -> float:
        """Images/s."""
        return statistics.median(self.rates)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of a network.

    Attributes:
      sides: by name.
      steps: of a turn.
      compiling: seconds, without and with a warm compilation cache.
      compiling_memory: peak of the process that compiles, GiB.
    """

    sides: dict[str, Side]
    steps: int
    compiling: tuple[float, float]
    compiling_memory: float


def measure(network: str, args: argparse.Namespace, bar: tqdm) -> Measured:
    """All sides of a network, in turns."""
    with tempfile.TemporaryDirectory() as cache:
        options = Options(args.batch, args.images, STEPS_PER_CALL, cache)
        bar.set_postfix_str(f"{network}: compiling")
        first = worker(OURS, network, options)
        compiling_memory = first.finish()
        names = [OURS, *((NCHW, NHWC) if machine.has_torch() else ())]
        workers = {name: worker(name, network, options) for name in names}
        steps = turn_length(workers, args)
        rates: dict[str, list[float]] = {name: [] for name in workers}
        for repeat, name in alternate(args.repeats, names):
            bar.set_postfix_str(f"{network}: {name}, turn {repeat + 1} of {args.repeats}")
            rates[name].append(steps * args.batch / workers[name].seconds(steps))
        warm = workers[OURS].compile_seconds
        sides = {name: Side(rates[name], one.finish()) for name, one in workers.items()}
        if args.stock and network == STOCK_NETWORK:
            bar.set_postfix_str(f"{network}: {STOCK}, one step")
            slow = worker(STOCK, network, options)
            sides[STOCK] = Side([args.batch / slow.seconds(1)], slow.finish())
    return Measured(sides, steps, (first.compile_seconds, warm), compiling_memory)


def turn_length(workers: dict[str, Worker], args: argparse.Namespace) -> int:
    """Warms every side up; steps a turn, as asked for or as fit the seconds of a turn."""
    for worker in workers.values():
        worker.seconds(1)
    if args.steps is not None:
        return args.steps
    wanted = args.turn_seconds / workers[OURS].seconds(1)
    return max(2, math.ceil(wanted))


def ratios(sides: dict[str, Side]) -> list[float]:
    """Our rate over the better PyTorch's, in every round; empty without PyTorch."""
    theirs = [sides[name] for name in (NCHW, NHWC) if name in sides]
    if not theirs:
        return []
    best = max(theirs, key=lambda side: side.median)
    return [a / b for a, b in zip(sides[OURS].rates, best.rates, strict=True)]


def row(network: str, found: Measured) -> str:
    """One row of the table."""
    sides = found.sides
    rates = [with_spread(sides[n].rates, 0) if n in sides else "-" for n in (OURS, NCHW, NHWC)]
    memory = [f"{sides[n].memory:.2f}" if n in sides else "-" for n in (OURS, NCHW, NHWC)]
    ratio = ratios(sides)
    cells = [
        network,
        str(found.steps),
        *rates,
        f"**{with_spread(ratio, 2)}**" if ratio else "-",
        *memory,
        *(f"{seconds:.1f}" for seconds in found.compiling),
        f"{found.compiling_memory:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def table(results: dict[str, Measured], args: argparse.Namespace) -> str:
    """The results as markdown."""
    arguments = " ".join(["python -m benchmarks.deep_training_step", *sys.argv[1:]])
    lines = [
        "# Training step of the deep networks",
        "",
        f"{machine.describe()}; both sides use {machine.cores()} threads. Batch {args.batch}, "
        f"{SIDE} x {SIDE} x {CHANNELS}, {CLASSES} classes, float32, SGD with momentum {MOMENTUM} "
        f"and decay {DECAY}.",
        "",
        f"Command: `{arguments}`",
        "",
        f"This code runs as in training: batches drawn from {args.images} uint8 images in memory, "
        "random crops, flips and normalization inside the step, up to "
        f"{STEPS_PER_CALL} steps in one call. PyTorch is eager and repeats steps on one batch "
        "that is already in memory, without augmentation: ours does more. The sides are "
        f"processes that live side by side and take {args.repeats} turns of as many steps each; "
        "given are medians (smallest to largest). The ratio is that of neighbouring turns to the "
        "layout that suits PyTorch better. Peak memory is that of the whole process, libraries "
        "included; ours has loaded its program from the compilation cache. Compiling counts "
        "tracing too, and comes once a start.",
        "",
        "| network | steps a turn | this code, images/s | PyTorch NCHW, images/s "
        "| PyTorch channels-last, images/s | ours / best PyTorch | this code, GiB "
        "| PyTorch NCHW, GiB | PyTorch channels-last, GiB | compiling, s "
        "| with a warm cache, s | compiling, GiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(row(network, found) for network, found in results.items()),
    ]
    for network, found in results.items():
        if STOCK in found.sides:
            side = found.sides[STOCK]
            times = found.sides[OURS].median / side.median
            lines += [
                "",
                f"{network} with XLA's own convolutions and gradients: {side.median:.1f} images/s "
                f"(one step, {side.memory:.2f} GiB); this code is {times:.1f} times faster.",
            ]
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="markdown file to write")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="(%(default)s)")
    parser.add_argument("--repeats", type=positive, default=5, help="turns a side (%(default)s)")
    parser.add_argument("--steps", type=positive, help="steps a turn (as --turn-seconds says)")
    parser.add_argument(
        "--turn-seconds",
        type=float,
        default=2.0,
        help="of this code, and at least 2 steps (%(default)s)",
    )
    parser.add_argument("--batch", type=positive, default=128, help="images (%(default)s)")
    parser.add_argument(
        "--images", type=positive, default=50_000, help="training images (%(default)s)"
    )
    parser.add_argument(
        "--stock", action="store_true", help=f"{STOCK_NETWORK} with XLA's convolutions too"
    )
    args = parser.parse_args()
    if args.images < args.batch * STEPS_PER_CALL:
        parser.error(
            f"--images {args.images} must hold {STEPS_PER_CALL} batches of {args.batch}: a call "
            "trains on that many"
        )
    return args


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def main() -> None:
    """Runs the benchmark."""
    args = parse()
    results: dict[str, Measured] = {}
    with tqdm(args.networks, unit="network") as bar:
        for network in bar:
            results[network] = measure(network, args, bar)
            tqdm.write(row(network, results[network]), file=sys.stdout)
    text = table(results, args)
    if args.out:
        args.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
