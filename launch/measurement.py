"""What is measured of trained networks, and the file that it goes into."""

import dataclasses
from functools import partial
import hashlib
import json
from typing import Any

from ml_collections import ConfigDict

from cnnpool.errors import check_known
from cnnpool.measuring import names
from cnnpool.measuring.settings import Settings
from cnnpool.runs import run_config

ALL_SHUFFLES = (
    "none",
    "own_statistics",
    *("channel_shuffle", "channel_shuffle_both", "channel_shuffle_recalibrated"),
)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What an item needs to know of its networks.

    Attributes:
      name: the suffix after the run's name in the name of the result file.
      stages: the stages of training.
      transforms: the transforms of the networks.
      settings: fields of `Settings` that differ from its defaults.
    """

    name: str = ""
    stages: tuple[str, ...] = ("init", "trained")
    transforms: tuple[str, ...] = ("none", "channel_shuffle")
    settings: tuple[tuple[str, Any], ...] = ()

    def record(self) -> dict[str, Any]:
        """Transforms and settings, as a result file records them."""
        record = Settings(**dict(self.settings)).record()
        return {"transforms": list(self.transforms), "settings": record}

    @property
    def digest(self) -> str:
        """Of all but its name."""
        made_of = [self.stages, self.transforms, sorted(self.settings)]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:8]

    @property
    def file(self) -> str:
        """Its result file in a job's folder; another measurement has another name."""
        return "-".join(part for part in ("measurement", self.name, self.digest) if part) + ".nc"

    def check_settings(self, config: ConfigDict) -> None:
        """Raises ValueError or TypeError if networks of a config cannot be measured with these."""
        try:
            hash(self)
            given = dict(self.settings)
        except (TypeError, ValueError) as error:
            raise TypeError(
                "expected tuples, settings=(('images', 100), ('deltas', (0.1, 1.0))), got "
                f"{self.settings!r}"
            ) from error
        ring = run_config.is_on_ring(config)
        known = ["draws"] if ring else [field.name for field in dataclasses.fields(Settings)]
        for name in given:
            check_known(name, known, "a setting")
        settings = Settings(**given)
        if config.data.name == "scale2d":
            settings.check_unused()
        there = None if ring else config.data.get("test_size")
        if there and settings.images > there:
            raise ValueError(f"images={settings.images} are more than the {there} test images")

    def check_names(self, config: ConfigDict) -> None:
        """Raises ValueError if networks of a config have no such stage, transform or layer."""
        # They import JAX, which takes a second: only where jobs are given, never for their states.
        from cnnpool.instruments.diffeomorphisms import INTERPOLATIONS
        from cnnpool.instruments.noise import KINDS
        from cnnpool.measuring import transforms

        names.parse_stages(",".join(self.stages))
        if any(":" in name for name in self.transforms) and not run_config.is_on_ring(config):
            transforms.parse(",".join(self.transforms), _parameter_shapes(config.model))
        for name in self.transforms:
            transforms.check_known(name)
        settings = Settings(**dict(self.settings))
        for kind in settings.noise:
            check_known(kind, KINDS, "a kind of noise")
        check_known(settings.interpolation, INTERPOLATIONS, "interpolation")


def _parameter_shapes(config: ConfigDict) -> dict:
    """Of the network of a `model` section, by name; computes nothing."""
    import jax

    from cnnpool import models

    model: Any = models.build(config)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")  # of layers' names any image tells
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)["params"]


BOTH = Measurement()
RING = Measurement(
    transforms=("none", "channel_shuffle", "mean_channel_activations", "mean_channel_filters")
)  # of simple CNNs
THREE_SHUFFLES = Measurement(transforms=ALL_SHUFFLES)
