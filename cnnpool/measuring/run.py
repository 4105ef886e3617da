"""The interface of networks to measure, and of how to measure on a kind of images."""

import abc
from collections.abc import Callable, Iterator, Sequence
import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import xarray as xr

from cnnpool.data.images import MeasurementData, Split
from cnnpool.instruments.moments import Moments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.measuring import transforms
from cnnpool.measuring.inputs import Perturbation
from cnnpool.measuring.settings import Settings
from cnnpool.measuring.units import Depths
from cnnpool.shapes import Key
from cnnpool.training.variables import Variables


class NetworkAtStage(NamedTuple):
    """One network of a run at one stage of its training.

    Attributes:
      seed: the network's seed.
      stage: name of its stage.
      untrained: whether no step was made, so that its running statistics are meaningless.
      variables: the network's variables.
    """

    seed: int
    stage: str
    untrained: bool
    variables: Variables


class Method(NamedTuple):
    """How networks are measured on a kind of images: pictures, or those of the ring.

    Attributes:
      perturbations: (data, settings) -> each of `inputs.kinds` with the images under it.
      transform_key: (settings, a network's seed, number of a shuffle) -> key.
      depths: units -> k of each unit; None for units that are not plotted.
      beside: (run, network, its moments under every transform) -> further variables over
        transform and layer.
      completed: (run, all of its networks, their arrays) -> the arrays, completed with variables
        that need all networks.
      spread: whether images are sharded over devices.
    """

    perturbations: Callable[[Any, Settings], Iterator[tuple[Perturbation, Inputs]]]
    transform_key: Callable[[Settings, int, int], Key[Array, ""]]
    depths: Depths
    beside: Callable[..., xr.Dataset]
    completed: Callable[..., xr.Dataset]
    spread: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Run(abc.ABC):
    """The networks in a folder, and the images on which they are measured.

    Attributes:
      folder: where the networks are.
      config: the config that they were made with, with possibly another data section.
      settings: settings of the measurement.
      method: how they are measured on their images.
      pixel_mean: what `normalize` subtracts from the channels; empty if the data defines it.
    """

    folder: Path
    config: Any
    settings: Settings

    method: ClassVar[Method]
    pixel_mean: ClassVar[Any] = ()

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

    def moments(
        self,
        one: NetworkAtStage,
        transform: str,
        key: Key[Array, ""],
        inputs: Inputs,
        **options: Any,
    ) -> Moments:
        """The moments from which D, G and R of a network's units are computed.

        Args:
          one: the network.
          transform: a name of `cnnpool.measuring.transforms`.
          key: randomness of the transform.
          inputs: clean, deformed and noisy images.
          **options: `on_batch` and `original` of `cnnpool.measuring.network.moments`.
        """
        from cnnpool.measuring import network  # here: it needs Flax

        return network.moments(
            self.model,
            one.variables,
            transform,
            key,
            inputs,
            untrained=one.untrained,
            batch_size=self.settings.batch_size,
            spread=self.method.spread,
            **options,
        )
