"""Writes docs/scaling.md: traffic between devices, where it binds, cost of the full programme.

    python -m benchmarks.scaling --out=docs/scaling.md

From the folder of the checkout. Calculated from the shapes of the networks and from published
speeds, and read from the rows of programs that were compiled for TPU (`benchmarks.tpu_compile`).
Nothing is run on an accelerator, and nothing is measured.
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
from cnnpool.files.atomic_write import write_atomically
from cnnpool.models import TRAINED_HERE

UTILIZATION = 0.2  # assumed part of the peak that convolutions reach
LATENCY = 10e-6  # assumed seconds of a collective, however small
LEAST_STEP = 0.5e-3  # assumed seconds of a step, however small the network


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, all columns but the first to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def traffic_table(trainings: Sequence[Training]) -> str:
    """Bytes that a device sums with others, for each network."""
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
    """That wait for one another in a step: statistics and gradient of each norm, the rest."""
    return 2 * one.size.norms + 1


def step_flops(one: Training) -> float:
    """Of one training step of one network."""
    return (1 + BACKWARD) * one.config.training.batch_size * one.size.flops


def step_seconds(
    one: Training, machine: Machine, devices: int, *, latency: float
) -> tuple[float, float]:
    """Computing and communicating in a step of one network on some devices."""
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
    """Where steps become bound by communication."""
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
    """Of trainings with so many operations and steps, all networks counted."""
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
    plain = [one for one in trainings if not one.config.data.get("image_noise", 0.0)]
    sources = "\n".join(
        f"- {m.name}: {m.peak / 1e12:g} TFLOP/s a device ({m.arithmetic}); {m.links}. Of these the "
        f"calculation takes {m.fast / 1e9:g} GB/s out of a device"
        + (f", {m.slow / 1e9:g} GB/s to other hosts" if m.slow != m.fast else "")
        + f". Published: <{m.source}>"
        for m in MACHINES
    )
    worst = max(plain, key=lambda one: step_seconds(one, MACHINES[0], 8, latency=0)[1])
    slowest = 1e3 * step_seconds(worst, MACHINES[0], 8, latency=0)[1]
    return f"""# Many devices

Made by `python -m benchmarks.scaling --out=docs/scaling.md`. **Calculated from shapes and
published speeds; no accelerator was used, nothing here is measured.** Held against compiled
programs: `tests/devices/test_communication.py` compiles steps, evaluations and a measurement for
eight devices and finds these collectives alone, of these bytes within 5 %.

## The mesh

`config.runtime.mesh.seed` x `config.runtime.mesh.data` devices: independent networks side by
side, each on `data` devices that share its batches. Networks send one another nothing. The data
set lies in every device's memory; a batch is drawn and augmented where it is used.

- **Seeds first.** One device a network (`data` 1) costs no communication, and the programme has
  {sum(one.seeds for one in trainings)} deep networks: more than any machine here has devices.
  Take `mesh.seed` as many devices as a run has seeds, and several runs beside one another.
- **`data` above 1** where one network must be ready sooner: while a step computes longer than it
  communicates, which the second table tells, and only inside a host of GPUs: keep `data` a
  divisor of 8 there, so that it never crosses InfiniBand. The axis `data` is the inner one:
  neighbours share a batch.
- Results do not depend on `seed`. They depend on `data` to rounding: sums have another order.

## What devices send one another

For each network as the protocol trains it (batch 128, float32), what is summed over the devices
that share a batch, in bytes; a device sends up to twice that over its links. P parameters, C
channels under batch normalization, O outputs, E<sub>l</sub> activations of unit l,
S<sub>l</sub> <= 1024 projections of them:

- a step: 4 (P + 2): gradients; loss and error. The backward pass of batch normalization needs two
  sums a channel, which are the gradients of its scale and shift. Besides, every device gives all
  others mean and variance of its own images, 8 C bytes ("gathered").
- an evaluation on all test images: 4 (chunks (2 O + 2) + 1), a chunk being
  `runtime.test_batch_size` images.
- a measurement of D, G, R of all units under one transform: 4 (sum<sub>l</sub> (2 E<sub>l</sub> +
  S<sub>l</sub> + 1) + 2), however many images: the mean activation of a first batch, then that of
  all.

{traffic_table(plain)}

GFLOP: products of convolutions and linear layers, forward and twice that backward, of 128 images.
Collectives in a row: statistics and gradient of each batch norm, and the rest together. A compiler
may make more of them.

## Where communication binds

{sources}

Assumed: convolutions reach {UTILIZATION:.0%} of the peak, all else included; sums do not overlap
with computing. "Bound at": the fewest devices that share a batch of 128 at which a step
communicates longer than it computes, "-" if none of the machine are enough. "Links" counts the
published bandwidth alone; "with latency" assumes {LATENCY * 1e6:g} us for each collective that
has to wait for the one before: nobody publishes that number, and for small networks it decides.

{bound_table(plain)}

The largest sum, of {worst.name}, takes {number(slowest)} ms on all of v5e-8 by its links.

## The full programme

Every run of `launch/items.py` with its preset `paper`, once: all networks, initializations
and epochs of the protocol, a test every epoch, D, G, R at two stages with five shuffles; and
Figure 4's simple CNNs, 20,000 epochs (500 times an interpolation at epoch 40) with no backward
pass left out. At {UTILIZATION:.0%} of the peak, a step taking {LEAST_STEP * 1e3:g} ms at least
(assumed, too: small networks do not fill a device). Networks of torchvision are not trained.

