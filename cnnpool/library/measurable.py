"""Networks of any kind as what is measured: images to named activations, and transforms of them."""

import abc
from collections.abc import Callable, Mapping, Sequence
import functools
import hashlib
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jax.tree_util import Partial
import numpy as np

from cnnpool.errors import check_known
from cnnpool.instruments.activations import Features, in_forward_order
from cnnpool.instruments.channels import paths
from cnnpool.instruments.moments import ImageMoments, image_moments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.instruments.streamed_moments import streamed_moments
from cnnpool.library.activations import Layers, chosen, flattened
from cnnpool.shapes import Key

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
            check_known(name, self.transforms, "a transform of this network")
        return tuple(dict.fromkeys(names))

    def record(self) -> dict[str, Any]:
        """What identifies the network, as values that JSON can hold."""
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
        _check_kernel_names(names)
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
        _check_kernel_names(names)
        return super().parsed(names)


def weights_checksum(variables: Any) -> str:
    """SHA-256 of all parameters of a tree, with their paths."""
    checksum = hashlib.sha256()
    for path, leaf in zip(paths(variables), jax.tree.leaves(variables), strict=True):
        is_key = isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        values = np.ascontiguousarray(jax.random.key_data(leaf) if is_key else leaf)
        checksum.update(f"{path} {values.shape} {values.dtype}".encode())
        checksum.update(values.tobytes())
    return checksum.hexdigest()


def name_of(function: Any) -> str:
    """What a function or a class is called."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def _check_kernel_names(names: Sequence[str]) -> None:
    if others := [name for name in names if name != NONE]:
        raise ValueError(
            f"transform {others[0]!r}: which parameters of a plain function are kernels is not "
            "known; measure cnnpool.torch.features(module), a network of cnnpool.open, or "
            "cnnpool.flax.features(module, variables); or shuffle its parameters with "
            "cnnpool.shuffle_channels, and measure both functions"
        )


def _closed(features: Features) -> Partial:
    """As JAX takes it into a compiled program: a static function, however it is compared."""
    return Partial(SameOnly(features))


class SameOnly:
    """A function that is equal to itself alone; modules of Equinox have no hash."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, *args: Any) -> Any:
        """What the function returns."""
        return self.function(*args)


@functools.lru_cache(maxsize=64)
def _flat(layers: tuple[str, ...] | None) -> Callable[[Features, Array], dict[str, Any]]:
    """The same object for the same layers, so that JAX compiles once for networks of one shape."""

    def flat(features: Features, images: Array) -> dict[str, Any]:
        found: Mapping[str, Any] = flattened(features(images))
        return {name: found[name] for name in chosen(list(found), layers)}

    return flat
