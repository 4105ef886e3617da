"""Writes docs/scaling.md: traffic between devices, where it binds, cost of the full programme.

    python -m benchmarks.scaling --out=docs/scaling.md

Run it from the checkout. The numbers are calculated from the networks' shapes and published speeds,
or come from programs compiled for TPU (`benchmarks.tpu_compile`). Nothing is run on an accelerator,
and nothing is measured.
"""

import argparse
from collections.abc import Iterable, Sequence
import math
from pathlib import Path

from benchmarks import communication, compiled_steps
from benchmarks.accelerators import (
    MACHINES,
    Machine,
    all_gather_seconds,
    all_reduce_seconds,
)
from benchmarks.compiled_rows import CHIP
from benchmarks.programme import (
    BACKWARD,
    Training,
    classifier_trainings,
    images_of,
    simple_cnns,
    simple_epochs,
)
from cnnpool import command_line
from cnnpool.compiling.table import number
from cnnpool.files.atomic_write import write_atomically
from cnnpool.models import TRAINED_HERE

UTILIZATION = 0.2  # assumed part of the peak that convolutions reach
LATENCY = 10e-6  # assumed seconds of a collective, however small
LEAST_STEP = 0.5e-3  # assumed seconds of a step, however small the network


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; all columns but the first are aligned right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def traffic_table(trainings: Sequence[Training]) -> str:
    """Bytes that a device exchanges with others, for each network."""
    rows = []
    for one in trainings:
        size, config = one.size, one.config
        chunks = math.ceil(images_of(config)[1] / config.runtime.test_batch_size)
        rows.append(
            (
                one.name,
                f"{size.parameters:,}",
                f"{size.normalized_channels:,}",
                f"{communication.step_bytes(size):,}",
                f"{communication.gathered_bytes(size):,}",
                collectives(one),
                f"{communication.evaluation_bytes(size, chunks=chunks):,}",
                f"{communication.measurement_bytes(size):,}",
                number(step_flops(one) / 1e9),
            )
        )
    return table(
        (
            "run",
            "parameters",
            "channels under batch norm",
            "bytes a step",
            "gathered a step",
            "collectives in a row",
            "bytes an evaluation",
            "bytes a measurement",
            "GFLOP a step",
        ),
        rows,
    )


def collectives(one: Training) -> int:
    """Number of sequential collectives in a step: two per batch norm, and one for the rest."""
    return 2 * one.size.norms + 1


def step_flops(one: Training) -> float:
    """Operations in one training step of one network."""
    return (1 + BACKWARD) * one.config.training.batch_size * one.size.flops


def step_seconds(
    one: Training, machine: Machine, devices: int, *, latency: float
) -> tuple[float, float]:
    """Seconds of computation and of communication in a step of one network on some devices."""
    computing = step_flops(one) / devices / (UTILIZATION * machine.peak)
    summing = all_reduce_seconds(machine, devices, communication.step_bytes(one.size))
    gathering = all_gather_seconds(machine, devices, communication.gathered_bytes(one.size))
    return computing, summing + gathering + latency * collectives(one) * (devices > 1)


def bound_at(one: Training, machine: Machine, *, latency: float) -> str:
    """The fewest devices, a power of two, at which a step communicates longer than it computes."""
    devices = 2
    while devices <= machine.devices:
        computing, communicating = step_seconds(one, machine, devices, latency=latency)
        if communicating > computing:
            return str(devices)
        devices *= 2
    return "-"


def bound_table(trainings: Sequence[Training]) -> str:
    """The number of devices at which steps become bound by communication."""
    rows = []
    for one in trainings:
        row: list[object] = [one.name]
        for machine in MACHINES:
            alone = 1e3 * step_seconds(one, machine, 1, latency=0)[0]
            found = [bound_at(one, machine, latency=latency) for latency in (0, LATENCY)]
            row += [number(alone), *found]
        rows.append(row)
    header = ["run"]
    for machine in MACHINES:
        header += [f"{machine.name}: ms a step alone", "bound at, links", "with latency"]
    return table(header, rows)


def device_hours(machine: Machine, *, flops: float, steps: int) -> float:
    """Device hours for all networks together, from their operations and steps."""
    return max(flops / (UTILIZATION * machine.peak), steps * LEAST_STEP) / 3600


