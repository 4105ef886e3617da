"""Measures Equinox modules: `cnnpool.equinox.features(module)`.

This is the only file of the package that imports Equinox.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
import inspect
from typing import Any

import equinox
import jax
from jax import Array
import numpy as np

from cnnpool.library import tags
from cnnpool.library.activations import Layers
from cnnpool.library.channel_shuffles import Kernel
from cnnpool.library.jax_modules import JaxModule, check_not_empty, is_stacked

_CONVOLUTIONS = (equinox.nn.Conv, equinox.nn.ConvTranspose)
_WEIGHED = (*_CONVOLUTIONS, equinox.nn.Linear)


def features(
    module: equinox.Module, layers: Layers = None, *, state: Any = None, **arguments: Any
) -> JaxModule:
    """Converts an Equinox module to a function from images to named activations.

    The module takes one image (channels, rows, columns), as is usual in Equinox, and is mapped over
    images by `jax.vmap`, in inference mode (`equinox.nn.inference_mode`). Activations are returned
    channels last.

    Args:
      module: any module that takes one image.
      layers: paths of modules, or patterns such as "layers/*"; None: the outputs of all
        convolutions and linear layers, before their activation functions. A module that is called
        several times has one name per call: "act", "act:2".
      state: the `equinox.nn.State` of a module with batch normalization, which is called as
        module(x, state).
      **arguments: arguments of its call; a required `key` is set to None.

    Raises:
      TypeError: if `module` is not an Equinox module.
    """
    if not isinstance(module, equinox.Module):
        raise TypeError(f"expected an equinox.Module, got {type(module).__name__}")
    known = inspect.signature(type(module).__call__).parameters
    key = known.get("key")
    if key is not None and key.default is key.empty:
        arguments = {"key": None} | arguments
    model = equinox.nn.inference_mode(module)
    arrays, static = equinox.partition(model if state is None else (model, state), equinox.is_array)
    return JaxModule(Equinox(type(module).__name__, static, arguments), arrays, layers)


@dataclasses.dataclass(frozen=True, eq=False)
class Equinox:
    """A module (perhaps with its state) without its arrays, and the arguments of its call."""

    label: str
    static: Any
    arguments: dict[str, Any]
    compiled: dict[bool, Callable] = dataclasses.field(default_factory=dict)

    def outputs(self, *, every: bool) -> Callable[[Any, Array], dict[str, Any]]:
        """A function (arrays, images) -> outputs of modules, {path: output}."""
        return self.compiled.setdefault(every, functools.partial(self._found, every))

    def kernels(self, arrays: Any, images: np.ndarray) -> Sequence[Kernel]:
        """The kernels of convolutions, in the order of their calls, then those in scans."""
        module, state = self._whole(arrays)
        convolutions = {name: one for name, one in _modules(module) if _is_convolution(one)}
        found: dict[str, None] = {}

        def run(arrays: Any, images: Array) -> None:
            found.update(dict.fromkeys(self._found(True, arrays, images)))

        jax.eval_shape(run, arrays, jax.ShapeDtypeStruct(images.shape, images.dtype))
        ran = [name.partition(":")[0] for name in found]
        stacked = [name for name, one in convolutions.items() if _is_stacked(one)]
        names = [name for name in dict.fromkeys([*ran, *stacked]) if name in convolutions]
        prefix = "" if state is None else "0/"
        return [_kernel(f"{prefix}{name}/weight", convolutions[name]) for name in names]

    def _whole(self, arrays: Any) -> tuple[equinox.Module, Any]:
        whole = equinox.combine(arrays, self.static)
        return whole if isinstance(whole, tuple) else (whole, None)

    def _found(self, every: bool, arrays: Any, images: Array) -> dict[str, Any]:
        """Outputs of modules, channels last."""
        module, state = self._whole(arrays)
        named = _with_names(module, equinox.Module if every else _WEIGHED)

        def one(image: Array) -> None:
            named(image, *(() if state is None else (state,)), **self.arguments)

        def run(images: Array) -> None:
            jax.vmap(one, axis_name="batch")(images)

        found = tags.collected(run)(images.transpose(0, 3, 1, 2))
        check_not_empty(found, "Equinox")
        return {n: jax.numpy.moveaxis(f, 1, -1) if f.ndim > 3 else f for n, f in found.items()}


def _is_convolution(module: equinox.Module) -> bool:
    return isinstance(module, _CONVOLUTIONS)


def _is_stacked(module: Any) -> bool:
    return is_stacked(module.weight.shape, module.kernel_size)


def _kernel(path: str, module: Any) -> Kernel:
    """Kernels are (outputs, inputs / groups, ...), also for transposed convolutions."""
    if _is_stacked(module):
        return Kernel(path, None, None)
    return Kernel(path, 1, 0, depthwise=module.groups > 1 and module.weight.shape[1] == 1)


def _modules(module: Any, prefix: str = "") -> Iterator[tuple[str, equinox.Module]]:
    """The modules inside a module, by path."""
    for path, child in _children(module):
        if isinstance(child, equinox.Module):
            name = prefix + path
            yield name, child
            yield from _modules(child, f"{name}/")


def _children(module: Any) -> list[tuple[str, Any]]:
    def is_child(node: Any) -> bool:
        return node is not module and isinstance(node, equinox.Module)

    found, _ = jax.tree_util.tree_flatten_with_path(module, is_leaf=is_child)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), one) for path, one in found]


def _with_names(module: Any, kinds: Any, name: str = "") -> Any:
    """A copy of a module in which submodules of the given kinds tag their outputs with names."""

    def is_child(node: Any) -> bool:
        return node is not module and isinstance(node, equinox.Module)

    def renamed(path: Any, child: Any) -> Any:
        below = jax.tree_util.keystr(path, simple=True, separator="/")
        whole = f"{name}/{below}" if name else below
        return _with_names(child, kinds, whole) if is_child(child) else child

    rebuilt = jax.tree_util.tree_map_with_path(renamed, module, is_leaf=is_child)
    if not (name and callable(module) and isinstance(module, kinds)):
        return rebuilt
    named: Any = _named
    twin: Any = object.__new__(named(type(module), name))
    for field in dataclasses.fields(module):
        if hasattr(rebuilt, field.name):
            object.__setattr__(twin, field.name, getattr(rebuilt, field.name))
    return twin


@functools.lru_cache(maxsize=4096)
def _named(kind: type, name: str) -> type:
    """A subclass that tags its outputs with a name; cached, since `jax.jit` compares classes."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = kind.__call__(self, *args, **kwargs)
        if isinstance(output, tuple) and isinstance(output[-1], equinox.nn.State):
            return tags.tagged(name, output[0]), output[-1]
        return tags.tagged(name, output)

    return type(kind)(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
