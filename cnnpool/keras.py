"""Measures Keras 3 models: `cnnpool.keras.features(model)`.

This is the only file of the package that imports Keras, whose backend is set beforehand by the
environment variable KERAS_BACKEND. With JAX, a model is compiled; with other backends, Keras runs
it batch by batch.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import functools
import sys
import threading
from typing import Any

import jax
from jax import Array
import keras
from keras import layers as kinds
import numpy as np

from cnnpool.instruments.moments import ImageMoments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.instruments.streamed_moments import streamed_moments
from cnnpool.library import tags
from cnnpool.library.activations import Layers, chosen, flattened
from cnnpool.library.channel_shuffles import BOTH, SHUFFLE, WITH_IMAGE, Kernel, shuffled
from cnnpool.library.jax_modules import JaxModule, check_not_empty
from cnnpool.library.measurable import NONE, Measurable, weights_checksum
from cnnpool.shapes import Key

_TRANSPOSED = (kinds.Conv1DTranspose, kinds.Conv2DTranspose, kinds.Conv3DTranspose)
_SEPARABLE = (kinds.SeparableConv1D, kinds.SeparableConv2D)
_DEPTHWISE = (kinds.DepthwiseConv1D, kinds.DepthwiseConv2D)
_PLAIN = (kinds.Conv1D, kinds.Conv2D, kinds.Conv3D)
_CONVOLUTIONS = (*_PLAIN, *_DEPTHWISE, *_SEPARABLE, *_TRANSPOSED)
_WEIGHED = (*_CONVOLUTIONS, kinds.Dense, kinds.EinsumDense)
_PATCHING = threading.RLock()
Watch = Callable[[str, Any, Any], Any]  # (name, layer, output) -> output


def features(model: keras.Model, layers: Layers = None) -> Measurable:
    """Converts a Keras model to a function from images to named activations.

    Images are passed to the model channels last or first, according to its data_format; activations
    are returned channels last. The model runs in inference mode (training=False) and is not
    changed.

    Args:
      model: a Sequential, functional or subclassed model that takes one batch of images.
      layers: names of layers ("block/conv" for layers of models inside the model), or patterns;
        None: the outputs of all convolutions and dense layers, after the activation function that
        they include. A layer that is called several times has one name per call: "act", "act:2".

    Raises:
      ValueError: if the model has no weights yet.
      TypeError: if `model` is not a Keras model.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a keras.Model, got {type(model).__name__}")
    if not model.built:
        raise ValueError(
            "the model has no weights yet; Keras creates them when it is first called: "
            "model(images[:1])"
        )
    architecture = Architecture(model)
    variables = {path: one.value for path, one in architecture.variables.items()}
    if keras.backend.backend() == "jax":
        return JaxModule(architecture, variables, layers)
    return Features(architecture, layers)


