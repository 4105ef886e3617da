"""Hinge loss with ridge on the filters (docs/protocol.md, "Scale detection in one dimension")."""

from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

Params = dict
Margins = Float[Array, "*seeds images"]


def hinge(margins: Margins) -> Margins:
    """max(0, 1 - y f(x)) of each image; NaN where the margin is NaN.

    Args:
      margins: y f(x).
    """
    return jnp.maximum(0.0, 1.0 - margins)


def hinge_slope(margins: Margins, labels: Margins) -> Margins:
    """d hinge / d f(x): -y where y f(x) < 1, else exactly 0 (at the kink too)."""
    return jnp.where(margins < 1.0, -labels, 0.0)


def ridge_shrinkage(
    params: Params, *, ridge: float, width: int, depth: int, learning_rate: float
) -> Params:
    """The factor by which an SGD step on the ridge alone multiplies each parameter.

    The ridge is ridge / (H K) sum_k ||W_k||^2 over the convolutions' kernels; a step
    of size lr takes W to W (1 - 2 lr ridge / (H K)). Biases and readout are not
    decayed: their factor is 1.

    Args:
      params: parameters of one network, keyed by layer.
      ridge: coefficient of the ridge.
      width: H, channels.
      depth: K, convolutions.
      learning_rate: lr.

    Returns:
      A pytree like `params` of Python floats.
    """
    decayed = 1.0 - 2.0 * learning_rate * ridge / (width * depth)

    def kernel(path: tuple[str, ...]) -> bool:
        return path[0].startswith("conv") and path[-1] == "kernel"

    flat = {path: decayed if kernel(path) else 1.0 for path in flatten_dict(params)}
    return unflatten_dict(flat)
