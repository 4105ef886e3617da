"""What is compiled: a program before its compilation, and after it with its memory and its work."""

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
    """A program does not fit the memory of the devices that it is compiled for."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of a run.

    Attributes:
      name: for a person.
      unit: what one iteration of its loop does, e.g. "a step"; of a program without such a loop
        what a call of it does.
      lower: traces it for the devices.
      shrink: fields or flags that make it smaller.
    """

    name: str
    unit: str
    lower: Callable[[], Any]
    shrink: str


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on a device, as the compiler plans them."""

    arguments: int
    outputs: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """The sum of all, in bytes."""
        return self.arguments + self.outputs + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled program.

    Attributes:
      name: of the program.
      unit: that `cost` is of.
      lowering: seconds to trace it.
      compiling: seconds to compile it.
      memory: of a device.
      cost: of one iteration of its loop, or of a call where it has none.
      around: of a call, beside its loop.
    """

    name: str
    unit: str
    lowering: float
    compiling: float
    memory: Memory
    cost: Cost
    around: Cost


def compile_one(program: Program, chip_memory: float | None = None) -> Compiled:
    """Compiles a program; nothing of it is kept.

    Args:
      program: to compile.
      chip_memory: bytes that a device has; None: the compiler alone says what fits.

    Raises:
      TooLargeError: if it does not fit, with its largest buffers.
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
    """What a user can do about a program that does not fit.

    Args:
      program: that does not.
      reason: a sentence.
      lowered: its StableHLO, whose arrays are whole, not yet spread over devices.
    """
    return "\n".join(
        [
            f"{program.name} does not fit a device: {reason}",
            "Its largest buffers, before they are spread over the devices:",
            *_largest(lowered),
            f"Make it smaller: {program.shrink}.",
        ]
    )


def _largest(lowered: str) -> list[str]:
    """The largest kinds of arrays of a StableHLO program, with what makes them."""
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