{cost_table(trainings)}

At half the utilization all but the smallest runs take twice as long: read these numbers as an
order of magnitude. Of the depthwise convolutions of EfficientNetB0 no accelerator makes
{UTILIZATION:.0%} of its peak. Several seeds of a small network on one device
(`runtime.seeds_per_batch`) cost little more than one.

## What was compiled for a TPU

The sections above are calculated. What follows was compiled for v5e by the TPU's own compiler,
without a TPU, and none of it was run: memory, collectives, operations and bytes are the compiled
program's, of one chip. A bound is what no step is faster than at published peaks, not what it will
take. `python -m cnnpool.train --config=CONFIG --compile_for=v5e:2x4` tells the same of any run,
also for v4, v5p and v6e. Every row, with compile times and commits, and what is missing:
[benchmarks/tpu_compile.md](../benchmarks/tpu_compile.md).

### One, five and ten networks on v5e-8

The best mesh (`seed` x `data`) has the smallest bound among those that were compiled, with
{LATENCY * 1e6:g} us added for every collective as above. More networks than its `seed` train in
rounds; fewer leave chips to other runs. Memory is that of arguments and temporaries, of
{CHIP.memory / 2**30:g} GiB; the other columns are of a step of all networks.

{compiled_table()}

{not_compiled(trainings)}

### The full programme from compiled steps

Training alone, in hours of a chip: "at least" at the bound (with no row of `N x 1`: of products
alone), "at {UTILIZATION:.0%}" with products at that part of the peak and {LEAST_STEP * 1e3:g} ms a
step at least; "calculated" is the table above, tests and measurements included. Noise added to
images is not counted. The compiled steps skip products with the padding of images, which the
calculation counts, and take linear layers and simple CNNs in float32's highest precision, six
products of bfloat16, which it leaves out.

{compiled_cost_table(trainings)}

### Batch norm over devices that share a batch

A step of VGG11-bn at a quarter of its width on 1 x 8 chips had 26 all-reduces: three for each of
eight norms (mean, variance, and both sums of the gradient, which the compiler combines), one for
the last linear layer, and one for everything else. The TPU's compiler starts none of them ahead, to
overlap it with other work. Now every device takes mean and variance of its own images in two
passes, and all exchange both in one all-gather: 18 collectives; EfficientNet-B0 has 98 where it had
146. The gradient cannot go on without its two sums, so two collectives a norm remain. The lowered
programs of one device, and of meshes N x 1, did not change by a letter.

Errors of the variance in float32 over eight devices, against float64
([benchmarks/batch_statistics.md](../benchmarks/batch_statistics.md)). A mean square minus a squared
mean, in one all-reduce, loses the digits that the squared mean is larger by: little in these
networks, all of them in others.

{rows_of("batch_statistics")}

### Measurements

D, G, R on eight chips; see [benchmarks/tpu_measurement.md](../benchmarks/tpu_measurement.md), which
also says what is missing. Images are spread over chips; parameters lie on each.

{rows_of("tpu_measurement")}

### Layout of the images

CIFAR-10 as uint8 takes 148 MiB of arguments, as images lie along the fastest axis and nothing is
padded. Every call of the training program, of an epoch at most, first copies them so that one image
lies together: rows of 32 pixels are then filled up to 128, which makes 587 MiB of temporaries and
0.9 ms (155 MB read, 616 MB written, at the published bandwidth). A step of LeNet on 8 x 1 chips
reads 1.6 MB of them for 128 images. As (50,000, 24, 128), or as (50,000, 3,072), the program has
1.7 MiB of temporaries, no copy, and reads 0.4 MB a step. That would save 1.4 us a step, 0.9 ms an
epoch and 3.6 % of the memory, none of which binds anything here: the images keep their shape.

### Several slices

`--compile_for=v5e:2x4,slices=2` compiles for two slices. The mesh lets slices follow one another:
`data` stays inside a slice while it divides a slice's chips. The compiled step of LeNet on two
slices of 2 x 2 has no collectives as 8 x 1, and four all-reduces inside each slice as 2 x 4. As
1 x 8 it sends sums from slice to slice over the hosts' network, which no bound here counts.
"""


def compiled_table() -> str:
    """The best mesh of every network that was compiled."""
    found = [
        line
        for data in ("cifar10", "scale2d")
        for name in TRAINED_HERE
        for line in compiled_steps.lines(name, data, LATENCY)
    ]
    return table(compiled_steps.columns(), found)


def not_compiled(trainings: Sequence[Training]) -> str:
    """A sentence on the networks of the paper that have no row."""
    pairs = dict.fromkeys((one.config.model.name, one.config.data.name) for one in trainings)
    names = [f"{data}-{name}" for name, data in pairs if not compiled_steps.steps(name, data, 1)]
    return (
        f"Not compiled yet, of the paper's networks: {', '.join(names)}; nothing is known of them "
        "but the calculation."
        if names
        else "All of the paper's networks were compiled."
    )


def compiled_cost_table(trainings: Sequence[Training]) -> str:
    """Chip hours of the programme by compiled steps, beside the calculated ones."""
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
    """The table of another page of this folder."""
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
