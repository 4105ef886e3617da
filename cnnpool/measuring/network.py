"""Measurements of one network: moments of every unit, its outputs, and its filters."""

from collections.abc import Callable, Mapping
import functools
import itertools
import re
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from cnnpool.devices import runtime
from cnnpool.devices.progress_bar import ProgressBar
from cnnpool.instruments.activations import Features, Rescaled
from cnnpool.instruments.moments import Moments, image_moments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.measuring import batch_statistics, transforms
from cnnpool.models import layers
from cnnpool.shapes import Float, Shaped
from cnnpool.training.variables import Variables

# Pixel values in all clean images: below this, measuring known units again takes less time than
# compiling a program without them. 500 images have 2^20.5 for CIFAR-10, 2^26 for ImageNet.
WORTH_COMPILING = 2**23


@functools.lru_cache(maxsize=16)
def _apply(model: Any, left_out: frozenset[str] = frozenset(), rescaled: bool = False):
    """Named activations in inference mode as a function of (variables, images).

    Returns the same object for the same model, so that JAX compiles once for all networks of a run.
    """

    def apply(variables: Variables, images: Array) -> dict[str, Any]:
        norms: dict[str, _Norm] = {}

        def note(norm: layers.BatchNorm, x: Array, y: Array) -> None:
            gain, offset = norm.inference()
            if gain.dtype == y.dtype:  # otherwise it is rounded afterwards, as in bfloat16
                norms["/".join(norm.path)] = _Norm(x, gain, offset)

        with layers.batch_norms_noted(note):
            found = model.apply(variables._asdict(), images, train=False)[1]
        kept = {name: f for name, f in found.items() if name not in left_out}
        return _with_rescaled(kept, norms) if rescaled else kept

    return apply


class _Norm(NamedTuple):
    """The input of a batch normalization, with its gain and offset."""

    x: Array
    gain: Array
    offset: Array


def _with_rescaled(found: dict[str, Array], norms: Mapping[str, _Norm]) -> dict[str, Any]:
    """`found`, with units that are batch norms or copies of other units as `Rescaled`.

    Dropout changes nothing in inference.

    Args:
      found: activations by unit.
      norms: batch normalizations by unit.
    """

    def first_named(f: Array) -> str | None:
        return next((name for name, other in found.items() if other is f), None)

    def told(name: str, f: Array) -> Any:
        first = first_named(f) or name
        read = first_named(norms[first].x) if first in norms else None
        if read is not None and read not in norms:
            return Rescaled(read, norms[first].gain, norms[first].offset)
        if first != name and f.ndim > 1:
            channels = f.shape[-1:]
            return Rescaled(first, jnp.ones(channels, f.dtype), jnp.zeros(channels, f.dtype))
        return f

    return {name: told(name, f) for name, f in found.items()}


def features(
    model: Any,
    variables: Variables,
    *,
    left_out: frozenset[str] = frozenset(),
    rescaled: bool = False,
) -> Features:
    """All units of one network in inference mode, by name, except those left out.

    Args:
      model: the network's module.
      variables: variables of the network.
      left_out: names of units to leave out.
      rescaled: whether batch normalization is returned as `Rescaled` instead of computed.
    """
    return jax.tree_util.Partial(_apply(model, left_out, rescaled), variables)


def features_by_copy(
    model: Any, variables: Variables, *, left_out: frozenset[str] = frozenset()
) -> Features:
    """The same if `batch_stats` has one set per copy of the images, along a leading axis.

    The images are the concatenated copies of a batch, as many as there are sets.
    """
    return jax.tree_util.Partial(_apply_by_copy(model, left_out), variables)


@functools.lru_cache(maxsize=8)
def _apply_by_copy(model: Any, left_out: frozenset[str]):
    def apply(variables: Variables, images: Array) -> dict[str, Array]:
        names: list[str] = []  # in forward order; vmap would sort a dict by its keys

        def of_copy(batch_stats, copy):
            found = _apply(model, left_out)(variables._replace(batch_stats=batch_stats), copy)
            names[:] = found
            return tuple(found.values())

        copies = len(jax.tree.leaves(variables.batch_stats)[0])
        split = images.reshape(copies, -1, *images.shape[1:])
        found = jax.vmap(of_copy)(variables.batch_stats, split)
        flat = [f.reshape(-1, *f.shape[2:]) for f in found]
        return dict(zip(names, flat, strict=True))

    return apply


