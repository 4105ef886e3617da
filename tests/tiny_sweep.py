"""A sweep of seconds a job, for tests of engines: two that end, one that diverges, one endless."""

from cnnpool.measuring.transforms import TRANSFORMS
from configs import scale1d
from launch.jobs import Job, with_fields
from launch.measurement import Measurement

TINY = {
    "seeds": (0, 1),
    "data__length": 12,
    "data__scale": 3,
    "data__gap": 1,
    "data__train_size": 16,
    "model__width": 16,
    "model__depth": 3,
    "training__learning_rate_per_channel": 0.1,
    "training__multiple": 2,
    "training__max_epochs": 600,
    "measurement__draws": 2,
}
PRESETS = {
    "good": ({}, {"training__ridge": 0.02}),
    "diverging": ({"training__learning_rate_per_channel": 1e20},),
    "endless": ({"training__multiple": 10**6, "training__max_epochs": 10**8},),
}


def jobs(preset):
    """Those of a preset, or of several: good+endless."""
    changes = [change for name in preset.split("+") for change in PRESETS[name]]
    base = scale1d.get_config("quick")
    measurement = Measurement(transforms=tuple(TRANSFORMS))
    return [Job(with_fields(base, **(TINY | change)), (measurement,)) for change in changes]
