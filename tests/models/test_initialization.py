"""torchvision's initialization: the closed forms of its rules, layer by layer."""

import math

from flax import linen as nn
from flax.traverse_util import flatten_dict
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from cnnpool import models
from cnnpool.models import layers
from cnnpool.models.layers import BatchNorm, Chain, Conv, Linear
from cnnpool.models.torchvision import initialization

SIZE = 64  # pixels a side; no parameter depends on it


def drawn(model, name, seed=0):
    return initialization.initialize(model, name, jax.random.key(seed), size=SIZE)


def network(name, **changes):
    fields = {"name": f"torchvision_{name}", "outputs": 10, "features_only": True}
    return models.build(ConfigDict(fields | changes))


class Small(nn.Module):
    """A layer of every kind under names that torchvision's networks here have."""

    @nn.compact
    def __call__(self, x, *, train):
        net = Chain(x)
        net.layer("conv01", Conv, 64, kernel_size=3)
        net.layer("bn01", BatchNorm, train)
        net.layer("squeeze_conv", Conv, 96, kernel_size=1)
        net.layer("depthwise_conv", Conv, 96, kernel_size=5, groups=96)
        net.apply("pool", layers.average_pool)
        net.layer("linear02", Linear, 300)
        net.layer("linear", Linear, 200)
        return net.value, net.activations


def assert_normal(values, deviation):
    """Mean and variance to five standard errors, and more than four deviations nowhere missing."""
    count = values.size
    assert abs(values.mean()) < 5 * deviation / math.sqrt(count)
    assert abs(values.var() / deviation**2 - 1) < 5 * math.sqrt(2 / count)
    beyond = (abs(values) > 2 * deviation).mean()
    assert abs(beyond - 0.0455) < 5 * math.sqrt(0.0455 / count)


def assert_uniform(values, bound):
    """Within the bound, and of variance bound^2 / 3 to five standard errors."""
    assert abs(values).max() <= bound
    assert abs(values.var() / (bound**2 / 3) - 1) < 5 * math.sqrt(0.8 / values.size)


# fan_out of Small's convolutions: F^2 outputs, and PyTorch counts all channels of a depthwise one.
FAN_OUT = {"conv01": 9 * 64, "squeeze_conv": 96, "depthwise_conv": 25 * 96}
FAN_IN = {"conv01": 27, "squeeze_conv": 64, "depthwise_conv": 25, "linear02": 96, "linear": 300}


@pytest.mark.parametrize("family", ["alexnet", "vgg13_bn", "resnet18", "efficientnet_b0"])
def test_every_rule_of_a_family(family):
    params = drawn(Small(), f"torchvision_{family}")["params"]
    flat = {path: np.asarray(a, np.float64) for path, a in flatten_dict(params, sep="/").items()}
    assert (flat["bn01/scale"] == 1).all()
    assert (flat["bn01/bias"] == 0).all()
    for layer, fan_in in FAN_IN.items():
        kernel, bias = flat[f"{layer}/kernel"], flat[f"{layer}/bias"]
        if layer in FAN_OUT and family != "alexnet":
            assert_normal(kernel, math.sqrt(2 / FAN_OUT[layer]))
        elif family.startswith("vgg"):
            assert_normal(kernel, 0.01)
        else:
            outputs = family.startswith("efficientnet")
            assert_uniform(kernel, 1 / math.sqrt(kernel.shape[-1] if outputs else fan_in))
        if family in ("alexnet", "resnet18"):
            assert_uniform(bias, 1 / math.sqrt(fan_in))
        else:
            assert (bias == 0).all()


def test_alexnet_has_pytorch_s_defaults_which_are_the_model_s_own():
    model = network("alexnet")
    images = jnp.zeros((1, SIZE, SIZE, 3))
    expected = jax.jit(lambda key: model.init(key, images, train=False))(jax.random.key(3))
    found = drawn(model, "torchvision_alexnet", seed=3)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("vgg11_bn", "efficientnet_b0")),
    ],
)
def test_all_convolutions_of_real_networks_are_he_s(name):
    found = drawn(network(name), f"torchvision_{name}")
    flat = flatten_dict(found["params"], sep="/")
    kernels = {path: np.asarray(a) for path, a in flat.items() if a.ndim == 4}
    for kernel in kernels.values():
        assert_normal(kernel, math.sqrt(2 / (kernel.shape[0] ** 2 * kernel.shape[3])))
    first = [kernel.ravel()[:9] / kernel.std() for kernel in kernels.values()]
    products = np.corrcoef(first)[np.triu_indices(len(first), 1)]
    assert abs(products).max() < 0.999, "every layer is drawn for itself"
    statistics = flatten_dict(found["batch_stats"], sep="/")
    assert all((a == (path.endswith("var"))).all() for path, a in statistics.items())


def test_the_seed_decides():
    one, same, other = (
        drawn(Small(), "torchvision_vgg11", seed)["params"]["conv01"]["kernel"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
