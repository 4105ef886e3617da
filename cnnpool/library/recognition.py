"""Which kind of network a user has given: a module of a library, or a function."""

import sys
from typing import Any

import jax
import numpy as np

from cnnpool.library.activations import Layers
from cnnpool.library.measurable import HostFunction, JaxFunction, Measurable


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
