"""Pages about compiled programs: each is compiled in its own process, its row kept as JSON."""

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
COLUMNS = (
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
)
Row = dict[str, Any]


class Case(Protocol):
    """A program to compile."""

    @property
    def topology(self) -> str:
        """The name of the devices for `--compile_for`."""

    @property
    def key(self) -> str:
        """The key of its row."""


def row_of(program: Program) -> Row:
    """One chip's memory, work and traffic in a program, or the reason why it does not fit."""
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
    """Compiles a case in its own process; returns its row, or one with the reason of a failure.

    Args:
      case: the case to compile.
      measure: returns the row of a case; a function at the top of a module.
      limit: time limit in seconds, after which the process is killed.
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
    except Exception as error:  # any error of the compiler becomes the row
        to.send(_failed(f"{type(error).__name__}: {error}"))


def _failed(reason: str) -> Row:
    return {"error": reason, "commit": provenance.commit()}


def page(
    title: str,
    command: str,
    prose: str,
    columns: tuple[Sequence[str], Sequence[str]],
    rows: Sequence[tuple[Sequence[str], Row, Sequence[str]]],
    uncompiled: str,
) -> str:
    """The whole page, in Markdown.

    Args:
      title: the title.
      command: the command that made the page.
      prose: what the table shows.
      columns: names of the columns before and after the common ones, `COLUMNS`.
      rows: for each line, the cells before, the row, and the cells after; of a row with an error,
        the last are left out.
      uncompiled: a sentence on what is missing.
    """
    first, last = columns
    header = (*first, *COLUMNS, *last, "commit")
    lines = [header, ["---"] * len(header), *(_cells(*one, len(header)) for one in rows)]
    table_lines = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    made = (
        f"Made by `{command}` with libtpu {metadata.version('libtpu')}; {machine.describe()}. The "
        "cores were shared with other work, so CPU seconds are more meaningful than wall seconds."
    )
    bound_note = (
        "Wall and CPU seconds include lowering and compiling. The bound is the shortest possible "
        f"time at {CHIP.peak / 1e12:g} TFLOP/s for bfloat16 products, {CHIP.bandwidth / 1e9:g} "
        f"GB/s of memory bandwidth and two links of {CHIP.link / 1e9:g} GB/s, as published "
        f"({CHIP.source}); it is not a prediction. The last column is the commit of the compiled "
        "program."
    )
    parts = [f"# {title}", made, f"{prose} {bound_note}", table_lines, uncompiled]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cells(start: Sequence[str], row: Row, end: Sequence[str], width: int) -> Sequence[str]:
    if "error" in row:
        reason = row["error"].splitlines()[0]
        return (*start, reason, *["-"] * (width - len(start) - 2), row["commit"])
    number = table.number
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
        *end,
        row["commit"],
    )


def missing(cases: Sequence[Case], rows: Mapping[str, Row]) -> str:
    """A sentence on the cases without a row; empty if there are none."""
    keys = [case.key for case in cases if case.key not in rows]
    return f"Not compiled yet, {len(keys)} of {len(cases)}: {'; '.join(keys)}." if keys else ""


def run(
    doc: str | None,
    name: str,
    cases: Sequence[Case],
    measure: Callable[[Any], Row],
    page: Callable[[Mapping[str, Row], str], str],
) -> None:
    """Runs a command that compiles the cases without a row and writes page and rows after each.

    Args:
      doc: the command's help.
      name: the module's name, benchmarks.NAME.
      cases: all cases, in the order in which they are compiled.
      measure: returns the row of a case; a function at the top of a module.
      page: maps rows by key, and the command, to the page's text.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="Markdown file")
    parser.add_argument(
        "--kept",
        type=Path,
        default=Path(f"benchmarks/{name}.json"),
        help="JSON file of the rows (%(default)s)",
    )
    parser.add_argument(
        "--limit", type=float, default=7200, help="time limit per program, seconds (%(default)s)"
    )
    parser.add_argument(
        "--only", default="", help="compile only cases whose name contains this, 'cifar10 1x8'"
    )
    arguments = parser.parse_args()
    kept = arguments.kept
    rows = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    command = " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]])
    write_text(arguments.out, page(rows, command))
    for case in cases:
        if case.key in rows or arguments.only not in case.key:
            continue
        print(f"compiling {case.key}", file=sys.stderr, flush=True)
        rows[case.key] = compiled_apart(case, measure, arguments.limit)
        print(rows[case.key], file=sys.stderr, flush=True)
        write_text(kept, json.dumps(rows, indent=1) + "\n")
        write_text(arguments.out, page(rows, command))
