"""Which kind of network a user has given: a module of a library, or a function."""

from collections.abc import Callable
import importlib
import os
import sys
from typing import Any

import jax
import numpy as np

from cnnpool.library.activations import Layers
from cnnpool.library.measurable import HostFunction, JaxFunction, Measurable

_LIBRARIES = (
    ("keras", "Model", "keras"),
    ("torch.nn", "Module", "torch"),
    ("flax.nnx", "Module", "flax"),
    ("equinox", "Module", "equinox"),
    ("onnx", "ModelProto", "onnx"),
    ("onnxruntime", "InferenceSession", "onnx"),
)


def measurable(model: Any, images: np.ndarray, *, variables: Any, layers: Layers) -> Measurable:
    """A network of any kind.

    Args:
      model: a `Measurable`, a module of PyTorch, Keras, Equinox or Flax NNX, a file of ONNX, a
        linen module of Flax with `variables`, or a function from images to named activations in
        any framework.
      images: some images, of which functions are asked.
      variables: of a linen module.
      layers: names or patterns of the layers that are wanted; None: see `features` in
        `cnnpool.torch` and its like; all that a function names.

    Raises:
      TypeError: if the model is none of these.
    """
    if _is("flax.linen", "Module", model):
        from cnnpool import flax

        return flax.features(model, variables, layers)
    if variables is not None:
        raise TypeError(f"variables= are of a Flax linen module, not of {type(model).__name__}")
    if isinstance(model, Measurable):
        return model if layers is None else model.only(layers)
    features = _features_of(model)
    if features is not None and not _names_itself(model, images):
        return features(model, layers=layers)
    if not callable(model):
        raise TypeError(
            "expected a function from images to {layer: activations}, a module of PyTorch, Keras, "
            "Equinox or Flax NNX, a file of ONNX, or a linen module with variables=, got "
            f"{type(model).__name__}"
        )
    return _of_function(model, images, layers)


def _features_of(model: Any) -> Callable[..., Measurable] | None:
    """The function that names the layers of a model of a library; of no library None."""
    # On PyTorch a model of Keras is one of PyTorch too.
    for library, name, ours in _LIBRARIES:
        if _is(library, name, model):
            return importlib.import_module(f"cnnpool.{ours}").features
    if isinstance(model, str | os.PathLike):
        if not os.fspath(model).endswith(".onnx"):
            raise TypeError(f"expected a network, or a file of one, NAME.onnx, got {model!r}")
        return importlib.import_module("cnnpool.onnx").features
    return None


def _names_itself(model: Any, images: np.ndarray) -> bool:
    """Whether a module on JAX takes a batch of images and returns named activations of each."""
    if not (_is("flax.nnx", "Module", model) or _is("equinox", "Module", model)):
        return False
    few = images[:2]
    try:
        found = jax.eval_shape(
            JaxFunction(model).traced, jax.ShapeDtypeStruct(few.shape, few.dtype)
        )
    except Exception:
        return False
    return all(f.ndim > 0 and len(f) == len(few) for f in found.values())


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
