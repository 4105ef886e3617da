"""Modules of libraries on JAX: layers captured by name, kernels known by their axes."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from jax import Array
from jax.tree_util import Partial
import numpy as np

from cnnpool.library.activations import Layers
from cnnpool.library.channel_shuffles import BOTH, SHUFFLE, WITH_IMAGE, Kernel, shuffled
from cnnpool.library.measurable import NONE, JaxFunction, Measurable, weights_checksum
from cnnpool.shapes import Key


@runtime_checkable
class Architecture(Protocol):
    """A module without its parameters."""

    @property
    def label(self) -> str:
        """What the network is called."""

    def outputs(self, *, every: bool) -> Callable[[Any, Array], dict[str, Any]]:
        """Outputs of modules by name, as a function of (variables, images in inference mode).

        The same object for the same architecture, so that JAX compiles it once.

        Args:
          every: of all modules, or else of convolutions and dense layers alone.
        """

    def kernels(self, variables: Any, images: Any) -> Sequence[Kernel]:
        """The kernels of convolutions, in the order in which they run on such images."""


class JaxModule(JaxFunction):
    """A module with its parameters as a function from images to named activations.

    Attributes:
      architecture: the module.
      variables: a pytree of its parameters and whatever else it has.
      kernels: of its convolutions, in the order in which they run; known once `prepared`.
    """

    transforms = (NONE, SHUFFLE, WITH_IMAGE, BOTH)

    def __init__(
        self,
        architecture: Architecture,
        variables: Any,
        layers: Layers = None,
        kernels: Sequence[Kernel] = (),
    ):
        self.architecture, self.variables = architecture, variables
        self.kernels = tuple(kernels)
        outputs = architecture.outputs(every=layers is not None)
        super().__init__(Partial(outputs, variables), layers, architecture.label)

    def only(self, layers: Layers) -> "JaxModule":
        """The same network with some of its layers alone."""
        return JaxModule(self.architecture, self.variables, layers, self.kernels)

    def prepared(self, images: np.ndarray) -> "JaxModule":
        """What a first run says: the order of convolutions."""
        kernels = self.architecture.kernels(self.variables, images)
        return JaxModule(self.architecture, self.variables, self.layers, kernels)

    def transformed(self, name: str, key: Key[Array, ""]) -> "JaxModule":
        """The network with shuffled channels."""
        if name == NONE:
            return self
        variables = shuffled(self.variables, self.kernels, name, key, label=self.label)
        return JaxModule(self.architecture, variables, self.layers, self.kernels)

    def parsed(self, names: Sequence[str]) -> tuple[str, ...]:
        """Names of transforms; raises ValueError if there is no such transform."""
        return Measurable.parsed(self, names)

    def record(self) -> dict[str, Any]:
        """Its class and a checksum of its weights."""
        return {"network": self.label, "weights_sha256": weights_checksum(self.variables)}


def is_stacked(shape: Sequence[int], window: int | Sequence[int]) -> bool:
    """Whether a kernel is of several layers, inside `scan` or `vmap`.

    Args:
      shape: of the kernel.
      window: rows and columns of one layer's kernel.
    """
    return len(shape) > 2 + (1 if isinstance(window, int) else len(window))


def check_not_empty(found: dict[str, Any], library: str) -> None:
    """Raises ValueError where no module of the kinds that are looked for ran."""
    if not found:
        raise ValueError(
            f"no named activations: the module has no convolution and no dense layer of {library}; "
            'name its layers, layers=["*"] are all of its modules'
        )
