"""Every convolution of the deep networks by every algorithm: is the chosen one the fastest?

    python -m benchmarks.convolution --out=benchmarks/convolution.md

From the folder of the checkout. PyTorch (`pip install -e '.[benchmark]'`) may be absent; its
column stays empty then. `--stock-backward` also measures XLA's own gradients, which take
seconds each.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
import statistics
import sys
import time
from typing import NamedTuple
from unittest import mock

import jax
from jax import Array, lax
import jax.numpy as jnp
from tqdm import tqdm

from benchmarks import machine
from cnnpool import models
from cnnpool.configs import cifar10
from cnnpool.devices import runtime
from cnnpool.kernels import convolution, depthwise, tiles, winograd
from cnnpool.kernels.convolution import Algorithm
from cnnpool.models import layers

NETWORKS = ("vgg16", "lenet", "alexnet", "resnet18", "resnet50", "efficientnet_b0")
XLA, DEPTHWISE, MIXED, TORCH = "XLA", "depthwise", "mixed choice", "PyTorch"
CHUNKED = "Winograd 4 in chunks"
# Of outputs a tile, (rows, columns), as the names in the table.
TILES = {
    block: f"tiles {block[0]} x {block[1]}" for block in ((1, 1), (1, 4), (2, 2), (2, 4), (4, 4))
}
WINOGRAD = {tile: f"Winograd {tile}" for tile in (2, 4)}
COLUMNS = (XLA, *TILES.values(), *WINOGRAD.values(), CHUNKED, DEPTHWISE, MIXED, TORCH)
FORWARD, BOTH = "forward", "forward and backward"
# Tiles of several outputs multiply by many zeros; with more channels that cannot pay.
CHANNELS_OF_BLOCKS = 64
# What takes longer is measured once.
SLOW_SECONDS = 1.0

# Seconds of one call, measured over a few of them.
Measure = Callable[[int], float]


class Shape(NamedTuple):
    """One convolution; images are square.

    Attributes:
      size: pixels a side.
      inputs: channels.
      outputs: channels.
      kernel: pixels a side.
      stride: pixels.
      padding: zeros on every side, pixels.
      groups: of channels.
    """

    size: int
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    groups: int

    @property
    def options(self) -> dict[str, int]:
        """Keyword arguments of `conv2d`."""
        return {"stride": self.stride, "padding": self.padding, "groups": self.groups}

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """(kh, kw, inputs of a group, outputs)."""
        return self.kernel, self.kernel, self.inputs // self.groups, self.outputs

    def image_shape(self, batch: int) -> tuple[int, int, int, int]:
        """(batch, height, width, channels)."""
        return batch, self.size, self.size, self.inputs


def shapes_of(network: str) -> list[Shape]:
    """The different convolutions of a network for 32 x 32 x 3 images, in forward order."""
    found: list[Shape] = []

    def record(x, kernel, **options):
        found.append(Shape(x.shape[1], x.shape[3], kernel.shape[3], kernel.shape[0], **options))
        return convolution.conv2d(x, kernel, **options)

    config = cifar10.get_config("paper").copy_and_resolve_references().unlock().model
    config.name = network
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    with mock.patch.object(layers, "conv2d", record):
        net = models.build(config)
        jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), image)
    return list(dict.fromkeys(found))


def all_shapes(networks: Sequence[str]) -> dict[Shape, list[str]]:
    """Every shape and the networks that have it."""
    users: dict[Shape, list[str]] = {}
    for network in networks:
        for shape in shapes_of(network):
            users.setdefault(shape, []).append(network)
    return users


def applicable(shape: Shape, batch: int) -> dict[str, Algorithm]:
    """The algorithms that can do a shape, by the name of their column."""
    found = {XLA: convolution.xla(**shape.options)}
    fixed = {"stride": shape.stride, "padding": shape.padding}
    if shape.groups > 1:
        if shape.groups == shape.inputs == shape.outputs:
            found[DEPTHWISE] = Algorithm(*depthwise.convolution(**fixed))
        return found
    for block, name in TILES.items():
        if block == (1, 1) or (shape.kernel > 1 and shape.inputs <= CHANNELS_OF_BLOCKS):
            found[name] = Algorithm(*tiles.convolution(**fixed, block=block))
    if (shape.kernel, shape.stride, shape.padding) == (3, 1, 1):
        for tile, name in WINOGRAD.items():
            found[name] = Algorithm(*winograd.convolution(tile=tile))
        size = convolution.chunk_size(shape.image_shape(batch), shape.outputs)
        if size < batch:
            found[CHUNKED] = convolution.in_chunks(found[WINOGRAD[4]], size)
    return found


class Choice(NamedTuple):
    """Columns of the algorithms that are chosen for the passes."""

    forward: str
    backward: str

    def column(self, phase: str) -> str:
        """Of the choice in the table of a phase."""
        if phase == FORWARD or self.forward == self.backward:
            return self.forward
        return MIXED


def actual(shape: Shape, batch: int) -> Algorithm:
    """What `cpu_algorithm` chooses."""
    return convolution.cpu_algorithm(shape.image_shape(batch), shape.kernel_shape, **shape.options)


def chosen(shape: Shape, batch: int) -> Choice:
    """What `cpu_algorithm` chooses, by name."""

    def named(name: str) -> Algorithm:
        return Algorithm(name, name)  # type: ignore[arg-type]  # stands for the functions

    with contextlib.ExitStack() as stack:
        for module, attribute, stand_in in (
            (convolution, "xla", lambda **_: named(XLA)),
            (tiles, "convolution", lambda *, block, **_: named(TILES[block])),
            (winograd, "convolution", lambda *, tile: named(WINOGRAD[tile])),
            (depthwise, "convolution", lambda **_: named(DEPTHWISE)),
            (convolution, "in_chunks", lambda _, size: named(CHUNKED)),
        ):
            stack.enter_context(mock.patch.object(module, attribute, stand_in))
        return Choice(*map(str, actual(shape, batch)))


def arrays(shape: Shape, batch: int) -> tuple[Array, Array, Array]:
    """Random x, kernel and dy."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], shape.image_shape(batch))
    kernel = jax.random.normal(keys[1], shape.kernel_shape)
    size = (shape.size + 2 * shape.padding - shape.kernel) // shape.stride + 1
    return x, kernel, jax.random.normal(keys[2], (batch, size, size, shape.outputs))


