"""A program before compilation, and a compiled program with its memory and cost."""

from collections.abc import Callable
import dataclasses
import math
import re
import time
from typing import Any

import jax

from cnnpool.compiling import hlo_cost
from cnnpool.compiling.hlo_cost import Cost
from cnnpool.errors import CnnpoolError


class TooLargeError(CnnpoolError):
    """A program does not fit the memory of the devices for which it is compiled."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of a run, not yet compiled.

    Attributes:
      name: a readable name.
      unit: what one iteration of its main loop does, e.g. "a step"; for a program without such a
        loop, what one call does.
      lower: traces and lowers the program for the devices.
      shrink: the config fields or flags that reduce its memory, for a message.
    """

    name: str
    unit: str
    lower: Callable[[], Any]
    shrink: str


@dataclasses.dataclass(frozen=True)
class Memory:
    """The memory of a program on one device, in bytes, as planned by the compiler."""

    arguments: int
    outputs: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """The sum of all four, in bytes."""
        return self.arguments + self.outputs + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The analysis of a compiled program.

    Attributes:
      name: the program's name.
      unit: the unit of work to which `cost` refers; see `Program.unit`.
      lowering: seconds to trace and lower the program.
      compiling: seconds to compile it.
      memory: its memory on one device.
      cost: cost of one iteration of its main loop, or of one call if it has none.
      around: cost of one call outside its main loop.
    """

    name: str
    unit: str
    lowering: float
    compiling: float
    memory: Memory
    cost: Cost
    around: Cost


def compile_one(program: Program, chip_memory: float | None = None) -> Compiled:
    """Compiles a program and analyzes it; the executable is discarded.

    Args:
      program: the program.
      chip_memory: memory of a device in bytes; None: only the compiler checks whether it fits.

    Raises:
      TooLargeError: if the program does not fit; lists its largest buffers.
    """
    began = time.monotonic()
    lowered = program.lower()
    traced = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise TooLargeError(too_large(program, reason, lowered.as_text())) from None
    ended = time.monotonic()
    found = compiled.memory_analysis()
    memory = Memory(
        found.argument_size_in_bytes,
        max(0, found.output_size_in_bytes - found.alias_size_in_bytes),
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
    )
    if chip_memory is not None and memory.total > chip_memory:
        needs, has = (f"{size / 2**20:,.1f} MiB" for size in (memory.total, chip_memory))
        reason = f"it needs {needs} of {has}."
        raise TooLargeError(too_large(program, reason, lowered.as_text()))
    cost, around = hlo_cost.split(compiled.as_text())
    return Compiled(
        program.name, program.unit, traced - began, ended - traced, memory, cost, around
    )


_LARGEST = 5
_RESULT = re.compile(r"= \"?(?P<what>[\w.]+)\"?.*tensor<(?P<dims>(?:\d+x)*)(?P<dtype>[a-z]+\d+)>$")


def too_large(program: Program, reason: str, lowered: str) -> str:
    """The message for a program that does not fit: its largest buffers, and how to shrink it.

    Args:
      program: the program.
      reason: a sentence on why it does not fit.
      lowered: its StableHLO, in which arrays are not yet partitioned over devices.
    """
    return "\n".join(
        [
            f"{program.name} does not fit a device: {reason}",
            "Its largest buffers, before they are partitioned over devices:",
            *_largest(lowered),
            f"To reduce its memory: {program.shrink}.",
        ]
    )


def _largest(lowered: str) -> list[str]:
    """The largest arrays in a StableHLO program, with the operations that produce them."""
    sizes: dict[str, int] = {}
    for line in lowered.splitlines():
        found = _RESULT.search(line.split(" loc(")[0].rstrip())
        if found:
            dims = [int(length) for length in found["dims"].split("x") if length]
            bits = int(re.findall(r"\d+", found["dtype"])[0])
            named = f"{found['dtype']}{dims}, {found['what']}"
            sizes[named] = math.prod(dims) * bits // 8
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:_LARGEST]
    return [f"  {size / 2**20:,.1f} MiB, {named}" for named, size in largest]
