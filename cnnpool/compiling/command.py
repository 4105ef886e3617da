"""What `--compile_for` does: compiles programs one by one and prints what they take."""

from collections.abc import Callable, Sequence
import sys

import jax

from cnnpool.compiling import table, topology
from cnnpool.compiling.programs import Compiled, Program, TooLargeError, compile_one

HELP = (
    "compile all programs for these devices on this machine, print what they take, and end: a TPU "
    "and its shape, e.g. v5e:2x4 or v5e:2x4,slices=2, or a number of CPU devices; reads no data "
    "that the config tells the shapes of, writes nothing"
)


def run(name: str, programs: Callable[[Sequence[jax.Device]], list[Program]]) -> list[Compiled]:
    """Compiles and prints.

    Args:
      name: of the devices, after `topology.prepare`.
      programs: on some devices.

    Raises:
      ValueError: if the programs are impossible on these devices.
      TopologyError: if the devices are not known.
      TooLargeError: if programs do not fit, after all are compiled.
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
