"""Which units are layers, on the real networks."""

import jax
import jax.numpy as jnp
import pytest

from cnnpool import models
from cnnpool.configs import cifar10
from cnnpool.measuring import units


def plotted(name):
    config = cifar10.get_config("paper").unlock()
    config.model.name = name
    model = models.build(config.model)
    images = jnp.zeros((1, 32, 32, 3))
    found: list[str] = []

    def names(images):
        variables = model.init(jax.random.key(0), images, train=False)
        found.extend(model.apply(variables, images, train=False)[1])

    jax.eval_shape(names, images)
    return {unit: depth for unit, depth in zip(found, units.depths(found), strict=True) if depth}


def test_vgg11_bn():
    assert plotted("vgg11_bn") == {
        "pool01": 1,
        "pool02": 2,
        "relu03": 3,
        "pool04": 4,
        "relu05": 5,
        "pool06": 6,
        "relu07": 7,
        "pool08": 8,
        "linear09": 9,
    }


def test_alexnet_counts_dropout_for_nothing():
    assert list(plotted("alexnet"))[4:] == ["pool05", "relu06", "relu07", "linear08"]


@pytest.mark.parametrize(
    ("name", "layers", "some"),
    [
        ("resnet18", 18, {"relu01": 1, "block01/relu1": 2, "block01/relu2": 3, "linear": 18}),
        ("resnet50", 50, {"block01/relu3": 4, "linear": 50}),
        ("efficientnet_b0", 1 + 15 * 3 + 2 + 1, {"swish01": 1, "block01/scale": 2}),
    ],
)
def test_shortcuts_and_squeeze_excite_are_beside_the_main_path(name, layers, some):
    found = plotted(name)
    assert len(found) == layers == max(found.values())
    assert some.items() <= found.items()
