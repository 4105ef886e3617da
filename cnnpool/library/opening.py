"""A training's working directory, a packed or an imported folder, opened in Python."""

from collections.abc import Callable, Sequence
import dataclasses
from pathlib import Path
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from ml_collections import ConfigDict

from cnnpool.files import storage
from cnnpool.instruments.activations import in_forward_order
from cnnpool.instruments.moments import ImageMoments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.library.activations import Layers, chosen
from cnnpool.library.measurable import Measurable, weights_checksum
from cnnpool.measuring import network, run, runs, transforms, units
from cnnpool.measuring.names import TRAINED
from cnnpool.shapes import Key
from cnnpool.training.variables import Variables


def open(folder: str | Path, *, data_dir: str | None = None) -> "Run":
    """Opens image classifiers that were trained, packed or imported.

    Args:
      folder: a folder made by cnnpool.train, cnnpool.pack or cnnpool.import_weights; also gs:// and
        s3://.
      data_dir: the folder of the training data, instead of the config's `data.data_dir`.

    Raises:
      FileNotFoundError: if there is no run.
      ValueError: if the run is of simple CNNs on a ring.
    """
    return Run(runs.open_pictures(storage.path(str(folder)), data_dir=data_dir))


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """See `open`.

    Attributes:
      source: of the networks, as `cnnpool.measuring.runs` opens it.
    """

    source: run.Run

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.source.folder

    @property
    def config(self) -> ConfigDict:
        """That the networks were made with."""
        return self.source.config

    def networks(self, stage: str = TRAINED) -> "list[RunNetwork]":
        """The networks at a stage, one per seed.

        Args:
          stage: "trained" (the best network of each seed), "init", "last" or an epoch; of a packed
            or imported folder one of the first two.

        Raises:
          CheckpointError, NetworkFolderError: if they are absent or damaged.
          ValueError: if there is no such stage.
          DataError: if the data is absent, by which checkpoints are read.
        """
        return [
            RunNetwork(self, self.source.model, one.variables, one.untrained, one.seed)
            for one in self.source.networks(stage)
        ]

    @property
    def test_images(self) -> Array:
        """(n, rows, columns, channels) as stored, uint8 or float32; see `normalize`.

        Raises:
          ValueError: of an imported network, which has none of its own.
          DataError: if the data is absent or damaged.
        """
        return self.source.own_images.images

    @property
    def test_labels(self) -> Array:
        """(n,), a class 0..C-1, or +1 and -1."""
        return self.source.own_images.labels

    def normalize(self, images: Any) -> Array:
        """Stored images as the networks take them, without noise.

        Args:
          images: (n, rows, columns, channels); uint8 count from 0 to 1, as floats do.
        """
        return self.source.normalize(images)


@dataclasses.dataclass(frozen=True, eq=False)
class RunNetwork(Measurable):
    """One network of a run.

    Attributes:
      run: that it is of.
      model: its linen module.
      variables: its parameters and batch statistics.
      untrained: whether no step was made; it is then measured with the batch statistics of the
        clean images.
      seed: of its training.
      layers: units that are wanted; None is all.
      transform: what is done to it before it is measured.
      key: randomness of the transform.
    """

    run: Run
    model: Any
    variables: Variables
    untrained: bool
    seed: int  # type: ignore[misc]
    layers: Layers = None
    transform: str = transforms.NONE
    key: Key[Array, ""] | None = None

    @property
    def label(self) -> str:  # type: ignore[override]
        """The network's name in the config."""
        return self.run.config.model.name

    @property
    def transforms(self) -> Sequence[str]:  # type: ignore[override]
        """Names of `cnnpool.measuring.transforms`."""
        return transforms.NAMES

    def activations(self, images: Any) -> dict[str, Array]:
        """Activations of all units by name, in forward order, in inference mode.

        Args:
          images: (n, rows, columns, channels): uint8, which are normalized, or floats that are
            normalized already.
        """
        array = jnp.asarray(images)
        array = self.run.normalize(array) if array.dtype == jnp.uint8 else array
        with jax.default_matmul_precision("highest"):
            found = in_forward_order(network.features(self.model, self.variables), array)
        by_name = dict(zip(found.names, found.activations, strict=True))
        return {name: by_name[name] for name in chosen(by_name, self.layers)}

    def __call__(self, images: Any) -> dict[str, Array]:
        """`activations`."""
        return self.activations(images)

    def moments(
        self, inputs: Inputs, *, batch_size: int, on_batch: Callable[[int], Any]
    ) -> dict[str, ImageMoments]:
        """What D, G and R of every unit are made of."""
        found = network.moments(
            self.model,
            self.variables,
            self.transform,
            jax.random.key(0) if self.key is None else self.key,
            inputs,
            untrained=self.untrained,
            batch_size=batch_size,
            on_batch=on_batch,
        )
        return {name: found[name] for name in chosen(found, self.layers)}

    def only(self, layers: Layers) -> "RunNetwork":
        """The same network with some of its units alone."""
        return dataclasses.replace(self, layers=layers)

    def depths(self, names: Sequence[str]) -> list[int | None]:
        """k of the units that figures plot, as cnnpool.eval has them."""
        return units.depths(names)

    def parsed(self, names: Sequence[str]) -> tuple[str, ...]:
        """Names of transforms; those of every layer are written out."""
        return transforms.parse(",".join(names), self.variables.params)

    def transformed(self, name: str, key: Key[Array, ""]) -> "RunNetwork":
        """The network after a transform, which is made when it is measured."""
        same = transforms.equivalent(name, self.variables, untrained=self.untrained)
        return dataclasses.replace(self, transform=same, key=key)

    def record(self) -> dict[str, Any]:
        """Its name, seed and a checksum of its weights."""
        checksum = weights_checksum(self.variables)
        return {"network": self.label, "seed": self.seed, "weights_sha256": checksum}
