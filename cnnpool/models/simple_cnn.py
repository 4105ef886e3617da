"""The simple CNN of Figure 4: a stack of NTK-scaled convolutions on a ring.

See docs/protocol.md, "Scale detection in one dimension", and appendix B.2 of the paper.
"""

import math

from flax import linen as nn
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnpool.kernels.product import PRECISION, product

Activations = dict[str, Float[Array, "batch ..."]]


def ring_patches(
    x: Float[Array, "batch length channels"], filter_size: int, stride: int
) -> Float[Array, "batch positions inputs"]:
    """The F pixels that each output position sees, with periodic padding.

    Output position p sees x[s p + t - left] for t = 0..F-1, where left is
    (F - 1) / 2 for odd and F/2 - 1 for even F (so F/2 pixels on the right).
    """
    length, left = x.shape[1], (filter_size - 1) // 2
    right = filter_size - 1 - left
    padded = jnp.concatenate([x[:, length - left :], x, x[:, :right]], axis=1)
    taps = [padded[:, tap : tap + length : stride] for tap in range(filter_size)]
    return jnp.concatenate(taps, axis=-1)


class RingConv(nn.Module):
    """conv(x, W) / sqrt(fan_in) + b on a ring, W and b drawn from N(0, 1).

    Computed as one matrix product over all positions of all images: on a CPU, XLA's
    convolution is several times slower.

    Attributes:
      features: number of output channels.
      filter_size: F, taps; odd or even.
      stride: s, pixels; must divide the length of the input.
    """

    features: int
    filter_size: int
    stride: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length channels"]
    ) -> Float[Array, "batch p features"]:
        """Pre-activations.

        Raises:
          ValueError: if the ring is too short for the filter or not a multiple of the stride.
        """
        channels = x.shape[-1]
        if x.shape[1] % self.stride or x.shape[1] < self.filter_size:
            raise ValueError(
                f"layer {self.name} gets {x.shape[1]} positions: expected at least the filter size "
                f"{self.filter_size} and a multiple of the stride {self.stride}; take a longer "
                "data.length or a smaller model.depth"
            )
        normal = nn.initializers.normal(1.0)
        kernel = self.param("kernel", normal, (self.filter_size, channels, self.features))
        bias = self.param("bias", normal, (self.features,))
        fan_in = self.filter_size * channels
        patches = ring_patches(x, self.filter_size, self.stride)
        rows = product(patches.reshape(-1, fan_in), kernel.reshape(fan_in, self.features))
        return rows.reshape(*patches.shape[:2], -1) / math.sqrt(fan_in) + bias[None, None]


class Readout(nn.Module):
    """beta . h / H + b, beta and b drawn from N(0, 1)."""

    @nn.compact
    def __call__(self, h: Float[Array, "batch channels"]) -> Float[Array, "batch 1"]:
        """The output of each image."""
        normal = nn.initializers.normal(1.0)
        kernel = self.param("kernel", normal, (h.shape[-1], 1))
        bias = self.param("bias", normal, (1,))
        return jnp.matmul(h, kernel, precision=PRECISION) / h.shape[-1] + bias[None]


class SimpleCNN(nn.Module):
    """K convolutions, each followed by sqrt(F) ReLU; mean over positions; readout.

    Attributes:
      width: H, channels of every layer.
      depth: K, convolutions.
      filter_size: F, taps.
      stride: s, pixels.
    """

    width: int
    depth: int
    filter_size: int
    stride: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length channels"], *, train: bool = False
    ) -> tuple[Float[Array, " batch"], Activations]:
        """Output f(x), and the activations conv01, relu01, ..., pool, linear."""
        del train  # the network is the same in training and inference
        activations: Activations = {}
        for k in range(1, self.depth + 1):
            name = f"conv{k:02d}"
            x = RingConv(self.width, self.filter_size, self.stride, name=name)(x)
            activations[name] = x
            x = activations[f"relu{k:02d}"] = math.sqrt(self.filter_size) * nn.relu(x)
        pooled = activations["pool"] = x.mean(axis=1)
        output = activations["linear"] = Readout(name="linear")(pooled)
        return output[:, 0], activations


def build(config: ConfigDict) -> SimpleCNN:
    """The network that a config's `model` section describes.

    Raises:
      ValueError: if a size is not a positive whole number.
    """
    sizes = {field: config[field] for field in ("width", "depth", "filter_size", "stride")}
    for field, value in sizes.items():
        if value < 1:
            raise ValueError(f"model.{field} must be at least 1, got {value}")
    return SimpleCNN(**sizes)
