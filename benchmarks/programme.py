"""The trainings of the paper's full programme, and the arithmetic that they take."""

from collections.abc import Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from benchmarks.communication import Size, size_of
from cnnpool import models
from cnnpool.configs import scale1d
from cnnpool.launch.items import CIFAR10, ITEMS, SCALE1D, Run
from cnnpool.measuring.settings import Settings

IMAGES = {CIFAR10: (50_000, 10_000, (32, 32, 3))}  # trained on, tested on, shape
BACKWARD = 2  # forward passes that a backward one costs
INTERPOLATION_EPOCH = 40  # of the simple CNNs of Figure 4, as seen at H = 100, 256 and 1000


class Training(NamedTuple):
    """One network with all its initializations.

    Attributes:
      name: of the run.
      config: of the training.
      size: of the network.
      seeds: initializations.
      steps: of one of them.
      flops: of all of them, training, tests and measurement.
    """

    name: str
    config: ConfigDict
    size: Size
    seeds: int
    steps: int
    flops: float


def classifier_trainings() -> Iterator[Training]:
    """All runs of `launch.items` at the protocol's length, each once."""
    runs = dict.fromkeys(run for item in ITEMS.values() for run in item.runs if run.data != SCALE1D)
    for run in runs:
        yield _training(run)


def images_of(config: ConfigDict) -> tuple[int, int, tuple[int, int, int]]:
    """Images trained on, images tested on, and their shape."""
    if config.data.name in IMAGES:
        return IMAGES[config.data.name]
    side = config.data.size
    return config.data.train_size, config.data.test_size, (side, side, 1)


def _training(run: Run) -> Training:
    config = run.config("paper")
    train, test, shape = images_of(config)
    size = size_of(models.build(config.model), shape)
    steps = config.training.epochs * (train // config.training.batch_size)
    forward = (
        (1 + BACKWARD) * steps * config.training.batch_size
        + config.training.epochs * test
        + _measured_images()
    )
    seeds = len(config.seeds)
    return Training(run.name("paper"), config, size, seeds, steps, seeds * forward * size.flops)


def _measured_images() -> int:
    """Forward passes of the measurement of a network: two stages, as it is and shuffled."""
    default = Settings()
    return 2 * (1 + default.shuffles) * default.images * (1 + 2 * default.draws)


def simple_cnns() -> tuple[int, int, float]:
    """Networks of Figure 4, steps of each and FLOP of all, with every backward pass."""
    config = scale1d.get_config("paper")
    width, depth = config.model.width, config.model.depth
    products = width + (depth - 1) * width**2
    forward = 2 * config.data.length * config.model.filter_size * products
    images = simple_epochs() * config.data.train_size
    flops = len(config.seeds) * (1 + BACKWARD) * images * forward
    return len(config.seeds), images // config.training.batch_size, flops


def simple_epochs() -> int:
    """Of one network of Figure 4."""
    return scale1d.get_config("paper").training.multiple * INTERPOLATION_EPOCH