def repeated(algorithm: Algorithm, phase: str) -> Callable[..., tuple[Array, ...]]:
    """(x, kernel, dy, count) -> what the last of `count` runs of an algorithm gives.

    The outputs are the loop's state, so that all of them are computed. One entry of each input
    comes from the run before, so that nothing moves out of the loop. Both happen in place and
    cost no time of their own, as adding the outputs up would.
    """

    def once(x, kernel, dy):
        # As in conv2d.
        x = lax.optimization_barrier(x)
        y = algorithm.forward(x, kernel)
        return (y,) if phase == FORWARD else (y, *algorithm.backward(x, kernel, dy))

    def body(_, state):
        inputs, outputs = state
        entry = jnp.clip(sum(array[(0,) * array.ndim] for array in outputs), -1, 1)
        inputs = [array.at[(0,) * array.ndim].set(entry) for array in inputs]
        return inputs, once(*inputs)

    def loop(x, kernel, dy, count):
        inputs = [x, kernel, dy]
        shapes = jax.eval_shape(once, *inputs)
        outputs = tuple(jnp.zeros(array.shape, array.dtype) for array in shapes)
        return lax.fori_loop(0, count, body, (inputs, outputs))[1]

    return loop


def ours(algorithm: Algorithm, phase: str, shape: Shape, batch: int) -> Measure:
    """Measures an algorithm, compiled as in training."""
    inputs = arrays(shape, batch)
    options = runtime.with_barriers("cpu")
    compiled = jax.jit(repeated(algorithm, phase)).lower(*inputs, 1).compile(options)

    def measure(count: int) -> float:
        began = time.perf_counter()
        jax.block_until_ready(compiled(*inputs, count))
        return (time.perf_counter() - began) / count

    return measure


