"""Compiles jobs for a TPU with the TPU compiler before they are submitted."""

from collections.abc import Callable, Sequence
import importlib.util

from cnnpool import extras
from cnnpool.launch.job_states import JobState

with extras.needed("train"):
    from ml_collections import ConfigDict

# {chips of a slice: its shape}, from Google's documentation.
_FLAT = {
    1: "1x1",
    4: "2x2",
    8: "2x4",
    16: "4x4",
    32: "4x8",
    64: "8x8",
    128: "8x16",
    256: "16x16",
}
_DEEP = {
    4: "2x2x1",
    8: "2x2x2",
    16: "2x2x4",
    32: "2x4x4",
    64: "4x4x4",
    128: "4x4x8",
    256: "4x8x8",
}
_NO_COMPILER = (
    "not compiled for TPU before submission: libtpu, which contains the compiler, is not installed "
    "(pip install 'cnnpool[tpu-compile]')"
)
Compile = Callable[[ConfigDict, str], object]


def topology_of(accelerators: str | None) -> str | None:
    """A TPU slice as `cnnpool.train --compile_for` names it, v5e:2x4 for tpu-v5e-8.

    None if it is no TPU. v4 and v5p are named by their number of cores, two per chip.
    """
    kind, _, size = (accelerators or "").rpartition("-")
    if not kind.startswith("tpu-") or not size.isdigit():
        return None
    name = kind.removeprefix("tpu-").replace("v5litepod", "v5e")
    deep = name in ("v4", "v5p")
    shape = _DEEP.get(int(size) // 2) if deep else _FLAT.get(int(size))
    return None if shape is None else f"{name}:{shape}"


def of_each_shape(states: Sequence[JobState]) -> list[JobState]:
    """The first job of every group and number of seeds: all others have the same programs."""
    found: dict[tuple[str, int], JobState] = {}
    for one in states:
        found.setdefault((one.job.group, len(one.job.config.seeds)), one)
    return list(found.values())


def plan(states: Sequence[JobState], accelerators: str | None, nodes: int | None) -> str:
    """A sentence that says what `check` would do."""
    left_out = _left_out(accelerators)
    if left_out is not None:
        return left_out
    names = ", ".join(one.job.name for one in of_each_shape(states))
    return (
        f"to be compiled for {_of_slices(accelerators, nodes)} by the TPU compiler before "
        f"submission, not run on a TPU: {names}"
    )


def check(
    states: Sequence[JobState],
    accelerators: str | None,
    nodes: int | None,
    compiled: Compile | None = None,
) -> str:
    """Compiles one job of each shape.

    Args:
      states: the states of the jobs to be submitted.
      accelerators: SkyPilot's name of the accelerators, tpu-v5e-8.
      nodes: slices per job; None: one.
      compiled: compiles a config for a topology; None: with libtpu.

    Returns:
      A sentence that says what was done.

    Raises:
      TooLargeError: if a program does not fit the devices' memory.
      ValueError: if a job cannot run on these devices.
    """
    left_out = None if compiled else _left_out(accelerators)
    topology = _of_slices(accelerators, nodes)
    if left_out is not None or topology is None:
        return left_out or "no TPU: nothing compiled before submission"
    chosen = of_each_shape(states)
    for one in chosen:
        (compiled or _compile)(one.job.config, topology)
    return (
        f"{len(chosen)} jobs, one of each shape, compiled for {topology} by the TPU compiler, not "
        "run on a TPU"
    )


def _of_slices(accelerators: str | None, nodes: int | None) -> str | None:
    """What `--compile_for` calls all slices of a job."""
    one = topology_of(accelerators)
    return one if one is None or (nodes or 1) == 1 else f"{one},slices={nodes}"


def _left_out(accelerators: str | None) -> str | None:
    if topology_of(accelerators) is None:
        return "no TPU: nothing is compiled before submission"
    return None if importlib.util.find_spec("libtpu") else _NO_COMPILER


def _compile(config: ConfigDict, name: str) -> object:
    # Slow to import, and only here.
    from cnnpool.compiling import command, topology, training_programs

    topology.prepare(name)
    return command.run(name, lambda devices: training_programs.programs(config, devices))
