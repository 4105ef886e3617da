r"""What training steps take on TPUs, compiled by the TPU's own compiler; none is run.

    pip install 'cnnpool[tpu_compile]'
    python -m benchmarks.tpu_compile --out=benchmarks/tpu_compile.md

Needs no TPU. The table is written after every program, smallest first; given again, the command
goes on with those that --kept does not have. Every program is compiled in a process of its own: one
that fails, or takes longer than --limit, is a row that says so. Delete --kept after a change of the
programs.
"""

import argparse
from collections.abc import Iterable, Mapping
import dataclasses
from importlib import metadata
import json
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
import sys
import time
from typing import Any

from ml_collections import ConfigDict

from benchmarks import machine
from cnnpool.compiling import bound, table, topology, training_programs
from cnnpool.compiling.chips import CHIPS
from cnnpool.compiling.programs import TooLargeError, compile_one
from cnnpool.configs import cifar10, scale1d, scale2d
from cnnpool.files.atomic_write import write_text
from cnnpool.runs import provenance

_CHIP = CHIPS["v5e"]
_COLUMNS = (
    "network",
    "data",
    "seeds x data",
    "wall, s",
    "CPU, s",
    "arguments, MiB",
    "temporaries, MiB",
    "of memory",
    "collectives",
    "their MB",
    "GFLOP",
    "MB moved",
    "bound, ms",
    "by",
    "commit",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A training step on some chips.

    Attributes:
      network: by name.
      data: cifar10, scale2d or scale1d.
      seed: networks side by side, one a device or more devices.
      shared: devices that share a batch.
      width: of channels, a factor; of the simple CNN a number.
    """

    network: str
    data: str
    seed: int
    shared: int
    width: float = 1.0

    @property
    def topology(self) -> str:
        """With as many chips as the mesh has devices."""
        return {4: "v5e:2x2", 8: "v5e:2x4"}[self.seed * self.shared]

    @property
    def name(self) -> str:
        """Of the network with its width."""
        if self.data == "scale1d":
            return f"{self.network}, H = {self.width:g}"
        return self.network if self.width == 1 else f"{self.network}, width {self.width:g}"

    @property
    def key(self) -> str:
        """Of its row."""
        return f"{self.name} {self.data} {self.seed}x{self.shared}"

    def config(self) -> ConfigDict:
        """Of the protocol."""
        if self.data == "scale1d":
            config = scale1d.get_config("paper").unlock()
            config.model.width = int(self.width)
        else:
            config = {"cifar10": cifar10, "scale2d": scale2d}[self.data].get_config("paper")
            config.unlock()
            config.model.name, config.model.width_factor = self.network, self.width
            config.runtime.mesh.seed, config.runtime.mesh.data = self.seed, self.shared
        config.seeds = tuple(range(self.seed))
        return config.lock()


_BY_SIZE = (
    "lenet",
    "alexnet",
    "vgg11",
    "vgg11_bn",
    "efficientnet_b0",
    "vgg13_bn",
    "vgg16_bn",
    "resnet18",
    "vgg19_bn",
    "resnet34",
    "resnet50",
    "vgg13",
    "vgg16",
    "vgg19",
)
CASES = (
    Case("simple_cnn", "scale1d", 4, 1, 1000),
    Case("vgg11_bn", "cifar10", 1, 8, 0.25),
    Case("vgg11_bn", "cifar10", 8, 1, 0.25),
    *(
        Case(network, data, seed, 8 // seed)
        for data in ("cifar10", "scale2d")
        for seed in (1, 8, 2)
        for network in _BY_SIZE
    ),
)


def compiled_apart(case: Case, limit: float) -> dict[str, Any]:
    """The row of a case, compiled in a process of its own; where it failed, with the reason.

    Args:
      case: a training step.
      limit: seconds after which the process is ended.
    """
    spawning = multiprocessing.get_context("spawn")
    receiving, sending = spawning.Pipe(duplex=False)
    process = spawning.Process(target=_send_row, args=(case, sending))
    process.start()
    sending.close()
    try:
        if receiving.poll(limit):
            return receiving.recv()
        return _failed(f"not compiled within {limit:g} s")
    except EOFError:
        process.join()
        return _failed(f"its process ended with code {process.exitcode}")
    finally:
        process.kill()
        process.join()


def _send_row(case: Case, to: Connection) -> None:
    topology.prepare(case.topology)
    try:
        to.send(measured(case))
    except Exception as error:  # whatever the compiler says is the row
        to.send(_failed(f"{type(error).__name__}: {error}"))


def _failed(reason: str) -> dict[str, Any]:
    return {"error": reason, "commit": provenance.commit()}


def measured(case: Case) -> dict[str, Any]:
    """The row of a case; where it does not fit, with the compiler's reason."""
    devices = topology.target(case.topology).devices
    programs = training_programs.programs(case.config(), devices)
    (program,) = (one for one in programs if one.name == "training")
    wall, cpu = time.monotonic(), time.process_time()
    try:
        found = compile_one(program)
    except TooLargeError as error:
        return _failed(str(error))
    cost, limit = found.cost, bound.bound(found.cost, _CHIP)
    return {
        "wall": time.monotonic() - wall,
        "cpu": time.process_time() - cpu,
        "arguments": found.memory.arguments,
        "temporaries": found.memory.temporaries,
        "share": found.memory.total / _CHIP.memory,
        "collectives": table.collectives(cost),
        "summed": sum(one.count * one.size for one in cost.collectives),
        "flops": cost.flops,
        "moved": cost.moved,
        "products": limit.products,
        "links": limit.links,
        "bound": limit.seconds,
        "binds": limit.binds,
        "commit": provenance.commit(),
    }


def text(rows: Mapping[str, Mapping[str, Any]], command: str) -> str:
    """The page."""
    done = [case for case in CASES if case.key in rows]
    missing = [case.key for case in CASES if case.key not in rows]
    lines = [
        "# Training steps, compiled for TPU by its compiler, never run on one",
        "",
        f"Made by `{command}` with libtpu {metadata.version('libtpu')}; {machine.describe()}. The "
        "cores were busy with other work: CPU seconds tell more of the compiler than wall seconds.",
        "",
        "The protocol's step, batch 128, float32, on eight v5e chips (the simple CNN: an epoch, on "
        "four chips); bytes and operations are one chip's. Lowering and compiling together. "
        f"Bound: no step is faster at {_CHIP.peak / 1e12:g} TFLOP/s, {_CHIP.bandwidth / 1e9:g} "
        f"GB/s of memory and two links of {_CHIP.link / 1e9:g} GB/s, as published "
        f"({_CHIP.source}); it is no prediction. commit: of the program that was compiled.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'|'.join(['---'] * len(_COLUMNS))}|",
        *(f"| {' | '.join(_cells(case, rows[case.key]))} |" for case in done),
        "",
    ]
    if missing:
        lines += [f"Not compiled yet, {len(missing)} of {len(CASES)}: {'; '.join(missing)}.", ""]
    return "\n".join(lines)


def _cells(case: Case, row: Mapping[str, Any]) -> Iterable[str]:
    number, start = table.number, (case.name, case.data, f"{case.seed} x {case.shared}")
    if "error" in row:
        reason = row["error"].splitlines()[0]
        return (*start, reason, *["-"] * (len(_COLUMNS) - 5), row["commit"])
    return (
        *start,
        number(row["wall"]),
        number(row["cpu"]),
        number(row["arguments"] / 2**20),
        number(row["temporaries"] / 2**20),
        f"{row['share']:.1%}",
        row["collectives"],
        number(row["summed"] / 1e6),
        number(row["flops"] / 1e9),
        number(row["moved"] / 1e6),
        number(1e3 * row["bound"]),
        row["binds"],
        row["commit"],
    )


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="markdown file")
    parser.add_argument(
        "--kept", type=Path, default=Path("runs/tpu_compile.json"), help="rows (%(default)s)"
    )
    parser.add_argument(
        "--limit", type=float, default=7200, help="seconds for one program (%(default)s)"
    )
    arguments = parser.parse_args()
    kept = arguments.kept
    rows = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    command = " ".join(["python -m benchmarks.tpu_compile", *sys.argv[1:]])
    write_text(arguments.out, text(rows, command))
    for case in CASES:
        if case.key in rows:
            continue
        print(f"compiling {case.key}", file=sys.stderr, flush=True)
        rows[case.key] = compiled_apart(case, arguments.limit)
        print(rows[case.key], file=sys.stderr, flush=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps(rows, indent=1))
        write_text(arguments.out, text(rows, command))


if __name__ == "__main__":
    main()
