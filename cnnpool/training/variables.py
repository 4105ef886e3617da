"""The variables of a Flax network, without the state of its training."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Params = dict


class Variables(NamedTuple):
    """The variables of a network.

    Attributes:
      params: parameters, trained by gradients.
      batch_stats: running means and variances of batch normalization; may be empty.
    """

    params: Params
    batch_stats: Params

    @classmethod
    def of(cls, collections: Mapping[str, Any]) -> "Variables":
        """From the collections that a module's `init` returns."""
        return cls(collections["params"], collections.get("batch_stats", {}))

    def by_path(self) -> dict[str, Any]:
        """Parameters, then batch statistics, by LAYER/NAME."""
        from flax.traverse_util import flatten_dict  # here: plain measurements need no Flax

        return {path: leaf for tree in self for path, leaf in flatten_dict(tree, sep="/").items()}

    def filled(self, leaf: Callable[[str], Any]) -> "Variables":
        """Variables of the same structure with other leaves.

        Args:
          leaf: LAYER/NAME -> the new leaf.
        """
        from flax.traverse_util import flatten_dict, unflatten_dict

        trees = ({path: leaf(path) for path in flatten_dict(tree, sep="/")} for tree in self)
        return Variables(*(unflatten_dict(tree, sep="/") for tree in trees))


def variable_shapes(model: Any, image_shape: Sequence[int]) -> Variables:
    """Shapes and types of a classifier's variables.

    Args:
      model: the network's module.
      image_shape: (height, width, channels).
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    initialize = functools.partial(model.init, train=False)
    return Variables.of(jax.eval_shape(initialize, jax.random.key(0), images))
