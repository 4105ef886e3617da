"""What a function of images returns: named activations, their order, and checks of them."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["gain", "offset"], meta_fields=["of"]
)
@dataclasses.dataclass(frozen=True)
class Rescaled:
    """Activations gain * f + offset, channel by channel, where f is another unit's activations.

    Batch normalization in inference mode is an example. Its moments follow from the sums that f
    needs anyway, so it need not be computed.

    Attributes:
      of: name of the unit f, whose last axis is its channels.
      gain: (channels,).
      offset: (channels,).
    """

    of: str
    gain: Any
    offset: Any


Features = Callable[[Array], dict[str, Any]]  # of arrays and `Rescaled`


def computed(activations: Mapping[str, Any]) -> dict[str, Array]:
    """All activations as arrays, including the `Rescaled` ones."""

    def one(f: Any) -> Array:
        if not isinstance(f, Rescaled):
            return f
        channels = (1,) * (activations[f.of].ndim - 1) + (-1,)
        return activations[f.of] * f.gain.reshape(channels) + f.offset.reshape(channels)

    return {name: one(f) for name, f in activations.items()}


def units_of(activations: Mapping[str, Any]) -> dict[str, list[str]]:
    """The computed layers by name, each with its units: itself and those rescaled from it."""
    units = {name: [name] for name, f in activations.items() if not isinstance(f, Rescaled)}
    for name, f in activations.items():
        if isinstance(f, Rescaled):
            units[f.of].append(name)
    return units


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["activations"], meta_fields=["names"]
)
@dataclasses.dataclass
class InForwardOrder:
    """Activations returned by a traced function; JAX would sort a dict by its keys."""

    names: tuple[str, ...]
    activations: Any


@jax.jit  # traces a function once for all networks of one shape
def in_forward_order(features: Features, images: Array) -> InForwardOrder:
    """A function's activations in the order named, compiled; plain jit would sort its dict."""
    found = features(images)
    if not isinstance(found, Mapping) or not found:
        raise TypeError(
            "expected a function from images to a dict of named activations, got one that returns "
            f"{type(found).__name__}"
        )
    return InForwardOrder(tuple(found), tuple(found.values()))


def activation_shapes(features: Features, clean: Any, copies: int) -> dict[str, Any]:
    """Shapes of the activations of one image and its copies, or `Rescaled`, in the order named.

    Raises:
      TypeError: if they are not what `features` must return.
    """
    several = jax.ShapeDtypeStruct((copies, *clean.shape[1:]), clean.dtype)
    found = jax.eval_shape(in_forward_order, features, several)
    activations = dict(zip(found.names, found.activations, strict=True))
    check_activations(activations, copies)
    return activations


def check_activations(activations: Mapping[str, Any], copies: int) -> None:
    """Raises TypeError if activations do not have the shapes that a function must return.

    Args:
      activations: shapes of arrays, or `Rescaled` activations, by name.
      copies: number of images that they belong to.
    """
    for name, f in activations.items():
        if isinstance(f, Rescaled):
            _check_rescaled(name, f, activations)
            continue
        if not isinstance(f, jax.ShapeDtypeStruct):
            raise TypeError(
                f"activations {name!r}: expected one array, got {type(f).__name__}; give each "
                "array a name of its own"
            )
        if f.ndim < 1 or len(f) != copies or not jnp.issubdtype(f.dtype, jnp.floating):
            raise TypeError(
                f"activations {name!r}: expected floats of shape (images, ...), one row per image; "
                f"of {copies} images they are {f.dtype} of shape {f.shape}"
            )


def _check_rescaled(name: str, f: Rescaled, activations: Mapping[str, Any]) -> None:
    source: Any = activations.get(f.of)
    is_array = isinstance(source, jax.ShapeDtypeStruct) and len(source.shape) > 1
    channels = source.shape[-1:] if is_array else None
    if not f.gain.shape == f.offset.shape == channels:
        raise TypeError(
            f"activations {name!r}: expected gain and offset for every channel of an array among "
            f"the activations, got shapes {f.gain.shape} and {f.offset.shape} for {f.of!r}, "
            f"{'which is none' if channels is None else f'of {channels[0]} channels'}"
        )
