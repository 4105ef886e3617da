"""What is measured of trained networks, and the file that it goes into."""

import dataclasses
import hashlib
import json
from typing import Any

from cnnpool.measuring.image_settings import Settings


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What an item needs to know of its networks.

    Attributes:
      name: behind the run's name, in that of the result file.
      stages: of training.
      transforms: of the networks.
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
    def file(self) -> str:
        """Its result file in a job's folder; another measurement has another name."""
        made_of = [self.stages, self.transforms, sorted(self.settings)]
        digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:8]
        return "-".join(part for part in ("measurement", self.name, digest) if part) + ".nc"


BOTH = Measurement()
