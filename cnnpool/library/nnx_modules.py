"""Modules of Flax NNX, split into an architecture and its state."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
from jax import Array
import numpy as np

from cnnpool.library import tags
from cnnpool.library.channel_shuffles import Kernel
from cnnpool.library.jax_modules import check_not_empty, is_stacked

_WEIGHED = (nnx.Conv, nnx.ConvTranspose, nnx.Linear, nnx.LinearGeneral, nnx.Einsum)
Arguments = tuple[tuple[str, Any], ...]


def split(module: nnx.Module, arguments: Arguments) -> tuple["Nnx", Any]:
    """The architecture of a copy of a module in inference mode, and its state."""
    copy = nnx.clone(module)
    copy.eval()
    graph, state = nnx.split(copy)
    return Nnx(type(module).__name__, graph, arguments), state


class Nnx(NamedTuple):
    """A module without its state, and the arguments of its call."""

    label: str
    graph: Any
    arguments: Arguments

    def outputs(self, *, every: bool) -> Callable[[Any, Array], dict[str, Any]]:
        """Outputs of modules as a function of (state, images)."""
        return _outputs(self.graph, self.arguments, every)

    def kernels(self, state: Any, images: np.ndarray) -> list[Kernel]:
        """The kernels of convolutions, in the order in which they run, then those in scans."""
        shape = jax.ShapeDtypeStruct(images.shape, images.dtype)
        modules = {_path(path): one for path, one in nnx.iter_modules(nnx.merge(self.graph, state))}
        convolutions = {
            path: one
            for path, one in modules.items()
            if isinstance(one, nnx.Conv | nnx.ConvTranspose)
        }
        ran: dict[str, None] = {}

        def run(state: Any, images: Array) -> None:
            found = _outputs(self.graph, self.arguments, True)(state, images)
            ran.update(dict.fromkeys(name.partition(":")[0] for name in found))

        jax.eval_shape(run, state, shape)
        stacked = [path for path, one in convolutions.items() if _is_stacked(one)]
        paths = [path for path in dict.fromkeys([*ran, *stacked]) if path in convolutions]
        return [_kernel(f"{path}/kernel/value", convolutions[path]) for path in paths]


def _is_stacked(module: Any) -> bool:
    return is_stacked(module.kernel.shape, module.kernel_size)


def _kernel(path: str, module: Any) -> Kernel:
    if _is_stacked(module):
        return Kernel(path, None, None)
    if isinstance(module, nnx.ConvTranspose):
        inputs, outputs = (-1, -2) if module.transpose_kernel else (-2, -1)
        return Kernel(path, inputs, outputs)
    depthwise = module.feature_group_count > 1 and module.kernel.shape[-2] == 1
    return Kernel(path, -2, -1, depthwise)


def _path(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path))


@functools.lru_cache(maxsize=64)
def _outputs(
    graph: Any, arguments: Arguments, every: bool
) -> Callable[[Any, Array], dict[str, Any]]:
    """Outputs of modules as a function of (state, images); the same object for the same."""

    def run(state: Any, images: Array) -> None:
        module = nnx.merge(graph, state)
        for path, one in list(nnx.iter_modules(module)):
            if path and callable(one) and (every or isinstance(one, _WEIGHED)):
                one.__class__ = _named(type(one), _path(path))
        module(images, **dict(arguments))

    def outputs(state: Any, images: Array) -> dict[str, Any]:
        found = tags.collected(run)(state, images)
        check_not_empty(found, "Flax")
        return found

    return outputs


@functools.lru_cache(maxsize=4096)
def _named(kind: type, name: str) -> type:
    """The same class, whose outputs have a name; as a class it survives `nnx.split`."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return tags.tagged(name, kind.__call__(self, *args, **kwargs))

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
