"""A sweep of seconds a job, for tests of engines: two that end, one that diverges, one endless.

`joined` is a classifier whose batches two devices share, for jobs of several processes.
"""

from cnnpool.configs import scale1d, scale2d
from cnnpool.launch.jobs import Job, with_fields
from cnnpool.launch.measurement import RING, Measurement

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
JOINED = {
    "seeds": (0, 1),
    "model__name": "lenet",
    "data__train_size": 256,
    "data__test_size": 512,
    "runtime__mesh__data": 2,
    "runtime__steps_per_call": 1,
    "runtime__tensorboard": False,
    "training__epochs": 30,
    "checkpoint__every_seconds": 0.3,
}
PRESETS = {
    "good": ({}, {"training__ridge": 0.02}),
    "diverging": ({"training__learning_rate_per_channel": 1e20},),
    "endless": ({"training__multiple": 10**6, "training__max_epochs": 10**8},),
}


def jobs(preset):
    """Those of a preset, or of several: good+endless."""
    if preset == "joined":
        original = Measurement(transforms=("none",))
        return [Job(with_fields(scale2d.get_config("cpu"), **JOINED), (original,))]
    changes = [change for name in preset.split("+") for change in PRESETS[name]]
    base = scale1d.get_config("quick")
    return [Job(with_fields(base, **(TINY | change)), (RING,)) for change in changes]
