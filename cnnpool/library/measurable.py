"""Networks of any kind as what is measured: images to named activations, and transforms of them."""

import abc
from collections.abc import Callable, Mapping, Sequence
import functools
import hashlib
import sys
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Key
import numpy as np

from cnnpool.errors import refuse_unknown
from cnnpool.instruments.channels import paths
from cnnpool.instruments.moments import Features, ImageMoments, image_moments, in_forward_order
from cnnpool.instruments.perturbation import Inputs
from cnnpool.instruments.streamed_moments import streamed_moments
from cnnpool.library.activations import Layers, chosen, flattened

NONE = "none"


class Measurable(abc.ABC):
    """A function from images (n, rows, columns, channels) to {layer: activations (n, ...)}.

    Attributes:
      label: the network in result files and figures.
      transforms: names of what can be done to it before it is measured.
      seed: of its training, where it is known; its shuffles depend on it.
    """

    label: str = "network"
    transforms: Sequence[str] = (NONE,)
    seed: int = 0

    @abc.abstractmethod
    def __call__(self, images: Any) -> dict[str, Any]:
        """Activations by name, in forward order, channels last."""

    @abc.abstractmethod
    def moments(
        self, inputs: Inputs, *, batch_size: int, on_batch: Callable[[int], Any]
    ) -> dict[str, ImageMoments]:
        """What D, G and R of every layer are made of."""

    @abc.abstractmethod
    def only(self, layers: Layers) -> "Measurable":
        """The same network with some of its layers alone."""

    def prepared(self, images: np.ndarray) -> "Measurable":
        """What is learnt from a few images before all are measured."""
        return self

    def depths(self, names: Sequence[str]) -> list[int | None]:
        """k = 1..K of the layers that figures plot: here every one."""
        return list(range(1, len(names) + 1))

    def transformed(self, name: str, key: Key[Array, ""]) -> "Measurable":
        """The network after a transform.

        Args:
          name: of those that `parsed` returned.
          key: randomness of a shuffle.
        """
        return self

    def parsed(self, names: Sequence[str]) -> tuple[str, ...]:
        """Names of transforms, each once, as they are measured.

        Raises:
          ValueError: if there is no such transform.
        """
        for name in names:
            refuse_unknown(name, self.transforms, "a transform of this network")
        return tuple(dict.fromkeys(names))

    def record(self) -> dict[str, Any]:
        """What tells the network from others, as JSON takes it."""
        return {"network": self.label}


class JaxFunction(Measurable):
    """A function that JAX can trace."""

    def __init__(self, features: Features, layers: Layers = None, label: str | None = None):
        self.features, self.layers = features, layers
        self.label = label or name_of(features)

    @property
    def traced(self) -> Partial:
        """Images to a flat dict of arrays; networks of one shape share a compiled program."""
        features = self.features if isinstance(self.features, Partial) else _closed(self.features)
        return Partial(_flat(None if self.layers is None else tuple(self.layers)), features)

    def __call__(self, images: Any) -> dict[str, Any]:
        """Activations by name, in forward order."""
        with jax.default_matmul_precision("highest"):
            found = in_forward_order(self.traced, jnp.asarray(images))
        return dict(zip(found.names, found.activations, strict=True))

    def moments(
        self, inputs: Inputs, *, batch_size: int, on_batch: Callable[[int], Any]
    ) -> dict[str, ImageMoments]:
        """What D, G and R of every layer are made of."""
        return image_moments(self.traced, *inputs, batch_size=batch_size, on_batch=on_batch)

    def only(self, layers: Layers) -> "JaxFunction":
        """The same network with some of its layers alone."""
        return JaxFunction(self.features, layers, self.label)

    def parsed(self, names: Sequence[str]) -> tuple[str, ...]:
        """Names of transforms; raises ValueError for any but "none"."""
        _refuse_unknown_kernels(names)
        return super().parsed(names)


class HostFunction(Measurable):
    """A function from numpy images to arrays that numpy can read, which JAX cannot trace."""

    def __init__(self, function: Callable[[np.ndarray], Any], layers: Layers = None):
        self.function, self.layers = function, layers
        self.label = name_of(function)

    def __call__(self, images: Any) -> dict[str, Any]:
        """Activations by name, in the order in which the function names them."""
        found = flattened(self.function(np.asarray(images)))
        return {name: found[name] for name in chosen(found, self.layers)}

    def moments(
        self, inputs: Inputs, *, batch_size: int, on_batch: Callable[[int], Any]
    ) -> dict[str, ImageMoments]:
        """What D, G and R of every layer are made of."""
        return streamed_moments(self, *inputs, batch_size=batch_size, on_batch=on_batch)

    def only(self, layers: Layers) -> "HostFunction":
        """The same network with some of its layers alone."""
        return HostFunction(self.function, layers)

    def parsed(self, names: Sequence[str]) -> tuple[str, ...]:
        """Names of transforms; raises ValueError for any but "none"."""
        _refuse_unknown_kernels(names)
        return super().parsed(names)


