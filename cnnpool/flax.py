"""Measures Flax modules: `cnnpool.flax.features(module, variables)`."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import inspect
from typing import Any, NamedTuple

from flax import linen, nnx
import jax
from jax import Array
import numpy as np

from cnnpool.instruments.channels import paths
from cnnpool.library import nnx_modules, tags
from cnnpool.library.activations import Layers
from cnnpool.library.channel_shuffles import Kernel
from cnnpool.library.jax_modules import JaxModule, check_not_empty, is_stacked
from cnnpool.library.measurable import SameOnly

_INFERENCE = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
}
_CONVOLUTIONS = (linen.Conv, linen.ConvLocal, linen.ConvTranspose)
_WEIGHED = (*_CONVOLUTIONS, linen.Dense, linen.DenseGeneral)


def features(
    module: linen.Module | nnx.Module,
    variables: Mapping[str, Any] | None = None,
    layers: Layers = None,
    **arguments: Any,
) -> JaxModule:
    """Converts a Flax module to a function from images to named activations.

    Args:
      module: a linen or NNX module that takes images (n, rows, columns, channels).
      variables: the parameters and other collections, such as batch_stats, of a linen module; None
        for an NNX module, which contains its own.
      layers: paths of modules, or patterns such as "block1/*"; None: the outputs of all
        convolutions and dense layers, before their activation functions. A module that is called
        several times has one name per call: "act", "act:2".
      **arguments: arguments of its call. `train`, `training`, `is_training`, `deterministic` and
        `use_running_average` are set for inference if the call has them; an NNX module is
        copied, and `eval()` is called on the copy.

    Raises:
      TypeError: if `module` is not a Flax module, its call needs an argument that is not given, a
        linen module has no variables, or an NNX module is given variables.
    """
    if not isinstance(module, linen.Module | nnx.Module):
        raise TypeError(f"expected a Flax module, linen or NNX, got {type(module).__name__}")
    known = inspect.signature(type(module).__call__).parameters
    arguments = {name: value for name, value in _INFERENCE.items() if name in known} | arguments
    _check_given(list(known.values())[2:], arguments)
    given = tuple(sorted(arguments.items()))
    if isinstance(module, nnx.Module):
        if variables is not None:
            raise TypeError("expected variables=None for an NNX module, which has its own")
        architecture, state = nnx_modules.split(module, given)
        return JaxModule(architecture, state, layers)
    if variables is None:
        raise TypeError("expected variables= for a linen module, which has no parameters itself")
    return JaxModule(Linen(type(module).__name__, _call(module, given)), variables, layers)


def _check_given(parameters: Sequence[inspect.Parameter], arguments: Mapping[str, Any]) -> None:
    """Refuses a call that lacks one of the parameters after the images."""
    for one in parameters:
        optional = one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) or one.default is not one.empty
        if not optional and one.name not in arguments:
            raise TypeError(
                f"the module's call needs {one.name}: give it its value for inference, "
                f"cnnpool.flax.features(module, variables, {one.name}=...). Known without being "
                f"given: {', '.join(_INFERENCE)}"
            )


class Linen(NamedTuple):
    """A linen module in inference mode: its name, and a function of (variables, images)."""

    label: str
    call: Callable[[Any, Array], Any]

    def outputs(self, *, every: bool) -> Callable[[Any, Array], dict[str, Any]]:
        """A function (variables, images) -> outputs of modules, {path: output}."""
        return _recorded(self.call, every)

    def kernels(self, variables: Any, images: np.ndarray) -> list[Kernel]:
        """The kernels of convolutions, in the order of their calls."""
        convolutions: list[linen.Module] = []

        def run(variables: Any, images: Array) -> None:
            with linen.intercept_methods(functools.partial(_note, convolutions)):
                self.call(variables, images)

        jax.eval_shape(run, variables, jax.ShapeDtypeStruct(images.shape, images.dtype))
        shapes = dict(zip(paths(variables), map(np.shape, jax.tree.leaves(variables)), strict=True))
        kernels = {f"params/{_path(one)}/kernel": one for one in convolutions}
        return [_kernel(path, kernels[path], shapes[path]) for path in kernels if path in shapes]


def _kernel(path: str, module: Any, shape: tuple[int, ...]) -> Kernel:
    """The axes of a kernel; unknown for `ConvLocal`, whose input axis includes its window."""
    window = module.kernel_size
    if isinstance(module, linen.ConvLocal) or is_stacked(shape, window):
        return Kernel(path, None, None)
    if isinstance(module, linen.ConvTranspose):
        inputs, outputs = (-1, -2) if module.transpose_kernel else (-2, -1)
        return Kernel(path, inputs, outputs)
    return Kernel(path, -2, -1, depthwise=shape[-2] == 1 and module.feature_group_count > 1)


def _path(module: linen.Module) -> str:
    return "/".join(module.path)


def _note(found: list[linen.Module], call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
    if isinstance(context.module, _CONVOLUTIONS) and context.method_name == "__call__":
        found.append(context.module)
    return call(*args, **kwargs)


@dataclasses.dataclass(frozen=True)
class _Call:
    """`module.apply`; equal for equal modules, so that JAX compiles them once."""

    module: linen.Module
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, variables: Any, images: Array) -> Any:
        return self.module.apply(variables, images, **dict(self.arguments))


def _call(module: linen.Module, arguments: tuple[tuple[str, Any], ...]) -> Callable:
    """A hashable function; modules with lists, such as `linen.Sequential`, have no hash."""
    call = _Call(module, arguments)
    try:
        hash(call)
    except TypeError:
        return SameOnly(call)
    return call


@functools.lru_cache(maxsize=64)
def _recorded(
    call: Callable[[Any, Array], Any], every: bool
) -> Callable[[Any, Array], dict[str, Any]]:
    """A function (variables, images) -> outputs of modules, cached so that JAX compiles it once."""

    def watch(run: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        output, module = run(*args, **kwargs), context.module
        wanted = every or isinstance(module, _WEIGHED)
        if context.method_name != "__call__" or not wanted or not module.path:
            return output
        return tags.tagged(_path(module), output)

    def watched(variables: Any, images: Array) -> None:
        with linen.intercept_methods(watch):
            call(variables, images)

    def outputs(variables: Any, images: Array) -> dict[str, Any]:
        found = tags.collected(watched)(variables, images)
        check_not_empty(found, "Flax")
        return found

    return outputs
