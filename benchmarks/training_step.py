"""Training steps of the simple CNN: this code, plain PyTorch, and the machine's own rate.

    python benchmarks/training_step.py --out=benchmarks/training_step.md

Needs `pip install -e '.[benchmark]'` (PyTorch). One run measures all sides in turn, several
rounds each, and reports the fastest of each: the machine's speed changes with its
neighbours, so only ratios within one run mean anything.
"""

import argparse
from collections.abc import Callable, Sequence
import os
from pathlib import Path
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional

from cnnpool.configs import scale1d
from cnnpool.devices import runtime
from cnnpool.runs import provenance
from cnnpool.training import ring_setup
from cnnpool.training.hinge import hinge
from cnnpool.training.ring_step import TrainingSet

DEPTH, TAPS, LENGTH, BATCH = 12, 3, 32, 8
STEPS_AN_EPOCH = 6
EPOCHS = {100: 30, 256: 8, 1000: 4}
INTERPOLATED = 500  # epochs, several times as many as interpolation takes
EPOCHS_AFTER = {100: 2000, 256: 1000, 1000: 500}  # enough to average over epochs with a loss


def best_of(rounds: int, sides: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Fastest seconds of each side; the sides take turns, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


def step_flops(width: int) -> float:
    """Multiplications and additions of the products of one step; the first layer has no dx."""
    positions = BATCH * LENGTH
    return 2.0 * positions * TAPS * (2 * width + 3 * (DEPTH - 1) * width**2)


class TorchNetwork(torch.nn.Module):
    """The same network, as one writes it in PyTorch: circular padding and conv1d."""

    def __init__(self, params: dict):
        super().__init__()
        self.kernels = torch.nn.ParameterList(
            torch.tensor(np.asarray(params[f"conv{k:02d}"]["kernel"]).transpose(2, 1, 0).copy())
            for k in range(1, DEPTH + 1)
        )
        self.biases = torch.nn.ParameterList(
            torch.tensor(np.array(params[f"conv{k:02d}"]["bias"])) for k in range(1, DEPTH + 1)
        )
        self.beta = torch.nn.Parameter(torch.tensor(np.array(params["linear"]["kernel"])[:, 0]))
        self.offset = torch.nn.Parameter(torch.tensor(np.array(params["linear"]["bias"])))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 1, length) -> (batch,)."""
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            fan_in = kernel.shape[1] * TAPS
            x = functional.conv1d(functional.pad(x, (1, 1), mode="circular"), kernel)
            x = TAPS**0.5 * torch.relu(x / fan_in**0.5 + bias[:, None])
        return x.mean(-1) @ self.beta / len(self.beta) + self.offset


def torch_epoch(
    config, params: dict, images: np.ndarray, labels: np.ndarray
) -> Callable[[], float]:
    """A function that trains the PyTorch network for one epoch and returns its last loss."""
    network = TorchNetwork(params)
    width = config.model.width
    decay = 2 * config.training.ridge / (width * DEPTH)
    rest = [*network.biases, network.beta, network.offset]
    optimizer = torch.optim.SGD(
        [{"params": list(network.kernels), "weight_decay": decay}, {"params": rest}],
        lr=config.training.learning_rate_per_channel * width,
    )
    x, y = torch.tensor(images.transpose(0, 2, 1).copy()), torch.tensor(labels)

    def epoch() -> float:
        for index in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            loss = torch.relu(1 - y[index] * network(x[index])).mean()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    epoch.network = network  # type: ignore[attr-defined]
    return epoch


def make_config(width: int, *, seeds: Sequence[int] = (0,), skip: bool = True):
    """The paper's config at another width."""
    config = scale1d.get_config("cpu")
    with config.unlocked():
        config.model.width = width
        config.seeds = tuple(seeds)
        config.training.skip_zero_gradients = skip
    return config


def jax_block(config, devices: int):
    """Compiled block, initial parameters, training sets and network on some devices."""
    net = ring_setup.network(config)
    mesh = runtime.seed_mesh(len(config.seeds), devices=jax.devices()[:devices])
    state = ring_setup.initial_state(net, config.seeds, mesh)
    data = ring_setup.training_sets(config, net.data, mesh)
    block = ring_setup.sgd(config, net).compile(mesh, seeds_per_batch=1)
    active = jnp.ones(len(config.seeds), bool)
    return (lambda params, a, b: block(params, data, active, a, b)), state.networks, data, net


def check_sides_agree(net, params, data: TrainingSet, epoch) -> None:
    """Both sides give the same loss on the same parameters, or the comparison is void."""
    ours = hinge(data.labels[0] * net.output(params, data.images[0])).mean()
    x = torch.tensor(np.asarray(data.images[0]).transpose(0, 2, 1).copy())
    with torch.no_grad():
        theirs = torch.relu(1 - torch.tensor(np.array(data.labels[0])) * epoch.network(x)).mean()
    np.testing.assert_allclose(float(ours), float(theirs), rtol=1e-3)


def product_rates(width: int, rounds: int) -> dict[str, float]:
    """GFLOP/s of XLA's float32 products: a large square, and the three of a layer, arrays warm."""
    rows, inputs = BATCH * LENGTH, TAPS * width
    x, w, dy = (jnp.ones(shape) for shape in ((rows, inputs), (inputs, width), (rows, width)))
    square = jnp.ones((2048, 2048))
    jitted = {
        "forward": (jax.jit(jnp.matmul), (x, w)),
        "to inputs": (jax.jit(lambda a, b: a @ b.T), (dy, w)),
        "to filters": (jax.jit(lambda a, b: a.T @ b), (x, dy)),
        "square 2048": (jax.jit(jnp.matmul), (square, square)),
    }
    repeats = max(1, int(4e9 / (2.0 * rows * inputs * width)))

    def run(function, arguments):
        for _ in range(repeats):
            out = function(*arguments)
        jax.block_until_ready(out)

    seconds = best_of(rounds, {n: (lambda v=v: run(*v)) for n, v in jitted.items()})
    flops = {n: 2.0 * rows * inputs * width for n in jitted} | {"square 2048": 2 * 2048.0**3}
    return {n: repeats * flops[n] / s / 1e9 for n, s in seconds.items()}


