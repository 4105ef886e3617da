"""A measurement of trained networks, and the name of its result file."""

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
    """What is measured of the networks of an item.

    Attributes:
      name: suffix after the run's name in the name of the result file.
      stages: the stages of training.
      transforms: the transforms of the networks.
      settings: the fields of `Settings` that differ from their defaults, as (name, value) pairs.
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
        """A digest of all fields but the name."""
        made_of = [self.stages, self.transforms, sorted(self.settings)]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:8]

    @property
    def file(self) -> str:
        """The name of its result file in a job's folder, unique to this measurement."""
        return "-".join(part for part in ("measurement", self.name, self.digest) if part) + ".nc"

    def check_settings(self, config: ConfigDict) -> None:
        """Raises ValueError or TypeError if the settings are invalid for a config's networks."""
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
            raise ValueError(
                f"expected images of at most {there}, the number of test images; got "
                f"{settings.images}"
            )

    def check_names(self, config: ConfigDict) -> None:
        """Raises ValueError if networks of a config have no such stage, transform or layer."""
        # These import JAX, which takes a second: only for submitting jobs, not for their states.
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
    """The shapes of the parameters of a `model` section's network; computes nothing."""
    import jax

    from cnnpool import models

    model: Any = models.build(config)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")  # any size: only names are used
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)["params"]


BOTH = Measurement()
RING = Measurement(
    transforms=("none", "channel_shuffle", "mean_channel_activations", "mean_channel_filters")
)  # of simple CNNs
THREE_SHUFFLES = Measurement(transforms=ALL_SHUFFLES)
