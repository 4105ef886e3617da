"""The runs of deep networks that the items of the paper need.

A run is one network on one data set, several seeds. Its folder is DATA-MODEL for the whole
protocol and DATA-MODEL-cpu for the shortened one.
"""

from collections.abc import Sequence
import dataclasses

from ml_collections import ConfigDict

from configs import cifar10, scale2d

CIFAR10, SCALE2D = "cifar10", "scale2d"
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
NOISES = (0.0, 0.01, 0.1, 1.0, 10.0, 30.0, 100.0)
PAPER_SEEDS = {CIFAR10: 5, SCALE2D: 10}
CPU_SEEDS = {"lenet": 3, "alexnet": 3}  # of the others one


@dataclasses.dataclass(frozen=True)
class Run:
    """One network on one data set.

    Attributes:
      data: "cifar10" or "scale2d".
      model: name of the network.
      image_noise: s, of the training set of CIFAR-10.
    """

    data: str
    model: str
    image_noise: float = 0.0

    def name(self, preset: str) -> str:
        """Of its folder."""
        noise = f"-noise{self.image_noise:g}" if self.image_noise else ""
        return f"{self.data}-{self.model}{noise}" + ("" if preset == "paper" else f"-{preset}")

    def config(self, preset: str) -> ConfigDict:
        """Of its training.

        Args:
          preset: "paper", the whole protocol and all initializations; or "cpu", few
            initializations and the shortened training of the config's preset.
        """
        module = cifar10 if self.data == CIFAR10 else scale2d
        config = module.get_config(preset).unlock()
        config.model.name = self.model
        few = CPU_SEEDS.get(self.model, 1)
        config.seeds = tuple(range(PAPER_SEEDS[self.data] if preset == "paper" else few))
        if self.image_noise:
            config.data.image_noise = self.image_noise
        return config.lock()


def on(data: str, *models: str) -> list[Run]:
    """Runs of several networks on one data set."""
    return [Run(data, model) for model in models]


ITEMS: dict[str, Sequence[Run]] = {
    "fig2": on(CIFAR10, "vgg11", "vgg11_bn"),
    "fig3": [*on(CIFAR10, "vgg11", "vgg11_bn"), *on(SCALE2D, "vgg11", "vgg11_bn")],
    "fig5": on(SCALE2D, *SCALE2D_NETWORKS),
    "fig6": on(SCALE2D, "alexnet", "vgg11", "vgg11_bn", "vgg13_bn"),
    "fig7": on(CIFAR10, "lenet", "alexnet"),
    "fig8": [
        *on(CIFAR10, "lenet", "alexnet", "vgg11", "vgg11_bn"),
        *on(SCALE2D, "alexnet", "vgg11", "vgg11_bn", "vgg13_bn"),
    ],
    "fig10": [*on(CIFAR10, "alexnet"), *on(SCALE2D, "alexnet")],
    "noise": [Run(CIFAR10, model, s) for model in ("lenet", "vgg11_bn") for s in NOISES],
}
