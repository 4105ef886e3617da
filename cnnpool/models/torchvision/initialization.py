"""torchvision's networks before training, initialized as torchvision does it.

Every layer is first initialized by PyTorch's defaults, which `model.init` applies; then a family
draws some of them again:

| family | kernels | biases |
|---|---|---|
| AlexNet | as PyTorch | as PyTorch |
| VGG | convolutions N(0, 2 / fan_out), linear layers N(0, 0.01^2) | 0 |
| ResNet | convolutions N(0, 2 / fan_out) | as PyTorch |
| EfficientNet | convolutions N(0, 2 / fan_out), linear layers U(+-1 / sqrt(outputs)) | 0 |

fan_out is F^2 outputs, also for depthwise convolutions. Batch norms have scale 1 and bias 0. These
are the rules in the constructors of torchvision's networks; that its published weights were
trained from such an initialization is likely but not known.
"""

from collections.abc import Callable
import math
import re

from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Key

from cnnpool.models import layers

Draw = Callable[[Key[Array, ""], tuple[int, ...]], Array]
_LINEAR_DEVIATION = 0.01  # standard deviation of VGG's linear layers


def _he(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Kernel (F, F, inputs, outputs), N(0, 2 / (F^2 outputs))."""
    rows, columns, _, outputs = shape
    return math.sqrt(2 / (rows * columns * outputs)) * jax.random.normal(key, shape)


def _normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    return _LINEAR_DEVIATION * jax.random.normal(key, shape)


def _uniform(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Kernel (inputs, outputs), U(+-1 / sqrt(outputs))."""
    return layers.uniform(shape[-1])(key, shape, jnp.float32)


def _zeros(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    return jnp.zeros(shape)


_CONV, _LINEAR, _BIAS = r"(.*/)?\w*conv\w*/kernel", r"linear\d*/kernel", r".*(conv|linear)\w*/bias"
# By a part of a family's names; the first pattern that matches a path, LAYER/NAME, draws it.
_REDRAWN: dict[str, dict[str, Draw]] = {
    "alexnet": {},
    "vgg": {_CONV: _he, _LINEAR: _normal, _BIAS: _zeros},
    "resnet": {_CONV: _he},
    "efficientnet": {_CONV: _he, _LINEAR: _uniform, _BIAS: _zeros},
}


def initialize(model: nn.Module, name: str, key: Key[Array, ""], *, size: int) -> dict[str, dict]:
    """Variables of one network before training: params, and batch_stats where it has some.

    Args:
      model: the network.
      name: the network's name in a config.
      key: randomness of all draws.
      size: side of an image that the network takes, in pixels; the result does not depend on it.
    """
    images = jnp.zeros((1, size, size, 3))
    variables = jax.jit(lambda key: model.init(key, images, train=False))(key)
    flat = flatten_dict(variables["params"], sep="/")
    keys = jax.random.split(jax.random.fold_in(key, 1), len(flat))
    rules = next(rules for family, rules in _REDRAWN.items() if family in name)
    for own, (path, leaf) in zip(keys, sorted(flat.items()), strict=True):
        draw = next((rules[rule] for rule in rules if re.fullmatch(rule, path)), None)
        if draw is not None:
            flat[path] = draw(own, leaf.shape)
    return {**variables, "params": unflatten_dict(flat, sep="/")}
