"""The moments of networks that run outside JAX: PyTorch, ONNX Runtime, anything.

Activations arrive batch by batch and are added to the same sums, in the same order, as in
`cnnpool.instruments.moments.image_moments`; no batch's activations are kept.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any

import jax
from jax import Array
import numpy as np

from cnnpool.devices import runtime
from cnnpool.instruments import layer_sums
from cnnpool.instruments.activations import check_activations
from cnnpool.instruments.batch_plan import fitting_batch
from cnnpool.instruments.layer_sums import Layer
from cnnpool.instruments.moment_programs import layer_shapes, nothing, with_found
from cnnpool.instruments.moments import ImageMoments, Images, by_unit, check_inputs

HostFeatures = Callable[[np.ndarray], Mapping[str, Any]]  # arrays that numpy reads


def streamed_moments(
    features: HostFeatures,
    clean: Images,
    deformed: Images,
    noisy: Images,
    *,
    batch_size: int = 0,
    on_batch: Callable[[int], Any] | None = None,
) -> dict[str, ImageMoments]:
    """`cnnpool.instruments.moments.image_moments` for a function that runs outside JAX.

    Args:
      features: numpy images (batch, *shape), float32 -> activations {layer: (batch, ...)}, arrays
        that numpy can read. All batches have the same size.
      clean: x, (images, *shape).
      deformed: tau(x), (draws, images, *shape), one or more draws of each image.
      noisy: x + eta, likewise.
      batch_size: how many images, copies included, the function is called with; 0: as many as have
        a gigabyte of activations, on a CPU at most 75.
      on_batch: called after every batch, with its number of images.

    Returns:
      The moments of each layer, in the order in which `features` names them.

    Raises:
      ValueError: if shapes disagree or there are fewer than two images.
      TypeError: if `features` does not return named activations, one per image.
    """
    platform = runtime.platform_of(None)
    check_inputs(clean, deformed, noisy, batch_size)
    clean, deformed, noisy = (np.asarray(copy) for copy in (clean, deformed, noisy))
    copies, images = 1 + len(deformed) + len(noisy), len(clean)

    def batch(start: int, size: int) -> np.ndarray:
        """Copies of some images; the last image fills up a batch."""
        row = np.minimum(start + np.arange(size), images - 1)
        stacked = np.concatenate([clean[row][None], deformed[:, row], noisy[:, row]])
        return stacked.reshape(-1, *clean.shape[1:])

    first = _arrays(features(batch(0, 1)))
    activations = {name: jax.ShapeDtypeStruct(f.shape, f.dtype) for name, f in first.items()}
    check_activations(activations, copies)
    size = (batch_size or fitting_batch(activations, 1, platform)) // copies
    size = min(max(1, size), images)
    rows = size * -(-images // size)
    layers = {
        name: nothing((("", shape),), rows, None)()[""] for name, shape in layer_shapes(activations)
    }
    for start in range(0, images, size):
        found = _arrays(features(batch(start, size)))
        _check_unchanged(found, activations, copies, size * copies)
        weights = (start + np.arange(size) < images).astype(np.float32)
        # The function may reuse its output's memory as soon as it is called again.
        layers = jax.block_until_ready(
            {
                name: _add(layer, found[name], len(deformed), weights, start, platform)
                for name, layer in layers.items()
            }
        )
        if on_batch:
            on_batch(min(size, images - start))
    every = np.ones(images, np.float32)
    ends = jax.device_get([_finish(layers[name], every) for name in sorted(layers)])
    by_image, centers = (np.concatenate(part) for part in zip(*ends, strict=True))
    return by_unit((by_image, centers), activations, images)


# A network's many layers of the same shape share a compiled program.
@functools.partial(jax.jit, static_argnames=("draws", "platform"), donate_argnums=0)
def _add(
    layer: Layer, found: Array, draws: int, weights: Array, start: Array, platform: str
) -> Layer:
    added = with_found(lambda v: v, platform, {"": layer}, {"": found}, draws, weights, start)
    return added[""]


@jax.jit
def _finish(layer: Layer, weights: Array) -> tuple[Array, Array]:
    return layer_sums.finish(layer, weights, lambda values: values)


def _arrays(found: Any) -> dict[str, np.ndarray]:
    """Activations as numpy arrays, float64 converted to float32 as in JAX."""
    if not isinstance(found, Mapping) or not found:
        raise TypeError(
            "expected a function from images to a dict of named activations, got one that returns "
            f"{type(found).__name__}"
        )
    arrays = {name: np.asarray(f) for name, f in found.items()}
    return {
        name: f.astype(np.float32) if f.dtype == np.float64 else f for name, f in arrays.items()
    }


def _check_unchanged(
    found: Mapping[str, np.ndarray], first: Mapping[str, Any], copies: int, images: int
) -> None:
    """Raises TypeError if a batch's layers or their shapes differ from those of the first call."""
    there = {name: f.shape for name, f in found.items()}
    expected = {name: (f.shape[0] * images // copies, *f.shape[1:]) for name, f in first.items()}
    if there != expected:
        names = [n for n in {**there, **expected} if there.get(n) != expected.get(n)]
        raise TypeError(
            f"activations change from call to call: {names[0]!r} has shape {there.get(names[0])} "
            f"of {images} images, expected {expected.get(names[0])}, one row per image"
        )