@dataclasses.dataclass(frozen=True, eq=False)
class Architecture:
    """A model that can be run with other values of its variables."""

    model: keras.Model
    compiled: dict[bool, Callable] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """The model's name."""
        return self.model.name

    @functools.cached_property
    def variables(self) -> dict[str, keras.Variable]:
        """The variables by path; variables with the same path are numbered."""
        paths = [one.path for one in self.model.variables]
        same = [paths[:place].count(path) for place, path in enumerate(paths)]
        names = [f"{path}:{n + 1}" if n else path for path, n in zip(paths, same, strict=True)]
        return dict(zip(names, self.model.variables, strict=True))

    def outputs(self, *, every: bool) -> Callable[[Any, Array], dict[str, Any]]:
        """A function (variables, images) -> outputs of layers, {name: output, channels last}."""
        return self.compiled.setdefault(every, functools.partial(self._traced, every))

    def _traced(self, every: bool, variables: Any, images: Array) -> dict[str, Any]:
        def watch(name: str, layer: Any, output: Any) -> Any:
            if not (every or isinstance(layer, _WEIGHED)):
                return output
            if not self.is_channels_first(layer):
                return tags.tagged(name, output)
            named = tags.tagged(name, jax.tree.map(_channels_last, output))
            return jax.tree.map(_channels_first, named)

        found = tags.collected(functools.partial(self.run, watch))(variables, images)
        check_not_empty(found, "Keras")
        return found

    def run(self, watch: Watch, variables: dict[str, Any], images: Any) -> None:
        """Runs the model on images (n, rows, columns, channels) with other values of variables."""
        if self._data_format == "channels_first":
            images = _channels_first(images)
        self._check_size(tuple(images.shape[1:]))
        mapping = [(self.variables[path], value) for path, value in variables.items()]
        with keras.StatelessScope(state_mapping=mapping), _watched(self.model, watch):
            self.model(images, training=False)

    def kernels(self, variables: Any, images: np.ndarray) -> list[Kernel]:
        """The kernels of convolutions, in the order of their calls."""
        ran: dict[int, Any] = {}

        def watch(_name: str, layer: Any, output: Any) -> Any:
            if isinstance(layer, _CONVOLUTIONS):
                ran[id(layer)] = layer
            return output

        run = functools.partial(self.run, watch)
        if keras.backend.backend() == "jax":
            jax.eval_shape(run, variables, jax.ShapeDtypeStruct(images.shape, images.dtype))
        else:
            _without_gradients(run)({}, keras.ops.convert_to_tensor(images))
        paths = {id(one): path for path, one in self.variables.items()}
        return [kernel for layer in ran.values() for kernel in _kernels(layer, paths)]

    def is_channels_first(self, layer: Any) -> bool:
        """Whether a layer's outputs are channels first, by its data_format or else the model's."""
        return getattr(layer, "data_format", self._data_format) == "channels_first"

    @functools.cached_property
    def _data_format(self) -> str:
        """The data_format of the first layer that has one, else Keras's default."""
        formats = (getattr(one, "data_format", None) for one in self.model._flatten_layers())
        return next((one for one in formats if one), keras.config.image_data_format())

    def _check_size(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError if images do not have the model's input shape."""
        expected = getattr(self.model, "input_shape", None)
        if not isinstance(expected, tuple) or len(expected) != 4:
            return  # subclassed models raise their own errors
        if any(e not in (None, got) for e, got in zip(expected[1:], shape, strict=True)):
            first = self._data_format == "channels_first"
            axes = "channels, rows, columns" if first else "rows, columns, channels"
            raise ValueError(
                f"the model takes images of shape {expected[1:]} ({axes}), got {shape}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Features(Measurable):
    """A model that Keras runs on a backend other than JAX; see `features`.

    Attributes:
      architecture: the model.
      layers: names of the layers to measure, or patterns; None: convolutions and dense layers.
      changed: values that replace those of the model's variables, by path.
      kernels: the kernels of its convolutions; set by `prepared`.
    """

    architecture: Architecture
    layers: Layers = None
    changed: dict[str, Any] = dataclasses.field(default_factory=dict)
    kernels: tuple[Kernel, ...] = ()
    transforms = (NONE, SHUFFLE, WITH_IMAGE, BOTH)

    @property
    def label(self) -> str:  # type: ignore
        """The model's name."""
        return self.architecture.label

    def __call__(self, images: Any) -> dict[str, np.ndarray]:
        """Activations by name, channels last."""
        found: dict[str, np.ndarray] = {}
        calls: dict[str, int] = {}

        def watch(name: str, layer: Any, output: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            called = name if calls[name] == 1 else f"{name}:{calls[name]}"
            if self.layers is not None or isinstance(layer, _WEIGHED):
                for path, value in flattened({called: output}).items():
                    array = _numpy(value)
                    if np.issubdtype(array.dtype, np.floating):
                        moved = array.ndim > 3 and self.architecture.is_channels_first(layer)
                        found[path] = np.moveaxis(array, 1, -1) if moved else array
            return output

        run = functools.partial(self.architecture.run, watch)
        _without_gradients(run)(self.changed, keras.ops.convert_to_tensor(np.asarray(images)))
        check_not_empty(found, "Keras")
        return {name: found[name] for name in chosen(found, self.layers)}

    def moments(
        self, inputs: Inputs, *, batch_size: int, on_batch: Callable[[int], Any]
    ) -> dict[str, ImageMoments]:
        """The image moments of every layer, from which D, G and R are computed."""
        return streamed_moments(self, *inputs, batch_size=batch_size, on_batch=on_batch)

    def only(self, layers: Layers) -> "Features":
        """The same network, restricted to some of its layers."""
        return dataclasses.replace(self, layers=layers)

    def prepared(self, images: np.ndarray) -> "Features":
        """The same network with `kernels` set, in the order found by running it once."""
        return dataclasses.replace(self, kernels=tuple(self.architecture.kernels({}, images)))

    def transformed(self, name: str, key: Key[Array, ""]) -> "Features":
        """The network with shuffled channels."""
        if name == NONE:
            return self
        values = self._values([kernel.path for kernel in self.kernels])
        found = shuffled(values, self.kernels, name, key, label=self.label)
        changed = {path: keras.ops.convert_to_tensor(np.array(v)) for path, v in found.items()}
        return dataclasses.replace(self, changed=self.changed | changed)

    def _values(self, paths: Sequence[str]) -> dict[str, np.ndarray]:
        return {path: _numpy(self.architecture.variables[path].value) for path in paths}

    def record(self) -> dict[str, Any]:
        """The model's name, the backend, and a checksum of its weights."""
        checksum = weights_checksum(self._values(list(self.architecture.variables)))
        backend = keras.backend.backend()
        return {"network": self.label, "keras_backend": backend, "weights_sha256": checksum}


def _kernels(layer: Any, paths: dict[int, str]) -> Iterator[Kernel]:
    """The kernels of a convolution; depthwise ones are (..., channels, filters per channel)."""
    names = (
        ("depthwise_kernel", "pointwise_kernel") if isinstance(layer, _SEPARABLE) else ("kernel",)
    )
    for name in names:
        path = paths.get(id(getattr(layer, name)))
        if path is None:  # not a variable, as with LoRA
            yield Kernel(f"{layer.path}/{name}", None, None)
        elif isinstance(layer, _TRANSPOSED):
            yield Kernel(path, -1, -2)
        else:
            yield Kernel(path, -2, -1)


@contextlib.contextmanager
def _watched(model: keras.Model, watch: Watch) -> Iterator[None]:
    """Passes the output of every layer inside a model to `watch`, within the context.

    Keras has no hooks, so that `Layer.__call__` of all layers is replaced in the meantime.
    """
    original = keras.layers.Layer.__call__
    inside: list[str] = []

    @functools.wraps(original)
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer is model:
            return original(layer, *args, **kwargs)
        inside.append(layer.name)
        name = "/".join(inside)
        try:
            output = original(layer, *args, **kwargs)
        finally:
            inside.pop()
        return watch(name, layer, output)

    with _PATCHING:
        keras.layers.Layer.__call__ = call
        try:
            yield
        finally:
            keras.layers.Layer.__call__ = original


def _channels_last(output: Any) -> Any:
    return keras.ops.moveaxis(output, 1, -1) if output.ndim > 3 else output


def _channels_first(output: Any) -> Any:
    return keras.ops.moveaxis(output, -1, 1) if output.ndim > 3 else output


def _without_gradients(run: Callable[..., Any]) -> Callable[..., Any]:
    if keras.backend.backend() != "torch":
        return run
    return sys.modules["torch"].no_grad()(run)


def _numpy(value: Any) -> np.ndarray:
    """A tensor as a NumPy array; not by Keras for PyTorch, where it causes warnings of numpy 2."""
    if keras.backend.backend() == "torch":
        value = value.detach()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).cpu().numpy()
    return keras.ops.convert_to_numpy(value)
