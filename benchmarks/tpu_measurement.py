r"""Cost of measuring D, G, R on TPUs, compiled by the TPU compiler without running it.

    pip install 'cnnpool[tpu-compile]'
    python -m benchmarks.tpu_measurement --out=benchmarks/tpu_measurement.md

torchvision's networks on images of 224 x 224 pixels, and two networks for CIFAR-10. Needs no TPU,
images or weights, only shapes. Every program is compiled in its own process; run again, the command
continues with the programs that are not in --kept.
"""

from collections.abc import Mapping
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

_CHIPS = 8
_SETTINGS = Settings()
_COPIES = 1 + 2 * _SETTINGS.draws
_IMAGENET = 224


@dataclasses.dataclass(frozen=True)
class Case:
    """A network to be measured.

    Attributes:
      network: the network's name in a config.
      pixels: side of its images; 224 for torchvision's networks, otherwise 32.
      width: factor for the number of channels.
    """

    network: str
    pixels: int
    width: float = 1.0

    @property
    def topology(self) -> str:
        """Eight chips, over which the images are sharded."""
        return "v5e:2x4"

    @property
    def name(self) -> str:
        """The network's name, with its width."""
        return self.network if self.width == 1 else f"{self.network}, width {self.width:g}"

    @property
    def key(self) -> str:
        """The key of its row."""
        return f"{self.name} {self.pixels}"

    def config(self) -> str:
        """The content of its folder's config.json."""
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
    return compiled_rows.page(
        "Measurements, compiled by the TPU compiler, not run on a TPU",
        command,
        f"D, G, R of all units of one network on eight v5e chips: {_SETTINGS.images} images, "
        f"{-(-_SETTINGS.images // _CHIPS)} on each chip, each clean, deformed and with noise; "
        "float32, products in the highest precision (six bfloat16 products). A batch has as many "
        f"images as fit into a gigabyte of activations, their {_COPIES} copies included; memory, "
        "operations, bytes and bound are those of one chip for one batch. The loop over batches "
        "sums the mean activation of the first batch over all chips; another program sums the rest "
        "at the end.",
        (("network", "pixels"), ("batches", "images in a batch", "bound of all batches, s")),
        [
            ((one.name, str(one.pixels)), rows[one.key], _batches(rows[one.key]))
            for one in CASES
            if one.key in rows
        ],
        compiled_rows.missing(CASES, rows),
    )


def _batches(row: Row) -> tuple[str, ...]:
    if "error" in row:
        return ()
    seconds = table.number(row["batches"] * row["bound"])
    return str(row["batches"]), str(row["size"]), seconds


if __name__ == "__main__":
    compiled_rows.run(__doc__, "tpu_measurement", CASES, measured, text)
