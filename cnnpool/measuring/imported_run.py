"""One imported network, to be measured on images of the user's choice.

The stage "init" is torchvision's initialization of its architecture, drawn from the seed in its
config. The initialization that the network was trained from is unknown.
"""

from collections.abc import Sequence
from functools import cached_property
import json
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np
import xarray as xr

from cnnpool.data import image_arrays
from cnnpool.data.images import MeasuredImages, Split, standardize
from cnnpool.importing import conversion
from cnnpool.importing import folder as imported
from cnnpool.measuring import network, pictures
from cnnpool.measuring import stages as stage_names
from cnnpool.measuring.measured_data import source
from cnnpool.measuring.names import INIT, TRAINED
from cnnpool.measuring.run import NetworkAtStage, Run
from cnnpool.models.torchvision import initialization
from cnnpool.training.losses import LOSSES
from cnnpool.training.variables import Variables

_PREDICTED = 10  # images at once


class ImportedRun(Run):
    """An imported network and as many images as the settings say, which `config.data` names."""

    method = pictures.METHOD
    channels = (1, image_arrays.RGB)

    @property
    def pixel_mean(self) -> tuple[float, ...]:
        """What `normalize` subtracts from the channels."""
        return tuple(self.config.data.mean)

    @cached_property
    def data(self) -> MeasuredImages:
        """As many images as the settings say; raises DataError if they are missing or damaged."""
        count, seed = self.settings.images, self.settings.seed
        return source(self.config.data.name).build(self.config.data, count=count, seed=seed)

    @property
    def own_images(self) -> Split:
        """Raises ValueError: there are none."""
        raise ValueError(
            f"{self.folder} is an imported network and has no test images: give your own"
        )

    def normalize(self, images: Any) -> Array:
        """Stored images, gray ones included, preprocessed for the network."""
        rgb = jnp.asarray(image_arrays.as_rgb(np.asarray(images)))
        return standardize(rgb, self.config.data.mean, self.config.data.std)

    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The names of stages; "all" is "init" and "trained"."""
        named = stage_names.expanded(asked, (INIT, TRAINED))
        if not set(named) <= {INIT, TRAINED}:
            raise ValueError(
                f"an imported network has the stages {INIT!r}, drawn anew, and {TRAINED!r}; got "
                f"{', '.join(named)}"
            )
        return named

    def networks(self, stage: str) -> list[NetworkAtStage]:
        """The network at a stage; raises ImportedError if the folder is damaged."""
        (stage,) = self.stages([stage])
        variables = self._trained if stage == TRAINED else self._initial()
        return [NetworkAtStage(self.config.seeds[0], stage, stage == INIT, variables)]

    @cached_property
    def _trained(self) -> Variables:
        return imported.load(self.folder, self.config)

    def _initial(self) -> Variables:
        """The network before training, from the seed in its config."""
        key = jax.random.key(self.config.seeds[0])
        name = self.config.model.name
        found = initialization.initialize(self.model, name, key, size=conversion.SIZE)
        return Variables(found["params"], found.get("batch_stats", {}))

    def identity(self, stages: Sequence[str]) -> dict[str, Any]:
        """The checksum of the weights, and what the images are."""
        data = {key: value for key, value in self.config.data.items() if key != "data_dir"}
        return {
            "weights": imported.summary(self.folder)["weights_sha256"],
            "stages": list(self.stages(stages)),
            "seeds": list(self.config.seeds),
            "data": data | {"images": source(self.config.data.name).fingerprint(self.config.data)},
        }

    def origin(self) -> dict[str, str]:
        """Who trained the network, and where the images come from."""
        return {
            "trained_by": f"imported from {imported.summary(self.folder)['source']}",
            "data_source": self.data.source,
            "unreadable_files": json.dumps(self.data.unreadable),
        }

    def facts(self, stages: Sequence[str]) -> xr.Dataset:
        """Test error and loss of the trained network; NaN at initialization, and where unknown."""
        parts = [self._facts_of(stage) for stage in stages]
        return xr.concat(parts, "stage", join="exact").transpose("seed", "stage")

    def _facts_of(self, stage: str) -> xr.Dataset:
        error, loss = self._error_and_loss() if stage == TRAINED else (np.nan, np.nan)
        by_seed = {
            "test_error": error,
            "test_loss": loss,
            "best_epoch": np.nan,
            "dead_epoch": np.nan,
        }
        variables = {name: ("seed", np.array([value])) for name, value in by_seed.items()}
        epoch = 0.0 if stage == INIT else np.nan
        coordinates = {"seed": list(self.config.seeds), "stage": stage}
        return xr.Dataset(variables | {"epoch": epoch}, coordinates)

    def _error_and_loss(self) -> tuple[float, float]:
        """Error and loss on the images if their classes are the network's; else NaN."""
        outputs, features_only = self.config.model.outputs, self.config.model.features_only
        if self.data.classes != outputs or features_only:
            return np.nan, np.nan
        logits = network.outputs(
            self.model,
            self._trained,
            self.data.test.images,
            batch_size=_PREDICTED,
            normalize=lambda batch: self.data.normalize(jax.random.key(0), jnp.asarray(batch)),
        )
        loss, labels = LOSSES["cross_entropy"], jnp.asarray(self.data.test.labels)
        wrong = loss.wrong(jnp.asarray(logits), labels)
        return float(wrong.mean()), float(loss.values(jnp.asarray(logits), labels).mean())