def cost_table(trainings: Sequence[Training]) -> str:
    """Device hours of the whole programme."""
    networks, steps, flops = simple_cnns()
    everything = [(one.name, one.seeds, one.steps, one.flops) for one in trainings]
    everything.append(("Figure 4, H = 1000", networks, steps, flops))
    rows, sums = [], [0.0] * len(MACHINES)
    for name, seeds, steps, flops in everything:
        hours = [device_hours(m, flops=flops, steps=seeds * steps) for m in MACHINES]
        sums = [total + more for total, more in zip(sums, hours, strict=True)]
        rows.append((name, seeds, f"{steps:,}", number(flops / 1e15), *map(number, hours)))
    count, flops = (sum(row[i] for row in everything) for i in (1, 3))
    rows.append(("**all**", count, "", number(flops / 1e15), *(f"**{number(h)}**" for h in sums)))
    spread = [h / min(m.devices, count) for h, m in zip(sums, MACHINES, strict=True)]
    rows.append(("hours with all devices busy", "", "", "", *map(number, spread)))
    names = [f"{machine.name}, device hours" for machine in MACHINES]
    return table(("run", "networks", "steps each", "PFLOP of all", *names), rows)


def document() -> str:
    """The whole page."""
    trainings = list(classifier_trainings())
    return f"{calculated(trainings)}\n{compiled(trainings)}"


def calculated(trainings: Sequence[Training]) -> str:
    """The first half of the page: what follows from shapes and published speeds."""
    plain = [one for one in trainings if not one.config.data.get("image_noise", 0.0)]
    worst = max(plain, key=lambda one: step_seconds(one, MACHINES[0], 8, latency=0)[1])
    slowest = 1e3 * step_seconds(worst, MACHINES[0], 8, latency=0)[1]
    return f"""# Many devices

Made by `python -m benchmarks.scaling --out=docs/scaling.md`. **Calculated from shapes and
published speeds; no accelerator was used, and nothing here is measured.** The number of bytes is
tested against compiled programs: `tests/devices/test_communication.py` compiles training steps,
evaluations and a measurement for eight devices, and finds these collectives and no others, with
these sizes to within 5 %.

## The mesh

The mesh has `config.runtime.mesh.seed` x `config.runtime.mesh.data` devices: independent networks
in parallel, each on `data` devices that share its batches. Different networks do not communicate.
Every device holds the whole data set in memory, and draws and augments its part of a batch itself.

- **Increase `seed` first.** One device per network (`data` = 1) needs no communication, and the
  programme has {sum(one.seeds for one in trainings)} classifiers, more than any machine considered
  here has devices. Set `mesh.seed` to the number of seeds of a run, and start several runs in
  parallel.
- **Increase `data`** if a single network must finish sooner, as long as a step computes longer
  than it communicates (second table). On GPUs, keep `data` a divisor of 8, so that batches are
  shared only within a host and never over InfiniBand. `data` is the inner axis of the mesh:
  neighbouring devices share a batch.
- Results do not depend on `seed`. They depend on `data` only by rounding, because sums are computed
  in a different order.

## Communication between devices

The table shows, for each network as the protocol trains it (batch 128, float32), how many bytes are
summed over the devices that share a batch; a device sends up to twice as many. With P parameters, C
channels under batch normalization, O outputs, E<sub>l</sub> activations of unit l, and
S<sub>l</sub> <= 1024 projections of them:

- a training step: 4 (P + 2) bytes, for gradients, loss and error. The backward pass of batch
  normalization needs two sums per channel, which are also the gradients of its scale and shift. In
  addition, every device sends mean and variance of its own images to all others, 8 C bytes
  ("gathered").
- an evaluation on all test images: 4 (chunks (2 O + 2) + 1) bytes, where a chunk has
  `runtime.test_batch_size` images.
- a measurement of D, G, R of all units under one transform: 4 (sum<sub>l</sub> (2 E<sub>l</sub> +
  S<sub>l</sub> + 1) + 2) bytes for any number of images: the mean activation of the first batch,
  and later that of all images.

{traffic_table(plain)}

GFLOP counts the products of convolutions and linear layers for 128 images: once in the forward
pass and twice in the backward pass. "Collectives in a row" cannot overlap: two for each batch norm
(statistics and gradient), and one for the rest. A compiler may split them further.

## When communication limits the speed

{_sources()}

Assumptions: convolutions reach {UTILIZATION:.0%} of the peak, including all overhead; communication
does not overlap with computation. "Bound at" is the smallest number of devices sharing a batch of
128 for which a step communicates longer than it computes ("-" if there is none on this machine).
"Links" uses only the published bandwidth; "with latency" adds {LATENCY * 1e6:g} us for each
collective in a row. This latency is a guess, as none is published, and it dominates for small
networks.

{bound_table(plain)}

The largest sum, that of {worst.name}, takes {number(slowest)} ms over the links of v5e-8.

## The full programme

This is every run of `launch/items.py` with the preset `paper`: all networks, initializations and
epochs of the protocol, a test after every epoch, D, G, R at two stages with five shuffles; and the
simple CNNs of Figure 4 for 20,000 epochs (500 times an interpolation at epoch 40), each run step by
step (the trainer leaves out most of them, `training.skip_zero_gradients`). It assumes
{UTILIZATION:.0%} of the peak, and at least {LEAST_STEP * 1e3:g} ms per step, because small networks
do not fill a device. torchvision's networks are not trained.

{cost_table(trainings)}

At half this utilization, all but the smallest runs take twice as long, so these numbers are orders
of magnitude. No accelerator reaches {UTILIZATION:.0%} of its peak in the depthwise convolutions of
EfficientNetB0. Several seeds of a small network on one device (`runtime.seeds_per_batch`) cost
little more than one (image classifiers; simple CNNs in one group leap over epochs only together).
"""


