"""Sides of a comparison in processes of their own, which take turns.

So that the peak memory of a side is its own, and neighbours that slow the machine down slow all
sides alike.
"""

from collections.abc import Callable, Iterator, Sequence
import math
import multiprocessing
from multiprocessing.connection import Connection
import resource
import statistics
import sys
import time
from typing import Any

Runner = Callable[[int], float]


def peak_memory() -> float:
    """Of this process so far, GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def serve(
    connection: Connection,
    name: str,
    build: Callable[..., tuple[Runner, float]],
    arguments: Sequence[Any],
) -> None:
    """A worker: on request repeats its work and says how many seconds that took; 0 ends it."""
    run, compile_seconds = build(*arguments)
    connection.send(compile_seconds)
    while count := connection.recv():
        began = time.perf_counter()
        check = run(count)
        seconds = time.perf_counter() - began
        if not math.isfinite(check):
            raise RuntimeError(f"{name} diverged: the comparison is void")
        connection.send(seconds)
    connection.send(peak_memory())


class Worker:
    """One side in a process of its own.

    Attributes:
      name: for messages.
      compile_seconds: of tracing and compiling.
    """

    def __init__(
        self, name: str, build: Callable[..., tuple[Runner, float]], arguments: Sequence[Any]
    ):
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, name, build, arguments), daemon=True
        )
        self.process.start()
        theirs.close()
        self.compile_seconds = self._answer()

    def _answer(self) -> float:
        try:
            return self.connection.recv()
        except EOFError:
            sys.exit(f"error: {self.name} stopped; its own message is above")

    def seconds(self, count: int) -> float:
        """Repeats the work; seconds of all repetitions."""
        self.connection.send(count)
        return self._answer()

    def finish(self) -> float:
        """Ends the process; its peak memory, GiB."""
        memory = self.seconds(0)
        self.process.join()
        return memory


def alternate(repeats: int, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Turns of all sides, one after another."""
    for repeat in range(repeats):
        for name in names:
            yield repeat, name


def with_spread(values: Sequence[float], digits: int) -> str:
    """Median (smallest to largest)."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