def pytorch(phase: str, shape: Shape, batch: int, *, channels_last: bool) -> Measure:
    """Measures PyTorch's own convolution, eager."""
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, kernel, dy = (torch.tensor(jax.device_get(a)) for a in arrays(shape, batch))
    x, dy = (a.permute(0, 3, 1, 2).contiguous(memory_format=layout) for a in (x, dy))
    kernel = kernel.permute(3, 2, 0, 1).contiguous(memory_format=layout)
    x, kernel = x.requires_grad_(), kernel.requires_grad_()

    def forward():
        return torch.nn.functional.conv2d(x, kernel, **shape.options)

    def measure(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            if phase == FORWARD:
                with torch.no_grad():
                    forward()
            else:
                torch.autograd.grad(forward(), (x, kernel), dy)
        return (time.perf_counter() - began) / count

    return measure


def median_turns(sides: dict[str, Measure], *, repeats: int, seconds: float) -> dict[str, float]:
    """Median seconds of a call of every side; the sides take turns.

    Args:
      sides: by name.
      repeats: turns.
      seconds: that a turn should take; one call where a call takes longer.
    """
    times = {}
    for name, side in sides.items():
        first = side(1)
        times[name] = [first if first > SLOW_SECONDS else side(1)]
    counts = {name: max(1, round(seconds / values[0])) for name, values in times.items()}
    quick = [name for name, values in times.items() if values[0] <= SLOW_SECONDS]
    turns: dict[str, list[float]] = {name: [] for name in quick}
    for _ in range(repeats):
        for name in quick:
            turns[name].append(sides[name](counts[name]))
    return {name: statistics.median(turns.get(name, values)) for name, values in times.items()}


def measure(shape: Shape, phase: str, args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of every algorithm, by column; PyTorch's layout is the faster one."""
    algorithms = applicable(shape, args.batch)
    if chosen(shape, args.batch).column(phase) == MIXED:
        algorithms[MIXED] = actual(shape, args.batch)
    if phase == BOTH and not args.stock_backward and len(algorithms) > 1:
        del algorithms[XLA]
    sides = {name: ours(a, phase, shape, args.batch) for name, a in algorithms.items()}
    layouts = (False, True) if machine.has_torch() else ()
    for last in layouts:
        sides[f"{TORCH} {last}"] = pytorch(phase, shape, args.batch, channels_last=last)
    found = median_turns(sides, repeats=args.repeats, seconds=args.seconds)
    if layouts:
        found[TORCH] = min(found.pop(f"{TORCH} {last}") for last in layouts)
    return {name: 1e3 * seconds for name, seconds in found.items()}


@dataclasses.dataclass(frozen=True)
class Row:
    """One shape, measured.

    Attributes:
      shape: of the convolution.
      networks: that have it.
      choice: the chosen algorithms.
      milliseconds: by phase and column.
    """

    shape: Shape
    networks: Sequence[str]
    choice: Choice
    milliseconds: dict[str, dict[str, float]]

    def over_fastest(self, phase: str) -> float:
        """Time of the choice over that of the fastest of our algorithms, XLA's included."""
        own = {name: ms for name, ms in self.milliseconds[phase].items() if name != TORCH}
        return own[self.choice.column(phase)] / min(own.values())

    def markdown(self, phase: str) -> str:
        """A row of a phase's table."""
        shape, times = self.shape, self.milliseconds[phase]

        def cell(name: str) -> str:
            text = f"{times[name]:.3g}" if name in times else "-"
            return f"**{text}**" if name == self.choice.column(phase) else text

        depth = " depthwise" if shape.groups > 1 else ""
        cells = [
            f"{shape.size}² x {shape.inputs}",
            f"{shape.kernel}² x {shape.outputs}{depth}, stride {shape.stride}",
            ", ".join(self.networks),
            *map(cell, COLUMNS),
            f"{self.over_fastest(phase):.2f}",
        ]
        return f"| {' | '.join(cells)} |"


def phase_table(rows: Sequence[Row], phase: str) -> Iterator[str]:
    """The table of one phase, in lines."""
    slower = [row for row in rows if row.over_fastest(phase) > 1.1]
    yield f"## {phase.capitalize()}, ms"
    yield ""
    yield (
        f"The choice is within 10 % of the fastest in {len(rows) - len(slower)} of {len(rows)} "
        "shapes."
    )
    yield ""
    yield f"| image | kernel | networks | {' | '.join(COLUMNS)} | choice / fastest |"
    yield "|" + "---|" * (len(COLUMNS) + 4)
    yield from (row.markdown(phase) for row in rows)
    yield ""


def table(rows: Sequence[Row], args: argparse.Namespace) -> str:
    """The results as markdown."""
    lines = [
        "# Convolutions of the deep networks",
        "",
        f"{machine.describe()}; {machine.cores()} threads. Batch {args.batch}, float32.",
        "",
        f"Command: `{' '.join(['python -m benchmarks.convolution', *sys.argv[1:]])}`",
        "",
        "In bold what `convolution.cpu_algorithm` chooses; a mixed choice goes forward by the "
        "algorithm in bold in the first table and backward by another one. Every algorithm runs "
        "alone in a compiled loop, with the compiler options of training; median of "
        f"{args.repeats} turns that all sides take, but what takes more than {SLOW_SECONDS:g} s "
        "is measured once. Backward gives the gradients with respect to image and kernel; a "
        "network's first convolution needs only the latter. Tiles of several outputs (rows x "
        f"columns) are measured up to {CHANNELS_OF_BLOCKS} input channels. PyTorch is eager, the "
        "faster of its two layouts. XLA's own gradients take up to seconds and are left out "
        "unless asked for with `--stock-backward`.",
        "",
        *phase_table(rows, FORWARD),
        *phase_table(rows, BOTH),
    ]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="markdown file to write")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="(%(default)s)")
    parser.add_argument("--batch", type=positive, default=128, help="images (%(default)s)")
    parser.add_argument("--repeats", type=positive, default=3, help="turns a side (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a turn (%(default)s)")
    parser.add_argument(
        "--stock-backward", action="store_true", help="XLA's own gradients too (minutes)"
    )
    return parser.parse_args()


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def main() -> None:
    """Runs the benchmark."""
    args = parse()
    runtime.one_cpu_device_per_core(1)
    if machine.has_torch():
        import torch

        torch.set_num_threads(machine.cores())
    rows = []
    for shape, networks in tqdm(all_shapes(args.networks).items(), unit="shape"):
        times = {phase: measure(shape, phase, args) for phase in (FORWARD, BOTH)}
        rows.append(Row(shape, networks, chosen(shape, args.batch), times))
    text = table(rows, args)
    if args.out:
        args.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