def measurable(model: Any, images: np.ndarray, *, variables: Any, layers: Layers) -> Measurable:
    """A network of any kind.

    Args:
      model: a `Measurable`, a module of PyTorch, a linen module of Flax with `variables`, or a
        function from images to named activations in any framework.
      images: some images, of which functions are asked.
      variables: of a linen module.
      layers: names or patterns of the layers that are wanted; None: see `cnnpool.torch.features`
        and `cnnpool.flax.features`; all that a function names.

    Raises:
      TypeError: if the model is none of these.
    """
    if _is("flax.linen", "Module", model):
        from cnnpool.flax import features

        if variables is None:
            raise TypeError("a linen module has no parameters of its own; give variables=")
        return features(model, variables, layers)
    if variables is not None:
        raise TypeError(f"variables= are of a Flax linen module, not of {type(model).__name__}")
    if _is("torch.nn", "Module", model):
        from cnnpool.torch import features as of_torch

        return of_torch(model, layers)
    if isinstance(model, Measurable):
        return model if layers is None else model.only(layers)
    if not callable(model):
        raise TypeError(
            "expected a function from images to {layer: activations}, a module of PyTorch, or a "
            f"linen module with variables=, got {type(model).__name__}"
        )
    return _of_function(model, images, layers)


def _of_function(function: Any, images: np.ndarray, layers: Layers) -> Measurable:
    """As JAX traces it, or else as it runs on numpy images."""
    few = images[:2]
    traced = JaxFunction(function, layers)
    try:
        jax.eval_shape(traced.traced, jax.ShapeDtypeStruct(few.shape, few.dtype))
    except Exception as error:
        try:
            function(few)
        except Exception as other:
            # The error of a function that JAX traces, but for what comes of tracing another.
            true_one = other if "Trace" in f"{type(error).__name__} {error}" else error
            true_one.add_note(f"cnnpool: the function was given images of shape {few.shape}")
            raise true_one from None
        host = HostFunction(function, layers)
        host(few)
        return host
    return traced


def _is(module: str, name: str, model: Any) -> bool:
    """Whether a model is of a class of a library; one that nobody imported made no model."""
    library = sys.modules.get(module)
    return library is not None and isinstance(model, getattr(library, name))


def weights_checksum(variables: Any) -> str:
    """SHA-256 of all parameters of a tree, with their paths."""
    checksum = hashlib.sha256()
    for path, leaf in zip(paths(variables), jax.tree.leaves(variables), strict=True):
        values = np.ascontiguousarray(leaf)
        checksum.update(f"{path} {values.shape} {values.dtype}".encode())
        checksum.update(values.tobytes())
    return checksum.hexdigest()


def name_of(function: Any) -> str:
    """What a function or a class is called."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def _refuse_unknown_kernels(names: Sequence[str]) -> None:
    if others := [name for name in names if name != NONE]:
        raise ValueError(
            f"transform {others[0]!r}: which parameters of a plain function are kernels is not "
            "known; measure cnnpool.torch.features(module), a network of cnnpool.open, or "
            "cnnpool.flax.features(module, variables); or shuffle its parameters with "
            "cnnpool.shuffle_channels, and measure both functions"
        )


def _closed(features: Features) -> Partial:
    """As JAX takes it into a compiled program: a static function, however it is compared."""
    return Partial(_Called(features))


class _Called:
    """A function that is equal to itself alone; modules of Equinox have no hash."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, images: Array) -> Any:
        return self.function(images)


@functools.lru_cache(maxsize=64)
def _flat(layers: tuple[str, ...] | None) -> Callable[[Features, Array], dict[str, Any]]:
    """The same object for the same layers, so that JAX compiles once for networks of one shape."""

    def flat(features: Features, images: Array) -> dict[str, Any]:
        found: Mapping[str, Any] = flattened(features(images))
        return {name: found[name] for name in chosen(list(found), layers)}

    return flat