def measure_width(width: int, rounds: int) -> dict[str, float]:
    """Milliseconds a step of every side at one width, one network on all cores."""
    epochs = EPOCHS[width]
    full, params, data, net = jax_block(make_config(width, skip=False), devices=1)
    skipping, *_ = jax_block(make_config(width), devices=1)
    one = jax.tree.map(lambda leaf: leaf[0], params)
    torch_side = torch_epoch(
        make_config(width), one, np.asarray(data.images[0]), np.asarray(data.labels[0])
    )
    check_sides_agree(net, one, data, torch_side)
    start, stop = INTERPOLATED, INTERPOLATED + EPOCHS_AFTER[width]
    solved, _ = skipping(params, 0, start)
    _, metrics = skipping(solved, start, stop)
    assert float(metrics.hinge[0]) < 0.1, "not interpolated: the comparison is void"
    seconds = best_of(
        rounds,
        {
            "full": lambda: jax.block_until_ready(full(params, 0, epochs)),
            "after": lambda: jax.block_until_ready(skipping(solved, start, stop)),
            "torch": lambda: [torch_side() for _ in range(epochs)],
        },
    )
    counts = {"full": epochs, "after": stop - start, "torch": epochs}
    ms = {name: 1e3 * s / counts[name] / STEPS_AN_EPOCH for name, s in seconds.items()}
    return ms | {"backward": float(metrics.backward_fraction[0])}


def measure_seeds(width: int, rounds: int) -> dict[str, float]:
    """Seconds an epoch of four networks: one program, a core a network, or one after another."""
    seeds, cores = (0, 1, 2, 3), len(jax.devices())
    together, params, *_ = jax_block(make_config(width, seeds=seeds, skip=False), devices=cores)
    skipping, *_ = jax_block(make_config(width, seeds=seeds), devices=cores)
    alone, first, *_ = jax_block(make_config(width, skip=False), devices=1)
    epochs, start, stop = EPOCHS[width], INTERPOLATED, INTERPOLATED + EPOCHS_AFTER[width]
    solved, _ = skipping(params, 0, start)
    seconds = best_of(
        rounds,
        {
            "together": lambda: jax.block_until_ready(together(params, 0, epochs)),
            "after": lambda: jax.block_until_ready(skipping(solved, start, stop)),
            "one by one": lambda: [jax.block_until_ready(alone(first, 0, epochs)) for _ in seeds],
        },
    )
    counts = {"together": epochs, "after": stop - start, "one by one": epochs}
    return {name: s / counts[name] for name, s in seconds.items()}


def table(rounds: int) -> str:
    """Runs everything and lays it out as markdown."""
    lines = [
        "# Training step of the simple CNN",
        "",
        f"K = {DEPTH}, F = {TAPS}, L = {LENGTH}, batch {BATCH}; {platform.machine()}, "
        f"{len(jax.devices())} cores; jax {jax.__version__}, PyTorch {torch.__version__}; "
        f"commit {provenance.commit()}; fastest of {rounds} rounds in which all sides take turns. "
        f"GLIBC_TUNABLES={os.environ.get('GLIBC_TUNABLES', '(unset)')}.",
        "",
        "Command: `python benchmarks/training_step.py --out=benchmarks/training_step.md`",
        "",
        "One network on all cores, ms a step (all but the first column this code). After "
        "interpolation, steps without a loss need no backward pass, and whole epochs without one "
        f"are not run at all; these columns are averages over epochs from {INTERPOLATED:,} on.",
        "",
        "| H | PyTorch | every pass | after interpolation | backward | every / after "
        "| PyTorch / every | GFLOP/s | of a layer's products | of a 2048 square |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for width in EPOCHS:
        rates, ms = product_rates(width, rounds), measure_width(width, rounds)
        layer = 3 / sum(1 / rates[name] for name in ("forward", "to inputs", "to filters"))
        rate = step_flops(width) / ms["full"] / 1e6
        lines.append(
            f"| {width} | {ms['torch']:.2f} | {ms['full']:.2f} | {ms['after']:.3f} "
            f"| {ms['backward']:.1%} | {ms['full'] / ms['after']:.1f} "
            f"| {ms['torch'] / ms['full']:.2f} | {rate:.0f} | {rate / layer:.0%} of {layer:.0f} "
            f"| {rate / rates['square 2048']:.0%} of {rates['square 2048']:.0f} |"
        )
        print(lines[-1], flush=True)
    lines += [
        "",
        "Four networks, seconds an epoch of all four (the trainer runs them as one program, a core "
        "a network):",
        "",
        "| H | one after another, all cores | one program | ratio | after interpolation "
        "| every / after |",
        "|---|---|---|---|---|---|",
    ]
    for width in (100, 256):
        s = measure_seeds(width, rounds)
        lines.append(
            f"| {width} | {s['one by one']:.4f} | {s['together']:.4f} "
            f"| {s['one by one'] / s['together']:.2f} | {s['after']:.5f} "
            f"| {s['together'] / s['after']:.1f} |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="markdown file to write")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions (%(default)s)")
    args = parser.parse_args()
    runtime.one_cpu_device_per_core(len(os.sched_getaffinity(0)))
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    text = table(args.rounds)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
