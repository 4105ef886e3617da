"""Modules of Equinox, their layers found by themselves."""

import jax
from jax.tree_util import Partial
import numpy as np
import pytest

equinox = pytest.importorskip("equinox", reason="not installed: pip install cnnpool[equinox]")

import cnnpool as cp
from cnnpool.instruments.channels import shuffle_both_axes, shuffle_channels
from cnnpool.measuring.inputs import measurement_keys
from tests.library.networks import assert_is_the_definition, assert_same, images, network, weights


class Net(equinox.Module):
    """That of `networks`; a function among its fields, and modules in another order."""

    conv2: equinox.nn.Conv2d
    conv1: equinox.nn.Conv2d
    linear: equinox.nn.Linear
    dropout: equinox.nn.Dropout
    act: object

    def __init__(self):
        key, kernels = jax.random.key(0), weights()
        conv1 = equinox.nn.Conv2d(3, 8, 3, use_bias=False, key=key)
        conv2 = equinox.nn.Conv2d(8, 16, 3, use_bias=False, key=key)
        linear = equinox.nn.Linear(16, 5, use_bias=False, key=key)
        self.conv1 = equinox.tree_at(
            lambda c: c.weight, conv1, kernels["conv1"].transpose(3, 2, 0, 1)
        )
        self.conv2 = equinox.tree_at(
            lambda c: c.weight, conv2, kernels["conv2"].transpose(3, 2, 0, 1)
        )
        self.linear = equinox.tree_at(lambda c: c.weight, linear, kernels["linear"].T)
        self.dropout, self.act = equinox.nn.Dropout(0.5), jax.nn.relu

    def __call__(self, x, key):
        x = self.dropout(self.act(self.conv1(x)), key=key)
        x = equinox.filter_checkpoint(self.conv2)(x)
        return {"loss": self.linear(self.act(x).mean((1, 2))).sum()}


def test_it_is_the_same_network_as_a_function():
    found = cp.measure(Net(), images())
    assert_same(found, cp.measure(Partial(network, weights()), images()))
    assert_is_the_definition(found, cp.equinox.features(Net()), images())


@pytest.mark.parametrize(
    ("transform", "law", "pattern"),
    [
        ("channel_shuffle", shuffle_channels, "conv2/weight"),
        ("channel_shuffle_image", shuffle_channels, "conv./weight"),
        ("channel_shuffle_both", shuffle_both_axes, "conv./weight"),
    ],
)
def test_shuffles_are_those_of_the_channels(transform, law, pattern):
    found = cp.measure(Net(), images(), transforms=("none", transform), shuffles=2)
    key = jax.random.fold_in(measurement_keys(0).transform, 0)
    arrays, rest = equinox.partition(Net(), equinox.is_array_like)
    for number in range(2):
        axes = {"pattern": pattern, "input_axis": 1, "output_axis": 0}
        shuffled = law(arrays, jax.random.fold_in(key, number), **axes)
        one = cp.measure(equinox.combine(shuffled, rest), images())
        assert_same(found.sel(transform=transform, shuffle=number), one)


def test_tokens_inside_an_inner_vmap_are_layers():
    class Tokens(equinox.Module):
        patches: equinox.nn.Conv2d
        norm: equinox.nn.LayerNorm
        attention: equinox.nn.MultiheadAttention
        head: equinox.nn.Linear

        def __init__(self):
            keys = jax.random.split(jax.random.key(0), 3)
            self.patches = equinox.nn.Conv2d(3, 8, 4, stride=4, key=keys[0])
            self.norm = equinox.nn.LayerNorm(8)
            self.attention = equinox.nn.MultiheadAttention(2, 8, key=keys[1])
            self.head = equinox.nn.Linear(8, 5, key=keys[2])

        def __call__(self, x):
            tokens = jax.vmap(self.norm)(self.patches(x).reshape(8, -1).T)
            return jax.vmap(self.head)(tokens + self.attention(tokens, tokens, tokens))

    layers = ["patches", "norm", "attention", "attention/query_proj", "head"]
    net = cp.equinox.features(Tokens(), layers)
    shapes = {name: f.shape for name, f in net(images(2)).items()}
    assert shapes == {
        "patches": (2, 3, 3, 8),
        "norm": (2, 9, 8),
        "attention/query_proj": (2, 9, 8),
        "attention": (2, 9, 8),
        "head": (2, 9, 5),
    }
    assert_is_the_definition(cp.measure(net, images()), net, images())


def test_batch_normalization_has_its_state_and_blocks_run_again():
    class Normed(equinox.Module):
        same: equinox.nn.Conv2d
        bn: equinox.nn.BatchNorm

        def __call__(self, x, state):
            x, state = self.bn(self.same(self.same(x)), state)
            return x, state

    def make():
        conv = equinox.nn.Conv2d(3, 3, 3, key=jax.random.key(0))
        return Normed(conv, equinox.nn.BatchNorm(3, "batch", mode="batch"))

    net, state = equinox.nn.make_with_state(make)()
    found = cp.equinox.features(net, ["*"], state=state)
    assert [(n, f.shape[1:]) for n, f in found(images(2)).items()] == [
        ("same", (10, 10, 3)),
        ("same:2", (8, 8, 3)),
        ("bn", (8, 8, 3)),
    ]
    shuffled = cp.measure(
        cp.equinox.features(net, state=state), images(), transforms="channel_shuffle_image"
    )
    assert np.isfinite(shuffled["D"]).all()


def test_what_has_no_layers_or_other_ones_is_refused():
    with pytest.raises(ValueError, match=r"'conv3' matches no layer; the nearest are conv"):
        cp.measure(Net(), images(), layers=["conv3"])
    with pytest.raises(ValueError, match="no convolution and no dense layer of Equinox"):
        cp.measure(equinox.nn.Sequential([equinox.nn.Lambda(jax.nn.relu)]), images())


def test_a_module_that_names_its_own_activations_is_a_function():
    class Names(equinox.Module):
        gain: jax.Array

        def __call__(self, x):
            return {"relu": jax.nn.relu(self.gain * x)}

    found = cp.measure(Names(jax.numpy.ones(())), images())
    assert found["layer"].values.tolist() == ["relu"]


def test_layers_inside_a_scan_are_not_left_unshuffled_in_silence():
    class Scanned(equinox.Module):
        first: equinox.nn.Conv2d
        blocks: equinox.nn.Conv2d
        last: equinox.nn.Conv2d

        def __init__(self):
            def conv(inputs, key):
                return equinox.nn.Conv2d(inputs, 4, 3, padding=1, key=key)

            keys = jax.random.split(jax.random.key(0), 2)
            self.first, self.last = conv(3, keys[0]), conv(4, keys[1])
            self.blocks = equinox.filter_vmap(lambda key: conv(4, key))(keys)

        def __call__(self, x):
            arrays, static = equinox.partition(self.blocks, equinox.is_array)

            def block(x, one):
                return equinox.combine(one, static)(x), None

            return self.last(jax.lax.scan(block, self.first(x), arrays)[0])

    with pytest.raises(ValueError, match=r"blocks/weight: which axes"):
        cp.measure(Scanned(), images(), transforms="channel_shuffle")