def _sources() -> str:
    return "\n".join(
        f"- {m.name}: {m.peak / 1e12:g} TFLOP/s per device ({m.arithmetic}); {m.links}. The "
        f"calculation uses {m.fast / 1e9:g} GB/s out of a device"
        + (f", {m.slow / 1e9:g} GB/s to other hosts" if m.slow != m.fast else "")
        + f". Published: <{m.source}>"
        for m in MACHINES
    )


def compiled(trainings: Sequence[Training]) -> str:
    """The second half of the page: what programs compiled for TPU contain."""
    return f"""## Compiled for a TPU

The sections above are calculated. The numbers below come from programs that the TPU compiler
compiled for v5e, without a TPU; none of them was run. Memory, collectives, operations and bytes are
those of one chip. A bound is the shortest possible time at published peak speeds, not a prediction.
`cnnpool train --config=CONFIG --compile_for=v5e:2x4` prints the same for any run, also for v4, v5p
and v6e. All rows, with commits, are in [benchmarks/tpu_compile.md](../benchmarks/tpu_compile.md).

### One, five and ten networks on v5e-8

The best mesh (`seed` x `data`) is the one with the smallest bound among those compiled, with
{LATENCY * 1e6:g} us added per collective as above. More networks than `seed` are trained in rounds;
fewer leave chips free for other runs. Memory is that of arguments and temporaries, of
{CHIP.memory / 2**30:g} GiB; the other columns are for one step of all networks.

{compiled_table()}

{not_compiled(trainings)}

### The full programme from compiled steps

Chip hours of training only. "At least" is the bound (if no mesh N x 1 was compiled, the time of
products alone); "at {UTILIZATION:.0%}" assumes products at {UTILIZATION:.0%} of the peak and at
least {LEAST_STEP * 1e3:g} ms per step; "calculated" is the table above, which includes tests and
measurements. Noise added to images is not counted. The numbers differ from the calculation because
compiled steps skip products with padding, and because linear layers and simple CNNs use float32's
highest precision, which takes six bfloat16 products.

{compiled_cost_table(trainings)}

### Compile times

CPU seconds to lower and compile a training step. Most rows were compiled on cores that were shared
with other work, which makes CPU seconds grow, too. The compiler uses nearly two cores: on two idle
ones, eight EfficientNet-B0 or ResNet50 on 8 x 1 devices are compiled in less than 80 seconds (both
on CIFAR-10). With 8 x 1 devices, every chip has all 128 images of a batch and holds larger programs
than with 1 x 8.

{compile_times_table()}

### Batch norm over devices that share a batch

With three all-reduces per batch norm (mean, variance, and both sums of the gradient, which the
compiler combines), a step of VGG11-bn at a quarter of its width had 26 on 1 x 8 chips: 24 for its
eight norms, one for the last linear layer and one for everything else. Now every device computes
mean and variance of its own images in two passes, and all devices exchange both in a single
all-gather. This leaves 18 collectives, and 98 instead of 146 for EfficientNet-B0. Two per norm
remain, because the gradient needs its two sums. In VGGs, the TPU compiler overlaps none of them
with other work; in ResNets it overlaps a few all-gathers, such as that of a shortcut's norm, with
convolutions beside them.
The lowered programs for one device, and for meshes N x 1, are unchanged.

The table shows errors of the variance in float32 over eight devices, against float64
([benchmarks/batch_statistics.md](../benchmarks/batch_statistics.md)). Mean square minus squared
mean would also need only one exchange, but it cancels: the error is small in these networks, but
large for activations whose mean is far from zero.

{rows_of("batch_statistics")}

### Measurements

D, G, R on eight chips, with images sharded and parameters replicated
([benchmarks/tpu_measurement.md](../benchmarks/tpu_measurement.md)).

{rows_of("tpu_measurement")}

### Layout of the images

This was tried once, with programs that are not among the benchmarks. CIFAR-10 as uint8 takes 148
MiB of arguments: images lie along the fastest axis, without padding. Each call of the training
program, at most one per epoch, first copies them into a layout with one image after the other. This
pads rows of 32 pixels to 128, takes 587 MiB of temporaries and, at the published bandwidth, 0.9 ms
(155 MB read, 616 MB written). A step of LeNet on 8 x 1 chips then reads 1.6 MB for 128 images. With
images of shape (50,000, 24, 128) or (50,000, 3,072), the program has 1.7 MiB of temporaries, no
copy, and reads 0.4 MB per step. This would save 1.4 us per step, 0.9 ms per epoch and 3.6 % of the
memory. None of these is a bottleneck, so images keep their shape.

### Several slices

`--compile_for=v5e:2x4,slices=2` compiles for two slices. In the mesh, one slice follows the other:
`data` stays within a slice if it divides the number of its chips. The compiled step of LeNet on two
slices of 2 x 2 has no collectives on an 8 x 1 mesh, and four all-reduces within each slice on 2 x
4. On 1 x 8, slices exchange sums over the hosts' network, which no bound here includes.
"""


