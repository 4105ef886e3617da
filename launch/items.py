"""The table of the paper's items: which networks each shows, and how they are measured.

`launch.sweep` and `launch.reproduce` read it. A run is one network on one data set, with several
seeds. It is named DATA-MODEL with the full protocol and DATA-MODEL-cpu with the shortened one, with
width and noise after MODEL.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

from ml_collections import ConfigDict

from cnnpool.configs import cifar10, scale1d, scale2d
from cnnpool.launch.jobs import Job, network_name, unique
from cnnpool.launch.measurement import RING, THREE_SHUFFLES, Measurement

CIFAR10, SCALE1D, SCALE2D = "cifar10", "scale1d", "scale2d"
SCALE2D_NETWORKS = (
    "lenet",
    "alexnet",
    "vgg11",
    "vgg11_bn",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
    "resnet18",
    "resnet34",
    "resnet50",
    "efficientnet_b0",
)
NARROW = 0.25  # width_factor of Figure 5 on a CPU
NOISES = (0.0, 0.01, 0.1, 1.0, 10.0, 30.0, 100.0)
CPU_NOISES = (0.0, 10.0, 30.0, 100.0)
PAPER_SEEDS = {CIFAR10: 5, SCALE2D: 10}
CPU_SEEDS = {"lenet": 3, "alexnet": 3}  # also 3 for narrow networks, 1 for all others
KEPT_EPOCHS = (0, 1, 2, 5, 10, 20, 40, 80, 160)  # for the networks of `dynamics`


@dataclasses.dataclass(frozen=True)
class Run:
    """One network on one data set.

    Attributes:
      data: "cifar10", "scale1d" or "scale2d".
      model: the name of the network.
      width_factor: factor on its numbers of channels, for networks that have one.
      image_noise: s, the norm of the noise on every training image of CIFAR-10.
    """

    data: str
    model: str
    width_factor: float = 1.0
    image_noise: float = 0.0

    def name(self, preset: str) -> str:
        """The name of its result files and packed networks, which items share."""
        name = network_name(self.config(preset))
        return name if preset == "paper" else f"{name}-{preset}"

    def config(self, preset: str) -> ConfigDict:
        """The config of its training.

        Args:
          preset: "paper", the full protocol and all initializations; "cpu", few initializations
            and the shortened training of the config's preset. Those of simple CNNs, also "quick",
            all follow the full protocol, with other widths.

        Raises:
          ValueError: if the config has no such preset.
        """
        if self.data == SCALE1D:
            return scale1d.get_config(preset)
        config = self._shortened_or_whole(preset).unlock()
        config.model.name = self.model
        config.model.width_factor = self.width_factor
        few = 3 if self.width_factor < 1 else CPU_SEEDS.get(self.model, 1)
        config.seeds = tuple(range(PAPER_SEEDS[self.data] if preset == "paper" else few))
        if self in ITEMS["dynamics"].runs:
            kept = [epoch for epoch in KEPT_EPOCHS if epoch < config.training.epochs]
            config.checkpoint.keep_epochs = tuple(kept)
        if self.image_noise:
            config.data.image_noise = self.image_noise
        return config.lock()

    def _shortened_or_whole(self, preset: str) -> ConfigDict:
        if self.data == SCALE2D:
            return scale2d.get_config(preset)
        short_lenet = (self.model, preset) == ("lenet", "cpu")
        return cifar10.get_config("lenet_cpu" if short_lenet else preset)


DYNAMICS = Measurement("dynamics", stages=("all",), transforms=("none",))
DELTAS = Measurement(
    "deltas",
    stages=("trained",),
    transforms=("none",),
    settings=(("deltas", (0.1, 0.3, 1.0, 3.0)), ("cutoffs", (3, 10))),
)
CLEAN = Measurement(
    "clean", stages=("trained",), transforms=("none",), settings=(("image_noise", False),)
)


@dataclasses.dataclass(frozen=True)
class Item:
    """A figure or table.

    Attributes:
      runs: the networks trained by cnnpool that it shows.
      imported: the networks of torchvision, trained on ImageNet, that it shows.
      cpu_runs: the runs with the preset "cpu", if they differ from `runs`.
      measurement: how the networks are measured.
      noisy_measurement: a second measurement of the networks trained with image noise.
      any_protocol: whether networks trained with the full protocol may be shown together with
        those of the shortened one.
    """

    runs: Sequence[Run] = ()
    imported: Sequence[str] = ()
    cpu_runs: Sequence[Run] | None = None
    measurement: Measurement = THREE_SHUFFLES
    noisy_measurement: Measurement | None = None
    any_protocol: bool = True

    def chosen(self, preset: str) -> list[tuple[Run, Measurement]]:
        """The runs of a preset, with their measurements."""
        runs = self.runs if preset == "paper" or self.cpu_runs is None else self.cpu_runs
        pairs = [(run, self.measurement) for run in runs]
        if self.noisy_measurement:
            pairs += [(run, self.noisy_measurement) for run in runs if run.image_noise]
        return pairs

    def jobs(self, preset: str) -> list[Job]:
        """One job per network, with all measurements of the item."""
        pairs = self.chosen(preset)
        return unique(Job(run.config(preset), (measurement,)) for run, measurement in pairs)

    def presets(self, preset: str) -> list[str]:
        """The presets whose networks can be used for a preset, the best one first."""
        return list(dict.fromkeys(["paper", preset] if self.any_protocol else [preset]))


def on(data: str, *models: str, **fields: Any) -> list[Run]:
    """Runs of several networks on one data set."""
    return [Run(data, model, **fields) for model in models]


def narrow(model: str) -> Run:
    """A network on 2-D scale detection with a quarter of its channels, if it can be narrowed."""
    scales = not model.startswith(("lenet", "efficientnet"))
    return Run(SCALE2D, model, width_factor=NARROW if scales else 1.0)


SHALLOW_VGGS = ("vgg11", "vgg11_bn")
DEEP_VGGS = ("vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn")
VGGS = (*SHALLOW_VGGS, *DEEP_VGGS)
_WIDE = on(SCALE2D, "lenet", "alexnet", "vgg11", "vgg11_bn")

ITEMS: dict[str, Item] = {
    "fig4": Item([Run(SCALE1D, "simple_cnn")], measurement=RING, any_protocol=False),
    "fig2": Item(on(CIFAR10, *SHALLOW_VGGS), imported=VGGS),
    "fig3": Item([*on(CIFAR10, *SHALLOW_VGGS), *on(SCALE2D, *SHALLOW_VGGS)], SHALLOW_VGGS),
    "fig5": Item(
        on(SCALE2D, *SCALE2D_NETWORKS),
        cpu_runs=list(dict.fromkeys([*_WIDE, *map(narrow, SCALE2D_NETWORKS)])),
        any_protocol=False,
    ),
    "fig6": Item(on(SCALE2D, "alexnet", "vgg11", "vgg11_bn", "vgg13_bn")),
    "fig7": Item(on(CIFAR10, "lenet", "alexnet"), imported=["alexnet"]),
    "fig8": Item(
        [
            *on(CIFAR10, "lenet", "alexnet", "vgg11", "vgg11_bn"),
            *on(SCALE2D, "alexnet", "vgg11", "vgg11_bn", "vgg13_bn"),
        ],
        imported=["alexnet", *VGGS],
    ),
    "fig9": Item(imported=DEEP_VGGS),
    "fig10": Item([*on(CIFAR10, "alexnet"), *on(SCALE2D, "alexnet")], ["alexnet"]),
    "noise": Item(
        [Run(CIFAR10, model, image_noise=s) for model in ("lenet", "vgg11_bn") for s in NOISES],
        cpu_runs=[Run(CIFAR10, "lenet", image_noise=s) for s in CPU_NOISES],
        noisy_measurement=CLEAN,
        any_protocol=False,
    ),
    "delta_cutoff": Item(on(CIFAR10, "lenet", "vgg11_bn"), measurement=DELTAS),
    "dynamics": Item(
        [*on(CIFAR10, "lenet", "vgg11_bn"), *on(SCALE2D, "alexnet", "vgg11_bn")],
        measurement=DYNAMICS,
    ),
}
TRAINED = {name: item for name, item in ITEMS.items() if item.runs}
IMPORTED = {name: item for name, item in ITEMS.items() if item.imported}
