"""The interface of networks to measure, on pictures unless a subclass says otherwise."""

import abc
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import jax
from jax import Array
import jax.numpy as jnp
import xarray as xr

from cnnpool.data.images import MeasurementData, Split
from cnnpool.instruments.moments import Moments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.measuring import inputs, pictures, transforms, units
from cnnpool.measuring.inputs import Perturbation
from cnnpool.measuring.network_at_stage import NetworkAtStage
from cnnpool.measuring.settings import Settings
from cnnpool.shapes import Key


@dataclasses.dataclass(frozen=True, eq=False)
class Run(abc.ABC):
    """The networks in a folder, and the images on which they are measured.

    Attributes:
      folder: where the networks are.
      config: the config that they were made with, with possibly another data section.
      settings: settings of the measurement.
      pixel_mean: what `normalize` subtracts from the channels; empty if the data defines it.
      spread: whether images are sharded over devices.
    """

    folder: Path
    config: Any
    settings: Settings

    pixel_mean: ClassVar[Any] = ()
    spread: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def data(self) -> MeasurementData:
        """The images on which the networks are measured.

        Raises:
          DataError: if they are absent or damaged.
          ConfigMismatchError, NetworkFolderError: if the networks were trained on other data.
        """

    @abc.abstractmethod
    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The names of stages, with "all" expanded.

        Raises:
          CheckpointError, ValueError: if there is no such stage.
        """

    @abc.abstractmethod
    def networks(self, stage: str) -> list[NetworkAtStage]:
        """The networks at a stage, one per seed.

        Raises:
          CheckpointError, NetworkFolderError: if they are missing or damaged, or not
            trained to the end although the stage requires it.
        """

    def parsed(self, names: Sequence[str], networks: Sequence[NetworkAtStage]) -> tuple[str, ...]:
        """Names of transforms of these networks; those of every layer are written out.

        Raises:
          ValueError: if they have no such transform.
        """
        return transforms.parse(",".join(names), networks[0].variables.params)

    @abc.abstractmethod
    def identity(self, stages: Sequence[str]) -> dict[str, Any]:
        """What identifies the networks at these stages, and their images, for JSON."""

    @abc.abstractmethod
    def facts(self, stages: Sequence[str]) -> xr.Dataset:
        """Known quantities of the networks besides D, G, R: errors, epochs; over seed and stage."""

    @abc.abstractmethod
    def origin(self) -> dict[str, str]:
        """Where networks and images come from: attributes of a result file."""

    @cached_property
    def model(self) -> Any:
        """The linen module of the networks."""
        from cnnpool import models  # here: it needs Flax

        return models.build(self.config.model)

    @property
    def own_images(self) -> Split:
        """The test images of the training, as stored, and their labels.

        Raises:
          ValueError: if there are none, because somebody else trained the network.
        """
        return self.data.test

    @property
    def channels(self) -> tuple[int, ...]:
        """Numbers of channels that stored images may have; the network takes the last one."""
        return (self.data.test.images.shape[-1],)

    def normalize(self, images: Any) -> Array:
        """Stored images preprocessed for the networks, without noise if `settings` say so."""
        return self.data.normalize(jax.random.key(0), jnp.asarray(images))

    def perturbations(self) -> Iterator[tuple[Perturbation, Inputs]]:
        """Each of `inputs.kinds`, with the images under it."""
        return inputs.perturbations(self.data, self.settings)

    def transform_key(self, seed: int, number: int) -> Key[Array, ""]:
        """The randomness of one shuffle of a network.

        Args:
          seed: seed of the network.
          number: number of the shuffle.
        """
        return inputs.transform_key(self.settings, seed, number)

    def depths(self, layers: Sequence[str]) -> list[int | None]:
        """k of each unit; None for units that are not plotted."""
        return units.depths(layers)

    def beside(self, one: NetworkAtStage, found: Mapping[str, list[Moments]]) -> xr.Dataset:
        """Further variables of a network over transform and layer: its pooling budget.

        Args:
          one: the network.
          found: its moments under every transform, a list over shuffles.
        """
        del one
        return pictures.pooling_budget(found, self.depths)

    def completed(self, networks: Sequence[NetworkAtStage], whole: xr.Dataset) -> xr.Dataset:
        """The arrays of all networks with `natural`, and the spectra of filters that are known."""
        from cnnpool.measuring import spectra  # here: it needs Flax

        if "delta" in whole.dims:
            size = self.data.test.images.shape[1]
            whole = whole.assign(natural=pictures.natural(size, self.settings))
        power = spectra.random_power_of(self.config.model.name)
        found = spectra.spectra(networks, list(whole["layer"].values), random_power=power)
        return whole.assign(found.variables)

    def moments(
        self,
        one: NetworkAtStage,
        transform: str,
        key: Key[Array, ""],
        perturbed: Inputs,
        **options: Any,
    ) -> Moments:
        """The moments from which D, G and R of a network's units are computed.

        Args:
          one: the network.
          transform: a name of `cnnpool.measuring.transforms`.
          key: randomness of the transform.
          perturbed: clean, deformed and noisy images.
          **options: `on_batch` and `original` of `cnnpool.measuring.network.moments`.
        """
        from cnnpool.measuring import network  # here: it needs Flax

        return network.moments(
            self.model,
            one.variables,
            transform,
            key,
            perturbed,
            untrained=one.untrained,
            batch_size=self.settings.batch_size,
            spread=self.spread,
            **options,
        )
