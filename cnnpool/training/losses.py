"""Losses of the classifiers, and when an output counts as wrong.

See docs/protocol.md, "Scale detection in two dimensions" and "CIFAR-10".
"""

from collections.abc import Callable
from typing import NamedTuple

from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int
import optax

from cnnpool.training.hinge import hinge

Outputs = Float[Array, "images outputs"]
Labels = Int[Array, " images"]


class Loss(NamedTuple):
    """A loss, image by image.

    Attributes:
      values: (outputs, labels) -> loss of each image.
      wrong: (outputs, labels) -> whether each image is misclassified.
      needs_classes: whether labels are 0..C-1 with C outputs, or +1 and -1 with one output.
    """

    values: Callable[[Outputs, Labels], Float[Array, " images"]]
    wrong: Callable[[Outputs, Labels], Bool[Array, " images"]]
    needs_classes: bool


def cross_entropy(outputs: Outputs, labels: Labels) -> Float[Array, " images"]:
    """-log softmax(outputs)[label]."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels)


def hinge_of_output(outputs: Outputs, labels: Labels) -> Float[Array, " images"]:
    """max(0, 1 - y f(x)) of the single output f."""
    return hinge(labels * outputs[:, 0])


def not_the_largest(outputs: Outputs, labels: Labels) -> Bool[Array, " images"]:
    """Whether another output is larger; also true for NaN, which argmax takes for the largest."""
    return (jnp.argmax(outputs, -1) != labels) | jnp.isnan(outputs).any(-1)


LOSSES = {
    "cross_entropy": Loss(cross_entropy, not_the_largest, needs_classes=True),
    "hinge": Loss(hinge_of_output, lambda f, y: ~(y * f[:, 0] > 0), needs_classes=False),
}
