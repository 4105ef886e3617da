"""What is compiled: a program before its compilation, and after it with its memory and its work."""

from collections.abc import Callable
import dataclasses
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
        """Of all."""
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


def compile_one(program: Program) -> Compiled:
    """Compiles a program; nothing of it is kept.

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
        raise TooLargeError(too_large(program, str(error))) from None
    ended = time.monotonic()
    found = compiled.memory_analysis()
    memory = Memory(
        found.argument_size_in_bytes,
        max(0, found.output_size_in_bytes - found.alias_size_in_bytes),
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
    )
    cost, around = hlo_cost.split(compiled.as_text())
    return Compiled(
        program.name, program.unit, traced - began, ended - traced, memory, cost, around
    )


_USED = re.compile(r"Used ([\d.]+\w*) of ([\d.]+\w*) (\w+)")
_BUFFER = re.compile(
    r"Size: (?P<size>[\d.]+\w*).*?(?:Operator: op_name=\"(?P<operator>[^\"]*)\".*?)?"
    r"Shape: (?P<shape>\S+)",
    re.DOTALL,
)


def too_large(program: Program, message: str) -> str:
    """What a user can do about a program that does not fit, from what the compiler says."""
    used = _USED.search(message)
    needs = f"needs {used[1]} of {used[2]} {used[3]}" if used else "needs more memory than there is"
    found = [match.groupdict() for match in _BUFFER.finditer(message)]
    buffers = [
        f"  {one['size']}, {one['shape'].split('{')[0]}"
        + (f", in {one['operator']}" if one["operator"] else "")
        for one in found[:5]
    ]
    lines = [f"{program.name} does not fit a device: it {needs}."]
    if buffers:
        lines += ["Its largest buffers:", *buffers]
    return "\n".join([*lines, f"Make it smaller: {program.shrink}."])
