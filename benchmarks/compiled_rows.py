"""Tables of compiled programs: each compiled in a process of its own, its row kept as JSON."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
import json
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
import sys
import time
from typing import Any, Protocol

from benchmarks import machine
from cnnpool.compiling import bound, table, topology
from cnnpool.compiling.chips import CHIPS
from cnnpool.compiling.programs import Program, TooLargeError, compile_one
from cnnpool.files.atomic_write import write_text
from cnnpool.runs import provenance

CHIP = CHIPS["v5e"]
Row = dict[str, Any]


class Case(Protocol):
    """A program to compile."""

    @property
    def topology(self) -> str:
        """The devices, as `--compile_for` names them."""

    @property
    def key(self) -> str:
        """Of its row."""


def row_of(program: Program) -> Row:
    """What one chip does in a program; where it does not fit, the compiler's reason."""
    wall, cpu = time.monotonic(), time.process_time()
    try:
        found = compile_one(program)
    except TooLargeError as error:
        return _failed(str(error))
    cost, limit = found.cost, bound.bound(found.cost, CHIP)
    return {
        "wall": time.monotonic() - wall,
        "cpu": time.process_time() - cpu,
        "arguments": found.memory.arguments,
        "temporaries": found.memory.temporaries,
        "share": found.memory.total / CHIP.memory,
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


def compiled_apart(case: Case, measure: Callable[[Any], Row], limit: float) -> Row:
    """The row of a case, compiled in a process of its own; where that fails, with the reason.

    Args:
      case: to compile.
      measure: gives its row; a function of a module.
      limit: seconds after which the process is ended.
    """
    spawning = multiprocessing.get_context("spawn")
    receiving, sending = spawning.Pipe(duplex=False)
    process = spawning.Process(target=_send_row, args=(case, measure, sending))
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


def _send_row(case: Case, measure: Callable[[Any], Row], to: Connection) -> None:
    try:
        topology.prepare(case.topology)
        to.send(measure(case))
    except Exception as error:  # whatever the compiler says is the row
        to.send(_failed(f"{type(error).__name__}: {error}"))


def _failed(reason: str) -> Row:
    return {"error": reason, "commit": provenance.commit()}


def made_by(command: str) -> str:
    """How a page was made: its command, the compiler, the machine."""
    return (
        f"Made by `{command}` with libtpu {metadata.version('libtpu')}; {machine.describe()}. The "
        "cores were busy with other work: CPU seconds tell more of the compiler than wall seconds."
    )


def peaks() -> str:
    """What a bound is calculated from."""
    return (
        f"{CHIP.peak / 1e12:g} TFLOP/s of bfloat16 products, {CHIP.bandwidth / 1e9:g} GB/s of "
        f"memory and two links of {CHIP.link / 1e9:g} GB/s, as published ({CHIP.source}); it is no "
        "prediction. commit: of the program that was compiled."
    )


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows)]


def missing(cases: Sequence[Case], rows: Mapping[str, Row]) -> list[str]:
    """A sentence on the cases without a row, if there are any."""
    keys = [case.key for case in cases if case.key not in rows]
    return [f"Not compiled yet, {len(keys)} of {len(cases)}: {'; '.join(keys)}."] if keys else []


def run(
    doc: str | None,
    name: str,
    cases: Sequence[Case],
    measure: Callable[[Any], Row],
    page: Callable[[Mapping[str, Row], str], str],
) -> None:
    """A command that compiles the cases that have no row yet, and writes page and rows after each.

    Args:
      doc: its help.
      name: of the module, benchmarks.NAME.
      cases: in this order.
      measure: gives the row of one; a function of a module.
      page: from rows by key and the command's text.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="Markdown file")
    parser.add_argument(
        "--kept", type=Path, default=Path(f"benchmarks/{name}.json"), help="rows (%(default)s)"
    )
    parser.add_argument(
        "--limit", type=float, default=7200, help="seconds for one program (%(default)s)"
    )
    arguments = parser.parse_args()
    kept = arguments.kept
    rows = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    command = " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]])
    write_text(arguments.out, page(rows, command))
    for case in cases:
        if case.key in rows:
            continue
        print(f"compiling {case.key}", file=sys.stderr, flush=True)
        rows[case.key] = compiled_apart(case, measure, arguments.limit)
        print(rows[case.key], file=sys.stderr, flush=True)
        write_text(kept, json.dumps(rows, indent=1) + "\n")
        write_text(arguments.out, page(rows, command))
