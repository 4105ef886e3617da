"""What a measurement needs of networks, wherever they come from, and of a kind of images."""

import abc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jax import Array
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
      check: refuses settings that are impossible on the data, before anything is computed.
      kinds: of perturbation that `perturbations` gives, in their order.
      perturbations: each kind, and the images under it.
      transform_key: of settings, a network's seed and the number of a shuffle.
      depths: k of units, None of those that are not plotted.
      beside: of a run, a network and its moments under every transform: further variables over
        transform and layer.
      completed: of a run, all of its networks and their arrays: these, with what needs all of them.
      spread: whether images are spread over devices.
    """

    check: Callable[[Any, Settings], None]
    kinds: Callable[[Any, Settings], list[Perturbation]]
    perturbations: Callable[[Any, Settings], Iterator[tuple[Perturbation, Inputs]]]
    transform_key: Callable[[Settings, int, int], Key[Array, ""]]
    depths: Callable[[Sequence[str]], list[int | None]]
    beside: Callable[..., xr.Dataset]
    completed: Callable[..., xr.Dataset]
    spread: bool


class Run(abc.ABC):
    """What a measurement needs of networks that lie in a folder.

    Attributes:
      folder: where they lie.
      config: that they were made with.
      settings: of the measurement.
      method: how they are measured on their images.
    """

    folder: Path
    config: Any
    settings: Settings
    method: Method

    @property
    @abc.abstractmethod
    def model(self) -> Any:
        """The linen module of the networks."""

    @property
    @abc.abstractmethod
    def data(self) -> MeasurementData:
        """The images that they are measured on.

        Raises:
          DataError: if they are absent or damaged.
          ConfigMismatchError, PackedError: if the networks were trained on other data.
        """

    @property
    @abc.abstractmethod
    def own_images(self) -> Split:
        """The test images of the training, as stored, and their labels.

        Raises:
          ValueError: if there are none, because somebody else trained the network.
          DataError: if they are absent or damaged.
        """

    @property
    @abc.abstractmethod
    def channels(self) -> tuple[int, ...]:
        """Numbers of channels that stored images may have; the network takes the last one."""

    @property
    @abc.abstractmethod
    def pixel_mean(self) -> tuple[float, ...]:
        """What `normalize` subtracts from the channels; empty where the data knows."""

    @abc.abstractmethod
    def normalize(self, images: Any) -> Array:
        """Stored images as the networks take them, without noise."""

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

    @abc.abstractmethod
    def identity(self, stages: Sequence[str]) -> dict[str, Any]:
        """What tells the networks at these stages, and their images, from others, for JSON."""

    @abc.abstractmethod
    def facts(self, stages: Sequence[str]) -> xr.Dataset:
        """What is known of the networks beside D, G, R: errors, epochs; over seed and stage."""

    @abc.abstractmethod
    def origin(self) -> dict[str, str]:
        """Where networks and images come from: attributes of a result file."""