def moments(
    model: Any,
    variables: Variables,
    transform: str,
    key: Array,
    inputs: Inputs,
    *,
    untrained: bool,
    batch_size: int,
    spread: bool = True,
    on_batch: Callable[[int], Any] | None = None,
    original: Moments | None = None,
) -> Moments:
    """The moments from which D, G and R of every unit are computed.

    Args:
      model: the network's module.
      variables: variables of one network.
      transform: a name in `cnnpool.measuring.transforms`.
      key: randomness of the transform.
      inputs: clean, deformed and noisy images.
      untrained: whether to compute batch statistics from the images.
      batch_size: images whose activations are held at once; 0: as many as fit.
      spread: whether to shard the images over all devices.
      on_batch: called after every call of the compiled program, with its number of images.
      original: moments of the network as it is, on the same images; for large measurements,
        units before the first layer that the transform changes are taken from there.
    """
    changed = transforms.transform_variables(transform, variables, key)
    same: Moments = {}
    worth_it = inputs.clean.size >= WORTH_COMPILING
    if original and worth_it and not transforms.changes_all_units(transform):
        same = {name: original[name] for name in _unchanged(variables, changed, list(original))}
    left_out = frozenset(same)
    if transform == transforms.OWN_STATISTICS and changed.batch_stats:
        with_statistics = batch_statistics.with_own_statistics(model, changed, inputs)
        plain = features_by_copy(model, with_statistics, left_out=left_out)
    else:
        if untrained or transforms.recalibrates(transform):
            changed = batch_statistics.with_frozen_statistics(model, changed, inputs.clean)
        plain = features(model, changed, left_out=left_out, rescaled=True)
    shown = transforms.transform_features(transform, plain)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(changed))
    mesh = runtime.image_mesh(size) if spread else None
    found = image_moments(shown, *inputs, batch_size=batch_size, mesh=mesh, on_batch=on_batch)
    return same | found


def _unchanged(before: Variables, after: Variables, units: list[str]) -> list[str]:
    """Units in forward order up to the first one whose variables a transform replaced."""
    own = before.by_path()
    changed = {
        path.rsplit("/", 1)[0] for path, leaf in after.by_path().items() if leaf is not own[path]
    }
    return list(itertools.takewhile(lambda unit: unit not in changed, units))


Normalize = Callable[[np.ndarray], Array]


def outputs(
    model: Any,
    variables: Variables,
    images: Shaped[Array | np.ndarray, "images height width channels"],
    *,
    batch_size: int,
    normalize: Normalize,
) -> Float[np.ndarray, "images outputs"]:
    """Outputs in inference mode, with a progress bar.

    Args:
      model: the network's module.
      variables: variables of one network.
      images: stored images, possibly on disk.
      batch_size: images per batch.
      normalize: normalizes a batch of images.
    """
    batch_size = min(batch_size, len(images))
    found = []
    with ProgressBar(len(images), "predicting", "image", compiles=True) as bar:
        for start in range(0, len(images), batch_size):
            batch = np.asarray(images[start : start + batch_size])
            # Filled up, so that one program serves all batches.
            full = np.pad(batch, ((0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0)))
            batch_outputs = _output(variables, normalize(full), model=model)
            found.append(np.asarray(batch_outputs)[: len(batch)])
            bar.update(len(batch))
    return np.concatenate(found)


def _output(variables: Variables, images: Array, *, model: Any) -> Array:
    options = tuple(runtime.with_barriers(jax.devices()[0].platform).items())
    # Accelerators would round factors to TF32 or bfloat16.
    with jax.default_matmul_precision("highest"):
        return _compiled_output(model, options)(variables, images)


@functools.lru_cache(maxsize=4)
def _compiled_output(model: Any, options: tuple[tuple[str, str], ...]):
    return jax.jit(
        lambda variables, images: model.apply(variables._asdict(), images, train=False)[0],
        compiler_options=dict(options) or None,
    )


def kernels(variables: Variables) -> dict[str, Float[np.ndarray, "F F inputs outputs"]]:
    """Kernels of all convolutions of one network by unit, in float64."""
    return {
        path.removesuffix("/kernel"): np.asarray(kernel, np.float64)
        for path, kernel in flatten_dict(variables.params, sep="/").items()
        if re.fullmatch(transforms.KERNELS, path)
    }
