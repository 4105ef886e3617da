"""Linen modules of Flax, measured as they are: `cnnpool.flax.features(module, variables)`."""

from collections.abc import Callable, Mapping, Sequence
import functools
import inspect
import re
from typing import Any

from flax import linen
import jax
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Key
import numpy as np

from cnnpool.instruments.channels import paths, shuffle_both_axes, shuffle_channels
from cnnpool.library.activations import Layers, flattened
from cnnpool.library.measurable import NONE, JaxFunction, weights_checksum

SHUFFLE, WITH_IMAGE, BOTH = "channel_shuffle", "channel_shuffle_image", "channel_shuffle_both"
_INFERENCE = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
}


def features(
    module: linen.Module, variables: Mapping[str, Any], layers: Layers = None, **arguments: Any
) -> "Features":
    """A module as a function from images to named activations.

    Args:
      module: that takes images (n, rows, columns, channels).
      variables: its parameters and what else it has, such as batch_stats.
      layers: paths of modules, or patterns, "block1/*"; None takes the outputs of all convolutions
        and dense layers, before what follows them. A module that runs several times has a name for
        every time: "act", "act:2".
      **arguments: of its call. `train`, `training`, `is_training`, `deterministic` and
        `use_running_average` are set to inference where the call has them.

    Raises:
      TypeError: if it is no linen module.
    """
    if not isinstance(module, linen.Module):
        raise TypeError(f"expected a flax.linen.Module, got {type(module).__name__}")
    known = inspect.signature(module.__call__).parameters
    inference = {name: value for name, value in _INFERENCE.items() if name in known}
    return Features(module, variables, layers, inference | arguments)


class Features(JaxFunction):
    """See `features`.

    Attributes:
      kernels: paths of the kernels of convolutions, in the order in which they run; known once
        `prepared`.
    """

    transforms = (NONE, SHUFFLE, WITH_IMAGE, BOTH)

    def __init__(
        self,
        module: linen.Module,
        variables: Mapping[str, Any],
        layers: Layers,
        arguments: Mapping[str, Any],
        kernels: Sequence[str] = (),
    ):
        self.module, self.variables, self.arguments = module, variables, dict(arguments)
        self.kernels = tuple(kernels)
        apply = _recorded(module, tuple(sorted(self.arguments.items())), layers is None)
        super().__init__(Partial(apply, variables), layers, type(module).__name__)

    def _with(self, **changed: Any) -> "Features":
        kept = {name: getattr(self, name) for name in ("module", "variables", "layers")}
        kept |= {"arguments": self.arguments, "kernels": self.kernels}
        return Features(**(kept | changed))

    def only(self, layers: Layers) -> "Features":
        """The same network with some of its layers alone."""
        return self._with(layers=layers)

    def prepared(self, images: np.ndarray) -> "Features":
        """What a first run says: the order of convolutions."""
        convolutions: list[str] = []

        def run(variables: Any, images: Array) -> None:
            with linen.intercept_methods(functools.partial(_name_convolutions, convolutions)):
                self.module.apply(variables, images, **self.arguments)

        jax.eval_shape(run, self.variables, jax.ShapeDtypeStruct(images.shape, images.dtype))
        there = paths(self.variables)
        kernels = dict.fromkeys(f"params/{path}/kernel" for path in convolutions)
        return self._with(kernels=[path for path in kernels if path in there])

    def transformed(self, name: str, key: Key[Array, ""]) -> "Features":
        """The network with shuffled channels."""
        if name == NONE:
            return self
        chosen_kernels = self.kernels[1:] if name == SHUFFLE else self.kernels
        if not chosen_kernels:
            raise ValueError(f"{name}: {self.label} has no convolution behind its first one")
        if name == BOTH:
            pattern = _either(chosen_kernels)
            return self._with(variables=shuffle_both_axes(self.variables, key, pattern=pattern))
        shapes = dict(zip(paths(self.variables), jax.tree.leaves(self.variables), strict=True))
        depthwise = [p for p in chosen_kernels if _is_depthwise(shapes[p].shape)]
        permuted = [p for p in chosen_kernels if p in depthwise or shapes[p].shape[-2] > 1]
        if not permuted:
            return self
        return self._with(
            variables=shuffle_channels(
                self.variables,
                key,
                pattern=_either(permuted),
                depthwise=_either(depthwise) if depthwise else None,
            )
        )

    def parsed(self, names: Sequence[str]) -> tuple[str, ...]:
        """Names of transforms; raises ValueError if there is no such transform."""
        return super(JaxFunction, self).parsed(names)

    def record(self) -> dict[str, Any]:
        """Its class and a checksum of its weights."""
        return {"network": self.label, "weights_sha256": weights_checksum(self.variables)}


def _is_depthwise(shape: tuple[int, ...]) -> bool:
    """Whether a kernel (..., 1, outputs) behind the first one has one filter per channel."""
    return shape[-2] == 1 and shape[-1] > 1


def _either(names: Sequence[str]) -> str:
    return "|".join(map(re.escape, names))


def _path(module: linen.Module) -> str:
    return "/".join(module.path)


def _name_convolutions(found: list[str], call: Callable, args: Any, kwargs: Any, context: Any):
    is_convolution = isinstance(context.module, linen.Conv | linen.ConvLocal | linen.ConvTranspose)
    if is_convolution and context.method_name == "__call__":
        found.append(_path(context.module))
    return call(*args, **kwargs)


@functools.lru_cache(maxsize=64)
def _recorded(
    module: linen.Module, arguments: tuple[tuple[str, Any], ...], layers_only: bool
) -> Callable[[Any, Array], dict[str, Any]]:
    """Outputs of modules as a function of (variables, images); the same object for the same."""
    kinds = (linen.Conv, linen.ConvTranspose, linen.ConvLocal, linen.Dense, linen.DenseGeneral)

    def apply(variables: Any, images: Array) -> dict[str, Any]:
        found: dict[str, Any] = {}
        calls: dict[str, int] = {}

        def watch(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
            output = call(*args, **kwargs)
            module = context.module
            wanted = isinstance(module, kinds) if layers_only else True
            if context.method_name == "__call__" and wanted and module.path:
                name = _path(module)
                calls[name] = calls.get(name, 0) + 1
                called = name if calls[name] == 1 else f"{name}:{calls[name]}"
                found.update(flattened({called: output}))
            return output

        with linen.intercept_methods(watch):
            module.apply(variables, images, **dict(arguments))
        if not found:
            raise ValueError(
                "no named activations: the module has no convolution and no dense layer of Flax; "
                'name its layers, layers=["*"] are all of its modules'
            )
        return found

    return apply