def compiled_table() -> str:
    """The best mesh of every compiled network."""
    found = [
        line
        for data in ("cifar10", "scale2d")
        for name in TRAINED_HERE
        for line in compiled_steps.lines(name, data, LATENCY)
    ]
    return table(compiled_steps.columns(), found)


def compile_times_table() -> str:
    """The least, median and largest compile time on every mesh."""
    header = ("data", "mesh", "networks", "least, s", "median, s", "most, s")
    found = [line for data in ("cifar10", "scale2d") for line in compiled_steps.compile_times(data)]
    return table(header, found)


def not_compiled(trainings: Sequence[Training]) -> str:
    """A sentence on the paper's networks without a row."""
    pairs = dict.fromkeys((one.config.model.name, one.config.data.name) for one in trainings)
    names = [f"{data}-{name}" for name, data in pairs if not compiled_steps.steps(name, data, 1)]
    return (
        f"Of the paper's networks, these are not compiled yet: {', '.join(names)}."
        if names
        else "All of the paper's networks were compiled."
    )


def compiled_cost_table(trainings: Sequence[Training]) -> str:
    """Chip hours of the programme from compiled steps, beside the calculated ones."""
    rows, sums = [], [0.0] * 3
    runs = [
        (
            one.name,
            one.seeds * one.steps,
            compiled_steps.chip_seconds(one.config.model.name, one.config.data.name),
            device_hours(MACHINES[0], flops=one.flops, steps=one.seeds * one.steps),
        )
        for one in trainings
    ]
    networks, steps, flops = simple_cnns()
    calculated = device_hours(MACHINES[0], flops=flops, steps=networks * steps)
    epoch = compiled_steps.chip_seconds("simple_cnn", "scale1d")
    runs.append(("Figure 4, H = 1000", networks * simple_epochs(), epoch, calculated))
    for name, count, seconds, before in runs:
        if seconds is None:
            continue
        least, products = seconds
        slow = max(products / UTILIZATION, least, LEAST_STEP)
        hours = [count * least / 3600, count * slow / 3600, before]
        sums = [total + more for total, more in zip(sums, hours, strict=True)]
        rows.append((name, *map(number, hours)))
    rows.append((f"**{len(rows)} of {len(runs)} runs**", *map(number, sums)))
    return table(("run", "at least, hours", f"at {UTILIZATION:.0%}", "calculated"), rows)


def rows_of(name: str) -> str:
    """The table of another page in this folder."""
    lines = (Path(__file__).parent / f"{name}.md").read_text("utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "benchmarks.scaling")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown file to write")
    args: argparse.Namespace = parser.parse_args(argv)
    text = document()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out, lambda beside: beside.write_text(text))
    print(f"in {args.out}")


if __name__ == "__main__":
    command_line.run(main)
