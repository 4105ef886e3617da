"""The eight small jobs of `benchmarks.faults`: LeNets, and simple CNNs on a ring."""

from cnnpool.configs import scale1d, scale2d
from cnnpool.launch.jobs import Job, with_fields
from cnnpool.launch.measurement import RING, Measurement

LEARNING_RATES = (0.004, 0.006, 0.008, 0.01)
RIDGES = (0.01, 0.012, 0.014, 0.016)
SMALL = {"settings": (("images", 32), ("shuffles", 2))}


def jobs(preset: str) -> list[Job]:
    """Four of each kind; the preset is how often the training is as long as the shortest one."""
    length = int(preset)
    lenet = with_fields(
        scale2d.get_config(),
        data__train_size=64,
        data__test_size=64,
        training__batch_size=16,
        training__epochs=100 * length,
        runtime__test_batch_size=64,
        runtime__steps_per_call=2,
        runtime__tensorboard=False,
        checkpoint__every_seconds=2.0,
    )
    ring = with_fields(
        scale1d.get_config("quick"),
        seeds=(0, 1),
        data__length=12,
        data__scale=3,
        data__gap=1,
        data__train_size=16,
        model__width=64,
        model__depth=3,
        training__learning_rate_per_channel=0.1,
        training__multiple=10**6,
        training__max_epochs=600 * length,
        measurement__draws=2,
        checkpoint__every_seconds=2.0,
    )
    lenets = [with_fields(lenet, training__learning_rate=rate) for rate in LEARNING_RATES]
    rings = [with_fields(ring, training__ridge=ridge) for ridge in RIDGES]
    return [Job(config, (Measurement(**SMALL),)) for config in lenets] + [
        Job(config, (RING,)) for config in rings
    ]
