"""Modules of Flax NNX, their layers found by themselves."""

from flax import nnx
import jax
from jax.tree_util import Partial
import numpy as np
import pytest

import cnnpool as cp
from cnnpool.instruments.channels import shuffle_both_axes, shuffle_channels
from cnnpool.measuring.inputs import measurement_keys
from tests.library.networks import assert_is_the_definition, assert_same, images, network, weights


class Net(nnx.Module):
    """That of `networks`, in training mode."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        options = {"padding": "VALID", "use_bias": False, "rngs": rngs}
        self.conv2 = nnx.Conv(8, 16, (3, 3), **options)
        self.conv1 = nnx.Conv(3, 8, (3, 3), **options)
        self.blocks = nnx.List([nnx.Dropout(0.5, rngs=rngs)])
        self.linear = nnx.Linear(16, 5, use_bias=False, rngs=rngs)
        for name, kernel in weights().items():
            getattr(self, name).kernel[...] = kernel

    def __call__(self, x):
        x = self.blocks[0](nnx.relu(self.conv1(x)))
        x = nnx.relu(nnx.remat(lambda conv, x: conv(x))(self.conv2, x))
        return {"loss": self.linear(x.mean((1, 2))).sum()}


def test_it_is_the_same_network_as_a_function():
    net = Net()
    found = cp.measure(net, images())
    assert_same(found, cp.measure(Partial(network, weights()), images()))
    assert_is_the_definition(found, cp.flax.features(net), images())
    assert not net.blocks[0].deterministic, "the module itself is left in its mode"
    assert type(net.conv1) is nnx.Conv


@pytest.mark.parametrize(
    ("transform", "law", "pattern"),
    [
        ("channel_shuffle", shuffle_channels, "conv2/kernel/value"),
        ("channel_shuffle_image", shuffle_channels, "conv./kernel/value"),
        ("channel_shuffle_both", shuffle_both_axes, "conv./kernel/value"),
    ],
)
def test_shuffles_are_those_of_the_channels(transform, law, pattern):
    found = cp.measure(Net(), images(), transforms=("none", transform), shuffles=2)
    key = jax.random.fold_in(measurement_keys(0).transform, 0)
    graph, state = nnx.split(Net())
    for number in range(2):
        shuffled = law(state, jax.random.fold_in(key, number), pattern=pattern)
        one = cp.measure(nnx.merge(graph, shuffled), images())
        assert_same(found.sel(transform=transform, shuffle=number), one)


class Block(nnx.Module):
    def __init__(self, width, rngs):
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=2, in_features=width, decode=False, rngs=rngs
        )
        self.linear = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, tokens):
        tokens = tokens + self.attention(self.norm(tokens))
        return tokens + nnx.gelu(self.linear(tokens))


class Transformer(nnx.Module):
    """A small ViT: patches, two blocks, the mean of tokens."""

    def __init__(self, width=8):
        rngs = nnx.Rngs(0)
        self.patches = nnx.Conv(3, width, (4, 4), strides=4, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(2)])
        self.head = nnx.Linear(width, 5, rngs=rngs)

    def __call__(self, x):
        tokens = self.patches(x).reshape(len(x), -1, self.patches.out_features)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens.mean(1))


def test_tokens_are_layers():
    net = cp.flax.features(Transformer(), layers=["patches", "blocks/?", "head"])
    shapes = {name: f.shape for name, f in net(images(2)).items()}
    assert shapes == {
        "patches": (2, 3, 3, 8),
        "blocks/0": (2, 9, 8),
        "blocks/1": (2, 9, 8),
        "head": (2, 5),
    }
    assert_is_the_definition(cp.measure(net, images()), net, images())


def test_what_is_no_layer_is_refused():
    with pytest.raises(ValueError, match=r"'conv3' matches no layer; the nearest are conv"):
        cp.measure(Net(), images(), layers=["conv3"])
    with pytest.raises(TypeError, match="which has its own"):
        cp.flax.features(Net(), {})
    with pytest.raises(ValueError, match="no convolution behind its first one"):
        cp.measure(Transformer(), images(), transforms="channel_shuffle")
    assert np.isfinite(cp.measure(Transformer(), images())["D"]).all()


def test_layers_inside_a_scan_are_not_left_unshuffled_in_silence():
    class Scanned(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.last = nnx.Conv(4, 4, (3, 3), rngs=rngs)
            split = nnx.split_rngs(splits=2)
            self.blocks = split(nnx.vmap(lambda rngs: nnx.Conv(4, 4, (3, 3), rngs=rngs)))(rngs)

        def __call__(self, x):
            scan = nnx.scan(lambda conv, x: conv(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
            return self.last(scan(self.blocks, self.first(x)))

    with pytest.raises(ValueError, match=r"blocks/kernel/value: which axes"):
        cp.measure(Scanned(nnx.Rngs(0)), images(), transforms="channel_shuffle")
