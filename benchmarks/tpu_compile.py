r"""What training steps take on TPUs, compiled by the TPU's own compiler; none is run.

    pip install 'cnnpool[tpu-compile]'
    python -m benchmarks.tpu_compile --out=benchmarks/tpu_compile.md

Needs no TPU. The table is written after every program, smallest first; given again, the command
goes on with those that --kept does not have. Every program is compiled in a process of its own: one
that fails, or takes longer than --limit, is a row that says so. Delete --kept after a change of the
programs.
"""

from collections.abc import Mapping, Sequence
import dataclasses

from ml_collections import ConfigDict

from benchmarks import compiled_rows
from benchmarks.compiled_rows import Row
from cnnpool.compiling import table, topology, training_programs
from cnnpool.configs import cifar10, scale1d, scale2d

_COLUMNS = (
    "network",
    "data",
    "seeds x data",
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
    "commit",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A training step on some chips.

    Attributes:
      network: by name.
      data: cifar10, scale2d or scale1d.
      seed: networks side by side, one a device or more devices.
      shared: devices that share a batch.
      width: of channels, a factor; of the simple CNN a number.
    """

    network: str
    data: str
    seed: int
    shared: int
    width: float = 1.0

    @property
    def topology(self) -> str:
        """With as many chips as the mesh has devices."""
        return {4: "v5e:2x2", 8: "v5e:2x4"}[self.seed * self.shared]

    @property
    def name(self) -> str:
        """Of the network with its width."""
        if self.data == "scale1d":
            return f"{self.network}, H = {self.width:g}"
        return self.network if self.width == 1 else f"{self.network}, width {self.width:g}"

    @property
    def key(self) -> str:
        """Of its row."""
        return f"{self.name} {self.data} {self.seed}x{self.shared}"

    def config(self) -> ConfigDict:
        """Of the protocol."""
        if self.data == "scale1d":
            config = scale1d.get_config("paper").unlock()
            config.model.width = int(self.width)
        else:
            config = {"cifar10": cifar10, "scale2d": scale2d}[self.data].get_config("paper")
            config.unlock()
            config.model.name, config.model.width_factor = self.network, self.width
            config.runtime.mesh.seed, config.runtime.mesh.data = self.seed, self.shared
        config.seeds = tuple(range(self.seed))
        return config.lock()


_BY_SIZE = (
    "lenet",
    "alexnet",
    "vgg11",
    "vgg11_bn",
    "efficientnet_b0",
    "vgg13_bn",
    "vgg16_bn",
    "resnet18",
    "vgg19_bn",
    "resnet34",
    "resnet50",
    "vgg13",
    "vgg16",
    "vgg19",
)
CASES = (
    Case("simple_cnn", "scale1d", 4, 1, 1000),
    *(
        Case(network, data, seed, 8 // seed)
        for data in ("cifar10", "scale2d")
        for network in _BY_SIZE
        for seed in (1, 8, 2)
    ),
    Case("vgg11_bn", "cifar10", 1, 8, 0.25),
    Case("vgg11_bn", "cifar10", 8, 1, 0.25),
)


def measured(case: Case) -> Row:
    """The row of a case."""
    devices = topology.target(case.topology).devices
    programs = training_programs.programs(case.config(), devices)
    (program,) = (one for one in programs if one.name == "training")
    return compiled_rows.row_of(program)


def text(rows: Mapping[str, Row], command: str) -> str:
    """The page."""
    lines = [
        "# Training steps, compiled for TPU by its compiler, never run on one",
        "",
        compiled_rows.made_by(command),
        "",
        "The protocol's step, batch 128, float32, on eight v5e chips (the simple CNN: an epoch, on "
        "four chips); bytes and operations are one chip's. Lowering and compiling together. "
        f"Bound: no step is faster at {compiled_rows.peaks()}",
        "",
        *table_of(rows),
        "",
        *compiled_rows.missing(CASES, rows),
    ]
    return "\n".join(lines).rstrip() + "\n"


def table_of(rows: Mapping[str, Row]) -> list[str]:
    """The lines of the table."""
    cells = [_cells(case, rows[case.key]) for case in CASES if case.key in rows]
    return compiled_rows.markdown(_COLUMNS, cells)


def _cells(case: Case, row: Row) -> Sequence[str]:
    number, start = table.number, (case.name, case.data, f"{case.seed} x {case.shared}")
    if "error" in row:
        reason = row["error"].splitlines()[0]
        return (*start, reason, *["-"] * (len(_COLUMNS) - 5), row["commit"])
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
        row["commit"],
    )


if __name__ == "__main__":
    compiled_rows.run(__doc__, "tpu_compile", CASES, measured, text)
