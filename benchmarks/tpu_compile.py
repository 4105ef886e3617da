r"""Cost of training steps on TPUs, compiled by the TPU compiler without running them.

    pip install 'cnnpool[tpu-compile]'
    python -m benchmarks.tpu_compile --out=benchmarks/tpu_compile.md

Needs no TPU. The page is written after every program, the smallest network first; run again, the
command continues with the programs that are not in --kept. Every program is compiled in its own
process; if one fails, or takes longer than --limit, its row says so. Delete --kept if the programs
have changed.
"""

from collections.abc import Mapping
import dataclasses

from ml_collections import ConfigDict

from benchmarks import compiled_rows
from benchmarks.compiled_rows import Row
from cnnpool.compiling import topology, training_programs
from cnnpool.configs import cifar10, scale1d, scale2d


@dataclasses.dataclass(frozen=True)
class Case:
    """A training step on some chips.

    Attributes:
      network: the network's name in a config.
      data: cifar10, scale2d or scale1d.
      seed: number of networks trained in parallel.
      shared: number of devices that share each batch.
      width: factor for the number of channels; for the simple CNN, the number itself.
    """

    network: str
    data: str
    seed: int
    shared: int
    width: float = 1.0

    @property
    def topology(self) -> str:
        """A slice with as many chips as the mesh has devices."""
        return {4: "v5e:2x2", 8: "v5e:2x4"}[self.seed * self.shared]

    @property
    def name(self) -> str:
        """The network's name, with its width."""
        if self.data == "scale1d":
            return f"{self.network}, H = {self.width:g}"
        return self.network if self.width == 1 else f"{self.network}, width {self.width:g}"

    @property
    def key(self) -> str:
        """The key of its row."""
        return f"{self.name} {self.data} {self.seed}x{self.shared}"

    def config(self) -> ConfigDict:
        """The config: the protocol's, on this mesh."""
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
    return compiled_rows.page(
        "Training steps, compiled by the TPU compiler, not run on a TPU",
        command,
        "The protocol's training step, batch 128, float32, on eight v5e chips (the simple CNN: an "
        "epoch, on four chips). Memory, operations and bytes are those of one chip.",
        (("network", "data", "seeds x data"), ()),
        [
            ((one.name, one.data, f"{one.seed} x {one.shared}"), rows[one.key], ())
            for one in CASES
            if one.key in rows
        ],
        compiled_rows.missing(CASES, rows),
    )


if __name__ == "__main__":
    compiled_rows.run(__doc__, "tpu_compile", CASES, measured, text)
