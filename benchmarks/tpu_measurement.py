r"""What the measurement of D, G, R takes on TPUs, compiled by the TPU's own compiler; none is run.

    pip install 'cnnpool[tpu-compile]'
    python -m benchmarks.tpu_measurement --out=benchmarks/tpu_measurement.md

Networks of torchvision on images of 224 x 224 pixels, and two of ours on CIFAR-10's. Needs no TPU,
images or weights: shapes are enough. Every program is compiled in a process of its own; given
again, the command goes on with those that --kept does not have.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from pathlib import Path
import re
import tempfile

from benchmarks import compiled_rows
from benchmarks.compiled_rows import Row
from cnnpool.compiling import measurement_programs, table, topology
from cnnpool.configs import cifar10
from cnnpool.launch.jobs import with_fields
from cnnpool.measuring.settings import Settings
from cnnpool.runs import run_config

_COLUMNS = (
    "network",
    "pixels",
    "wall, s",
    "CPU, s",
    "batches",
    "images in one",
    "arguments, MiB",
    "temporaries, MiB",
    "of memory",
    "collectives",
    "GFLOP",
    "MB moved",
    "bound of a batch, ms",
    "by",
    "of all batches, s",
    "commit",
)
_CHIPS = 8
_SETTINGS = Settings()
_COPIES = 1 + 2 * _SETTINGS.draws
_IMAGENET = 224


@dataclasses.dataclass(frozen=True)
class Case:
    """A network that is measured.

    Attributes:
      network: by the name in a config.
      pixels: a side of its images; 224 of torchvision's networks, else 32.
      width: of channels, a factor.
    """

    network: str
    pixels: int
    width: float = 1.0

    @property
    def topology(self) -> str:
        """Eight chips, over which the images are spread."""
        return "v5e:2x4"

    @property
    def name(self) -> str:
        """Of the network with its width."""
        return self.network if self.width == 1 else f"{self.network}, width {self.width:g}"

    @property
    def key(self) -> str:
        """Of its row."""
        return f"{self.name} {self.pixels}"

    def config(self) -> str:
        """What config.json of its folder says."""
        if self.pixels == _IMAGENET:
            model = {"name": self.network, "outputs": 1000, "features_only": False}
            return json.dumps({"model": model, "data": {"name": "image_folder"}, "seeds": [0]})
        return run_config.to_json(
            with_fields(
                cifar10.get_config("paper"),
                seeds=(0,),
                model__name=self.network,
                model__width_factor=self.width,
            )
        )


CASES = (
    Case("lenet", 32),
    Case("vgg11_bn", 32, 0.25),
    Case("torchvision_resnet50", _IMAGENET),
    Case("torchvision_vgg19_bn", _IMAGENET),
    Case("torchvision_efficientnet_b0", _IMAGENET),
)


def measured(case: Case) -> Row:
    """The row of a case."""
    devices = topology.target(case.topology).devices
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        run_config.config_path(workdir).write_text(case.config(), "utf-8")
        programs = measurement_programs.programs(workdir, _SETTINGS, ("none",), devices)
        (program,) = (one for one in programs if one.name == "measurement")
        size, batches = map(int, re.findall(r"\d+", program.unit))
        return compiled_rows.row_of(program) | {"size": size, "batches": batches}


def text(rows: Mapping[str, Row], command: str) -> str:
    """The page."""
    lines = [
        "# Measurements, compiled for TPU by its compiler, never run on one",
        "",
        compiled_rows.made_by(command),
        "",
        f"D, G, R of all units of one network on eight v5e chips: {_SETTINGS.images} images, of "
        f"which every chip has its own {-(-_SETTINGS.images // _CHIPS)}, each once as it is, once "
        "deformed and once with noise; float32, products in the highest precision, which takes six "
        "of bfloat16. A batch is as many images as have activations of a gigabyte, their "
        f"{_COPIES} copies counted; memory, bytes and operations are one chip's, of a batch. "
        "Lowering and compiling together. The program's loop over batches sums the mean "
        "activation of the first one over all chips; another program sums the rest at the end. "
        f"Bound: at {compiled_rows.peaks()}",
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
    number, start = table.number, (case.name, str(case.pixels))
    if "error" in row:
        reason = row["error"].splitlines()[0]
        return (*start, reason, *["-"] * (len(_COLUMNS) - 4), row["commit"])
    return (
        *start,
        number(row["wall"]),
        number(row["cpu"]),
        str(row["batches"]),
        str(row["size"]),
        number(row["arguments"] / 2**20),
        number(row["temporaries"] / 2**20),
        f"{row['share']:.1%}",
        row["collectives"],
        number(row["flops"] / 1e9),
        number(row["moved"] / 1e6),
        number(1e3 * row["bound"]),
        row["binds"],
        number(row["batches"] * row["bound"]),
        row["commit"],
    )


if __name__ == "__main__":
    compiled_rows.run(__doc__, "tpu_measurement", CASES, measured, text)
