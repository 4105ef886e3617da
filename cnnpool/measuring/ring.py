"""How the ring's simple CNNs are measured, and where their networks are stored.

They are measured on all images of the task, under moves of the two active pixels and rectified
noise. Besides D, G and R: receptive fields A_k, mean filters, diffusion theory, validation errors.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from functools import cached_property
import math
from pathlib import Path
import re
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import xarray as xr

from cnnpool.data.scale1d import Scale1D
from cnnpool.devices import runtime
from cnnpool.instruments import diffusion
from cnnpool.instruments.activations import Features
from cnnpool.instruments.channels import mean_filters
from cnnpool.instruments.moments import Moments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.measuring import network, transforms
from cnnpool.measuring.inputs import OWN_KIND, Perturbation
from cnnpool.measuring.network_at_stage import NetworkAtStage
from cnnpool.measuring.settings import Settings
from cnnpool.measuring.trained_run import TrainedRun
from cnnpool.shapes import Bool, Float, Key
from cnnpool.training import ring_setup
from cnnpool.training.checkpoints import RunState
from cnnpool.training.stopping import RingProgress
from cnnpool.training.variables import Variables

# Training splits the plain key of a seed; folding in any constant avoids those keys.
_KEY_CONSTANT = 20221006


def measurement_keys(seed: int) -> tuple[Key[Array, ""], Key[Array, ""]]:
    """Keys of moves and noise, and of channel shuffles; distinct from every training key."""
    key = jax.random.fold_in(jax.random.key(seed), _KEY_CONSTANT)
    perturbation, transform = jax.random.split(key)
    return perturbation, transform


def depth_of(layer: str) -> int | None:
    """k of a convolution or its ReLU, counted from 1; None for pooling and readout."""
    match = re.fullmatch(r"(?:conv|relu)(\d+)", layer)
    return int(match.group(1)) if match else None


def receptive_field_sizes(config: ConfigDict, features: Features) -> dict[str, float]:
    """Measured A_k of every layer with positions, else NaN; see `diffusion.measured_size`."""
    length, model = config.data.length, config.model
    pixels = math.sqrt(length / 2) * jnp.eye(length)[..., None]
    responses = jax.device_get(_evaluate(features, pixels))
    background = jax.device_get(_evaluate(features, jnp.zeros((1, length, 1))))
    return {
        layer: diffusion.measured_size(
            responses[layer],
            background[layer][0],
            filter_size=model.filter_size,
            stride=model.stride,
            layer=depth,
        )
        if (depth := depth_of(layer))
        else math.nan
        for layer in background
    }


@jax.jit
def _evaluate(features: Features, images: Float[Array, "images length 1"]) -> dict[str, Array]:
    return features(images)


@dataclasses.dataclass(frozen=True, eq=False)
class RingRun(TrainedRun):
    """The simple CNNs of a run on the ring.

    Attributes:
      net: data and model.
    """

    net: ring_setup.RingNetwork

    spread = False
    progress_type = RingProgress

    @property
    def data(self) -> Scale1D:
        """All images of the task."""
        return self.net.data

    @cached_property
    def is_training(self) -> Bool[np.ndarray, "seeds images"]:
        """Which images each network was trained on."""
        return ring_setup.is_training_image(self.config, self.data)

    def shapes(self) -> dict:
        """Shapes, types and shardings of the parameters of all networks."""
        # Each of several processes has and measures all of them: a matter of seconds.
        mesh = runtime.seed_mesh(len(self.config.seeds), jax.local_devices())
        return self.net.stacked_shapes(len(self.config.seeds), mesh)

    def variables(self, networks: dict, stage: str) -> Variables:
        """The networks, which have parameters alone; "trained" and "last" are the same."""
        del stage
        return Variables(networks, {})

    def perturbations(self) -> Iterator[tuple[Perturbation, Inputs]]:
        """All images of the task under the data's own moves and noise."""
        key, _ = measurement_keys(self.settings.seed)
        yield OWN_KIND, Inputs(self.data.images, *self.data.perturb(key, self.settings.draws))

    def transform_key(self, seed: int, number: int) -> Key[Array, ""]:
        """The randomness of the only shuffle of a network."""
        del number
        return jax.random.fold_in(measurement_keys(self.settings.seed)[1], seed)

    def depths(self, layers: Sequence[str]) -> list[int | None]:
        """k of convolutions and their ReLUs."""
        return [depth_of(layer) for layer in layers]

    def beside(self, one: NetworkAtStage, found: Mapping[str, list[Moments]]) -> xr.Dataset:
        """Receptive fields, mean filters and test error of a network under every transform."""
        parts = [
            self._under_transform(one, name, list(moments[0])) for name, moments in found.items()
        ]
        return xr.concat(parts, "transform", join="exact").assign_coords(transform=list(found))

    def _under_transform(self, one: NetworkAtStage, name: str, layers: Sequence[str]) -> xr.Dataset:
        key = self.transform_key(one.seed, 0)
        variables = transforms.transform_variables(name, one.variables, key)
        plain = network.features(self.model, variables)
        sizes = receptive_field_sizes(self.config, transforms.transform_features(name, plain))
        filters = jax.device_get(mean_filters(variables.params, pattern=transforms.KERNELS))
        outputs = _evaluate(plain, self.data.images)["linear"]
        wrong = ~(self.data.labels * np.asarray(outputs)[:, 0] > 0)
        is_test = ~self.is_training[list(self.config.seeds).index(one.seed)]
        taps = self.config.model.filter_size
        no_filter = np.full(taps, np.nan)
        return xr.Dataset(
            {
                "A": ("layer", np.array([sizes[layer] for layer in layers], np.float64)),
                "mean_filter": (
                    ("layer", "tap"),
                    np.array([filters.get(layer, no_filter) for layer in layers], np.float64),
                ),
                "test_error": float(wrong[is_test].mean()),
            },
            {"layer": list(layers), "tap": np.arange(taps)},
        )

    def completed(self, networks: Sequence[NetworkAtStage], whole: xr.Dataset) -> xr.Dataset:
        """Adds A_k, and D_k and G_k of constant positive filters, for layers that have a depth."""
        del networks
        model, data = self.config.model, self.data
        matrices = diffusion.layer_matrices(
            data.length, depth=model.depth, filter_size=model.filter_size, stride=model.stride
        )
        prediction = diffusion.predicted_sensitivities(
            matrices, np.asarray(data.images[..., 0]), np.asarray(data.every_move()[..., 0])
        )
        sizes = [
            diffusion.receptive_field_size(k + 1, model.filter_size, model.stride)
            for k in range(model.depth)
        ]
        predicted = {
            "A_theory": np.array(sizes),
            "D_theory": prediction.D,
            "G_theory": prediction.G,
        }
        depths = self.depths(list(whole["layer"].values))
        return whole.isel(shuffle=0, drop=True).assign(
            {
                name: ("layer", np.array([values[k - 1] if k else np.nan for k in depths]))
                for name, values in predicted.items()
            }
        )

    def known(self, stage: str, state: RunState) -> dict[str, Sequence]:
        """Epochs of interpolation and stop, as far as the stage's checkpoint knows them."""
        names = ("interpolation_epoch", "stopped_epoch")
        return {name: [getattr(one, name) for one in state.progress] for name in names}


def open(workdir: Path, config: ConfigDict, given: Mapping[str, Any]) -> RingRun:
    """A run of cnnpool.train on the ring.

    Args:
      workdir: the run's working directory.
      config: the run's config.
      given: only `draws`, which replaces the config's `measurement.draws`.

    Raises:
      ValueError: if other settings are given.
    """
    if others := given.keys() - {"draws"}:
        raise ValueError(
            f"{', '.join(f'--{name}' for name in sorted(others))}: only networks on pictures are "
            "measured with these; simple CNNs on a ring take --draws alone"
        )
    config = config.copy_and_resolve_references()
    config.measurement.draws = given.get("draws", config.measurement.draws)
    net = ring_setup.network(config)
    settings = Settings(
        images=len(net.data.labels),
        draws=config.measurement.draws,
        shuffles=1,
        seed=config.measurement.seed,
        batch_size=config.measurement.batch_size,
    )
    return RingRun(workdir, config, settings, net)
