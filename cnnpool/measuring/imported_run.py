"""One imported network, to be measured on images of the user's choice.

The stage "init" is torchvision's initialization of its architecture, drawn from the seed in its
config. The initialization that the network was trained from is unknown.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np
import xarray as xr

from cnnpool.data import image_arrays
from cnnpool.data.images import MeasuredImages, Split, standardize
from cnnpool.importing import conversion
from cnnpool.measuring import measured_data, network
from cnnpool.measuring import stages as stage_names
from cnnpool.measuring.names import INIT, TRAINED
from cnnpool.measuring.network_at_stage import NetworkAtStage
from cnnpool.measuring.run import Run
from cnnpool.models.torchvision import initialization
from cnnpool.training import network_folder
from cnnpool.training.losses import LOSSES
from cnnpool.training.variables import Variables

_PREDICTED = 10  # images at once


class ImportedRun(Run):
    """An imported network and as many images as the settings say, which `config.data` names."""

    channels = (1, image_arrays.RGB)

    @property
    def pixel_mean(self) -> tuple[float, ...]:
        """What `normalize` subtracts from the channels."""
        return tuple(self.config.data.mean)

    @cached_property
    def data(self) -> MeasuredImages:
        """As many images as the settings say; raises DataError if they are missing or damaged."""
        source = measured_data.source(self.config.data.name)
        return source.build(self.config.data, count=self.settings.images, seed=self.settings.seed)

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
        return stage_names.of_finished(asked, self.folder)

    def networks(self, stage: str) -> list[NetworkAtStage]:
        """The network at a stage; raises NetworkFolderError if the folder is damaged."""
        (stage,) = self.stages([stage])
        variables = self._trained if stage == TRAINED else self._initial()
        return [NetworkAtStage(self.config.seeds[0], stage, stage == INIT, variables)]

    @cached_property
    def _trained(self) -> Variables:
        return jax.tree.map(
            lambda a: jnp.asarray(a[0]), network_folder.load(self.folder, self.config)
        )

    def _initial(self) -> Variables:
        """The network before training, from the seed in its config."""
        key = jax.random.key(self.config.seeds[0])
        name = self.config.model.name
        return Variables.of(initialization.initialize(self.model, name, key, size=conversion.SIZE))

    def identity(self, stages: Sequence[str]) -> dict[str, Any]:
        """The checksum of the network, and what the images are."""
        return {
            "weights": network_folder.networks_checksum(self.folder),
            "stages": list(self.stages(stages)),
            "seeds": list(self.config.seeds),
            "data": measured_data.identity(self.config.data),
        }

    def origin(self) -> dict[str, str]:
        """Who trained the network, and where the images come from."""
        source = network_folder.read_summary(self.folder, lambda found: found["source"])
        return {"trained_by": f"imported from {source}"} | measured_data.origin(self.data)

    def facts(self, stages: Sequence[str]) -> xr.Dataset:
        """Test error and loss of the trained network; NaN at initialization, and where unknown."""
        error, loss = self._error_and_loss() if TRAINED in stages else (np.nan, np.nan)
        known = {"test_error": error, "test_loss": loss, "best_epoch": np.nan, "dead_epoch": np.nan}
        trained = np.array([stage == TRAINED for stage in stages])
        by_stage = {name: np.where(trained, value, np.nan) for name, value in known.items()}
        return xr.Dataset(
            {name: (("seed", "stage"), values[None]) for name, values in by_stage.items()}
            | {"epoch": ("stage", np.where(trained, np.nan, 0.0))},
            {"seed": list(self.config.seeds), "stage": list(stages)},
        )

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
            normalize=self.normalize,
        )
        loss, labels = LOSSES["cross_entropy"], jnp.asarray(self.data.test.labels)
        wrong = loss.wrong(jnp.asarray(logits), labels)
        return float(wrong.mean()), float(loss.values(jnp.asarray(logits), labels).mean())
