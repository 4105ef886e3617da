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


def peak_device_memory() -> float:
    """What the arrays of this process took of a GPU at most, GiB; 0 where there is none."""
    if "torch" in sys.modules:
        cuda = sys.modules["torch"].cuda
        return cuda.max_memory_allocated() / 2**30 if cuda.is_available() else 0.0
    stats = sys.modules["jax"].local_devices()[0].memory_stats() if "jax" in sys.modules else None
    return (stats or {}).get("peak_bytes_in_use", 0) / 2**30


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
    connection.send((peak_memory(), peak_device_memory()))


class Worker:
    """One side in a process of its own.

    Attributes:
      name: for messages.
      compile_seconds: of tracing and compiling.
      device_memory: peak of its arrays on a GPU, GiB, once it has finished.
    """

    device_memory = 0.0

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

    def _answer(self) -> Any:
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
        self.connection.send(0)
        memory, self.device_memory = self._answer()
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
