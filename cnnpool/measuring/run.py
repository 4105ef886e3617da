"""Networks to be measured, wherever they come from, and how a kind of images is measured on."""

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
from cnnpool.instruments.moments import ImageMoments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.measuring.inputs import Perturbation
from cnnpool.measuring.settings import Settings
from cnnpool.shapes import Key
from cnnpool.training.variables import Variables


class Network(NamedTuple):
    """One network of a run.

    Attributes:
      seed: its seed.
      stage: name of its stage.
      untrained: whether no step was made, so that its running statistics mean nothing.
      variables: its own.
    """

    seed: int
    stage: str
    untrained: bool
    variables: Variables


class Method(NamedTuple):
    """How networks are measured on a kind of images: pictures, or those of the ring.

    Attributes:
      perturbations: of data and settings, each of `inputs.kinds` and the images under it.
      transform_key: of settings, a network's seed and the number of a shuffle.
      depths: k of units, None of those that are not plotted.
      beside: of a run, a network and its moments under every transform: further variables over
        transform and layer.
      completed: of a run, all of its networks and their arrays: these, with what needs all of them.
      spread: whether images are spread over devices.
    """

    perturbations: Callable[[Any, Settings], Iterator[tuple[Perturbation, Inputs]]]
    transform_key: Callable[[Settings, int, int], Key[Array, ""]]
    depths: Callable[[Sequence[str]], list[int | None]]
    beside: Callable[..., xr.Dataset]
    completed: Callable[..., xr.Dataset]
    spread: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Run(abc.ABC):
    """Networks that lie in a folder, and the images that they are measured on.

    Attributes:
      folder: where they lie.
      config: that they were made with, its data possibly changed.
      settings: of the measurement.
      method: how they are measured on their images.
      pixel_mean: what `normalize` subtracts from the channels; empty where the data knows.
    """

    folder: Path
    config: Any
    settings: Settings

    method: ClassVar[Method]
    pixel_mean: ClassVar[Any] = ()

    @property
    @abc.abstractmethod
    def data(self) -> MeasurementData:
        """The images that they are measured on.

        Raises:
          DataError: if they are absent or damaged.
          ConfigMismatchError, PackedError: if the networks were trained on other data.
        """

    @abc.abstractmethod
    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The names of stages, "all" written out.

        Raises:
          CheckpointError, ValueError: if there is no such stage.
        """

    @abc.abstractmethod
    def networks(self, stage: str) -> list[Network]:
        """The networks at a stage, one per seed.

        Raises:
          CheckpointError, PackedError, ImportedError: if they are absent or damaged, or not
            trained to the end where the stage asks for that.
        """

    @abc.abstractmethod
    def identity(self, stages: Sequence[str]) -> dict[str, Any]:
        """What tells the networks at these stages, and their images, from others, for JSON."""

    @abc.abstractmethod
    def facts(self, stages: Sequence[str]) -> xr.Dataset:
        """What is known of the networks beside D, G, R: errors, epochs; over seed and stage."""

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
        """Stored images as the networks take them, without noise where `settings` say so."""
        return self.data.normalize(jax.random.key(0), jnp.asarray(images))

    def moments(
        self, one: Network, transform: str, key: Key[Array, ""], inputs: Inputs, **options: Any
    ) -> dict[str, ImageMoments]:
        """What D, G and R of a network's units are made of.

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
