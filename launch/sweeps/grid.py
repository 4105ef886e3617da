"""An example of a sweep to copy: a product of values, and pairs of values.

    python -m launch.sweep --sweep=launch/sweeps/grid.py --preset=tiny
    python -m launch.status --sweep=launch/sweeps/grid.py --preset=tiny
    python -m launch.collect --sweep=launch/sweeps/grid.py --preset=tiny --out=grid.nc

Presets: tiny, LeNets on 64 images for two epochs, a few seconds per job; cpu and paper, the presets
of configs/scale2d.py.
"""

import itertools

from cnnpool.configs import scale2d
from cnnpool.launch.jobs import Job, with_fields
from cnnpool.launch.measurement import Measurement

LEARNING_RATES = (0.02, 0.05)
BATCH_SIZES = (32, 64)
NETWORKS = (("lenet", 10), ("alexnet", 5))  # (name, number of seeds)


def jobs(preset: str) -> list[Job]:
    """LeNet with all pairs of learning rate and batch size; two networks with the protocol's."""
    if preset == "tiny":
        return [
            Job(tiny(rate, batch), (Measurement(settings=(("images", 16), ("shuffles", 1))),))
            for rate, batch in itertools.product(LEARNING_RATES, BATCH_SIZES)
        ]
    base = scale2d.get_config(preset)
    product = [
        with_fields(base, training__learning_rate=rate, training__batch_size=batch)
        for rate, batch in itertools.product(LEARNING_RATES, BATCH_SIZES)
    ]
    zipped = [
        with_fields(base, model__name=name, seeds=tuple(range(seeds))) for name, seeds in NETWORKS
    ]
    return [Job(config) for config in [*product, *zipped]]


def tiny(rate: float, batch: int):
    """The config of a LeNet that is trained and measured in seconds."""
    return with_fields(
        scale2d.get_config(),
        data__train_size=64,
        data__test_size=64,
        training__learning_rate=rate,
        training__batch_size=batch,
        training__epochs=2,
        runtime__test_batch_size=64,
        runtime__tensorboard=False,
    )
