"""The option `--compile_for`: compiles programs and prints their memory, work and time bounds."""

from collections.abc import Callable, Sequence
import sys

import jax

from cnnpool.compiling import table, topology
from cnnpool.compiling.programs import Compiled, Program, TooLargeError, compile_one


def run(name: str, programs: Callable[[Sequence[jax.Device]], list[Program]]) -> list[Compiled]:
    """Compiles programs one by one and prints a table of their cost.

    Args:
      name: the name of the devices, for which `topology.prepare` has been called.
      programs: maps devices to the programs.

    Returns:
      The compiled programs.

    Raises:
      ValueError: if the programs cannot run on these devices.
      TopologyError: if the devices are unknown.
      TooLargeError: if programs do not fit the devices' memory; after all have been compiled.
    """
    target = topology.target(name)
    compiled, errors = [], []
    for program in programs(target.devices):
        print(f"compiling for {name}: {program.name}", file=sys.stderr, flush=True)
        try:
            compiled.append(compile_one(program, target.chip and target.chip.memory))
        except TooLargeError as error:
            errors.append(str(error))
    print(f"{name}: {len(target.devices)} x {target.devices[0].device_kind}\n")
    print(table.text(compiled, target.chip))
    for note in table.notes(compiled, target.chip):
        print(f"\n{note}")
    if errors:
        raise TooLargeError("\n".join(errors))
    return compiled
