"""Fully connected networks with NTK scaling (docs/protocol.md, "CIFAR-10")."""

import math

from flax import linen as nn
from jax import Array
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnpool.kernels.product import product
from cnnpool.models import fields, layers
from cnnpool.models.layers import Activations, Chain, Map

# Number of layers, including the readout.
NETWORKS = {"fully_connected_2": 2, "fully_connected_4": 4, "fully_connected_6": 6}


def _product(module: nn.Module, x: Array, features: int) -> Array:
    """x W, W drawn from N(0, 1)."""
    kernel = module.param("kernel", nn.initializers.normal(1.0), (x.shape[-1], features), x.dtype)
    return product(x, kernel)


class Hidden(nn.Module):
    """x W / sqrt(inputs) + b, W and b drawn from N(0, 1).

    Attributes:
      features: outputs.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch features"]:
        """Pre-activations."""
        bias = self.param("bias", nn.initializers.normal(1.0), (self.features,), x.dtype)
        return _product(self, x, self.features) / math.sqrt(x.shape[-1]) + bias[None]


class Readout(nn.Module):
    """h W / inputs, W drawn from N(0, 1).

    Attributes:
      features: outputs.
    """

    features: int

    @nn.compact
    def __call__(self, h: Float[Array, "batch inputs"]) -> Float[Array, "batch features"]:
        """The outputs."""
        return _product(self, h, self.features) / h.shape[-1]


class FullyConnected(nn.Module):
    """Hidden layers with ReLU on the flattened image, and a readout without bias.

    Attributes:
      outputs: number of outputs of the readout.
      width: units per hidden layer.
      depth: K, the number of layers, including the readout.
    """

    outputs: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Float[Array, "batch outputs"], Activations]:
        """Output, and the activations linear01 relu01 ... linear0K."""
        del train
        net = Chain(layers.flatten(x))
        for k in range(1, self.depth):
            net.layer(f"linear{k:02d}", Hidden, self.width)
            net.apply(f"relu{k:02d}", nn.relu)
        net.layer(f"linear{self.depth:02d}", Readout, self.outputs)
        return net.value, net.activations


def build(config: ConfigDict) -> FullyConnected:
    """The network that a config's `model` section describes.

    Raises:
      ValueError: if outputs or fully_connected_width is below 1, or width_factor is not 1.
    """
    fields.check_width_factor(config)
    return FullyConnected(
        outputs=fields.at_least_one(config, "outputs"),
        width=fields.at_least_one(config, "fully_connected_width"),
        depth=NETWORKS[config.name],
    )
