"""How many images go through a network at once."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jax.sharding import Mesh

from cnnpool.devices import runtime
from cnnpool.instruments.activations import Features, activation_shapes, units_of

_LARGEST_CPU_BATCH = 75  # more images of a small network are not faster; accelerators want more
_BATCH_BYTES = 2**30
# Activations of all images of one call, at least one batch: some seconds on a CPU, whatever the
# network. What does not depend on the images, such as transformed kernels, is computed once a call.
_CALL_BYTES = 2**32


class Plan(NamedTuple):
    """How images go through a network.

    Attributes:
      activations: shapes of arrays, or `Rescaled` ones, by unit.
      share: images of a device, its copies of the last one counted.
      size: of them in a batch.
      at_once: of them in a call of the compiled program.
    """

    activations: Mapping[str, Any]
    share: int
    size: int
    at_once: int

    @property
    def batches(self) -> int:
        """Number of batches per device."""
        return -(-self.share // self.size)

    @property
    def rows(self) -> int:
        """Images of a device's batches, the filling of the last one counted."""
        return self.size * self.batches


def plan_of(
    features: Features,
    clean: Any,
    deformed: Any,
    noisy: Any,
    *,
    batch_size: int,
    mesh: Mesh | None,
) -> Plan:
    """The plan of `image_moments`; of clean, deformed and noisy images shapes are enough."""
    copies = 1 + len(deformed) + len(noisy)
    activations = activation_shapes(features, clean, copies)
    devices, platform = 1 if mesh is None else mesh.size, runtime.platform_of(mesh)
    share = -(-len(clean) // devices)
    wanted = batch_size or fitting_batch(activations, devices, platform)
    size = min(max(1, wanted // copies), share)
    at_once = size * max(1, _images_within(_CALL_BYTES, activations) // (copies * size))
    return Plan(activations, share, size, at_once)


def fitting_batch(activations: Mapping[str, Any], devices: int, platform: str) -> int:
    """The default number of images per device and batch. A CPU's devices share its memory."""
    if platform != "cpu":
        return _images_within(_BATCH_BYTES, activations)
    return min(_LARGEST_CPU_BATCH, _images_within(_BATCH_BYTES // devices, activations))


def _images_within(limit: int, activations: Mapping[str, Any]) -> int:
    """How many images have activations of at most `limit` bytes in all; at least one."""
    kept = [activations[name] for name in units_of(activations)]
    of_one = sum(f.size * f.dtype.itemsize // len(f) for f in kept)
    return max(1, limit // max(1, of_one))
