"""A network of a user's own file as one more source of networks that `cnnpool.eval` measures."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from functools import cached_property
import sys
from typing import Any

from jax import Array
from ml_collections import ConfigDict
import numpy as np
import xarray as xr

from cnnpool.data.images import MeasuredImages
from cnnpool.instruments.moments import Moments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.library import activations, function_images, user_file
from cnnpool.library.measurable import Measurable
from cnnpool.library.opening import RunNetwork
from cnnpool.library.recognition import measurable
from cnnpool.library.user_file import FunctionError, Reference
from cnnpool.measuring import inputs, measured_data, transforms
from cnnpool.measuring.names import TRAINED
from cnnpool.measuring.network_at_stage import NetworkAtStage
from cnnpool.measuring.run import Run
from cnnpool.measuring.settings import Settings
from cnnpool.shapes import Key
from cnnpool.training.variables import Variables

_FEW = 4  # images that a network is tried on


def open(
    reference: Reference,
    *,
    data: str = "image_folder",
    data_dir: str | None = None,
    images: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> "FunctionRun":
    """Runs a user's file and takes what it names as a network to be measured.

    Args:
      reference: file and name.
      data: where the images come from, a name of `cnnpool.measuring.measured_data`.
      data_dir: where they lie.
      images: `mean`, `std` and `image_size`, in the place of the file's and ImageNet's.
      settings: fields of `Settings` that differ from its defaults.

    Raises:
      FileNotFoundError: if there is no such file.
      FunctionError: if the file, or what it names, raises or is nothing that can be measured.
      ValueError: if something is impossible.
    """
    file, asked = user_file.module(reference), images or {}
    config = ConfigDict(
        {
            "model": {"name": reference.label},
            "data": function_images.data_config(data, data_dir, asked, file),
            "seeds": (0,),
        }
    ).lock()
    told = function_images.told(config.data, asked, file)
    found = user_file.find(reference, file)
    return FunctionRun(
        reference.path, config, Settings(**dict(settings or {})), reference, found, told
    )


@dataclasses.dataclass(frozen=True, eq=False)
class FunctionRun(Run):
    """See `open`.

    Attributes:
      reference: file and name.
      found: what they stand for.
      told: what is done to the images, for the user.
    """

    reference: Reference
    found: Any
    told: str

    @cached_property
    def data(self) -> MeasuredImages:
        """As many images as the settings say; raises DataError if they are absent or damaged."""
        count, seed = self.settings.images, self.settings.seed
        return function_images.build(self.config.data, count=count, seed=seed)

    @cached_property
    def network(self) -> Measurable:
        """The network, tried on a few images.

        Raises:
          FunctionError: if it raises, or names no activations.
          ValueError: if it is in training mode.
        """
        inputs.check(self.data, self.settings)
        few = np.asarray(self.normalize(self.data.test.images[:_FEW]), np.float32)
        _check_measurable(self.found, self.reference)
        given = (
            f". It was given images of shape {few.shape[1:]}, several at once, of float32: "
            "--image_size makes pictures of another size, --mean and --std normalize them"
        )
        with user_file.told(self.reference, f"{self.reference}:", given):
            network = measurable(self.found, few, variables=None, layers=None).prepared(few[:2])
            activations.check_independent(network, few)
        return network

    def stages(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The one stage that there is; raises ValueError if others are asked for."""
        if tuple(asked) != (TRAINED,):
            raise ValueError(
                f"--stage={','.join(asked)}: a network of --function is measured as it is, as "
                f"--stage={TRAINED}; leave it out"
            )
        return (TRAINED,)

    def networks(self, stage: str) -> list[NetworkAtStage]:
        """The one network; its parameters are its own affair."""
        return [NetworkAtStage(self.network.seed, stage, False, Variables({}, {}))]

    def depths(self, layers: Sequence[str]) -> list[int | None]:
        """k of each layer, as the network has it."""
        return self.network.depths(layers)

    def parsed(self, names: Sequence[str], networks: Sequence[NetworkAtStage]) -> tuple[str, ...]:
        """Names of transforms; raises ValueError for one that the network does not have."""
        for name in names:
            transforms.check_known(name)
        return self.network.parsed(names)

    def moments(
        self,
        one: NetworkAtStage,
        transform: str,
        key: Key[Array, ""],
        perturbed: Inputs,
        *,
        on_batch: Callable[[int], Any] = lambda images: None,
        **options: Any,
    ) -> Moments:
        """What D, G and R of the network's layers are made of, as `cnnpool.measure` has them."""
        changed = self.network.transformed(transform, key)
        return changed.moments(perturbed, batch_size=self.settings.batch_size, on_batch=on_batch)

    def identity(self, stages: Sequence[str]) -> dict[str, Any]:
        """The file and what it holds, the weights where they are known, and what the images are."""
        file = {
            "file": self.reference.path.as_posix(),
            "name": str(self.reference).rpartition(":")[2],
        }
        return {
            "function": file
            | {"sha256": user_file.checksum(self.reference)}
            | self.network.record(),
            "stages": list(self.stages(stages)),
            "data": measured_data.identity(self.config.data),
        }

    def facts(self, stages: Sequence[str]) -> xr.Dataset:
        """Nothing is known."""
        return xr.Dataset(coords={"seed": [self.network.seed], "stage": list(stages)})

    def origin(self) -> dict[str, str]:
        """Where network and images come from."""
        trained_by = {"trained_by": f"own network, {self.reference}"}
        return trained_by | measured_data.origin(self.data)


def _check_measurable(found: Any, reference: Reference) -> None:
    """Raises FunctionError for networks that another flag, or another name, is for."""
    if isinstance(found, RunNetwork):
        raise FunctionError(
            f"{reference} is a network of cnnpool.open; expected somebody else's: measure its "
            f"folder, --workdir={found.run.folder}"
        )
    linen = sys.modules.get("flax.linen")
    if linen is not None and isinstance(found, linen.Module):
        raise FunctionError(
            f"{reference} is a linen module, which has no parameters; name "
            "cnnpool.flax.features(module, variables) in the file, and give that name"
        )
