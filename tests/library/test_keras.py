"""Models of Keras 3, on JAX in this process and on PyTorch in another."""

import importlib.util
import os
from pathlib import Path
import subprocess
import sys

import jax
from jax.tree_util import Partial
import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="not installed: pip install cnnpool[keras]")

import cnnpool as cp
from cnnpool.instruments.channels import shuffle_both_axes, shuffle_channels
from cnnpool.measuring.inputs import measurement_keys
from tests.library.keras_networks import Subclass, net
from tests.library.networks import assert_is_the_definition, assert_same, images, network, weights

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("channels_last", "channels_first")


@pytest.fixture(scope="module")
def in_jax():
    return cp.measure(Partial(network, weights()), images())


@pytest.mark.parametrize("data_format", FORMATS)
def test_it_is_the_network_in_jax(data_format, in_jax):
    model = net(data_format)
    found = cp.measure(model, images())
    assert found["layer"].values.tolist() == ["conv1", "block/conv2", "linear"]
    assert_same(found, in_jax)
    assert_is_the_definition(found, cp.keras.features(model), images())
    call = keras.layers.Layer.__call__
    assert call.__module__.startswith("keras."), "Keras itself is left as it was"


SHAPES = {
    "conv1": (2, 10, 10, 8),
    "relu1": (2, 10, 10, 8),
    "dropout": (2, 10, 10, 8),
    "block/conv2": (2, 8, 8, 16),
    "block/bn": (2, 8, 8, 16),
    "block/relu2": (2, 8, 8, 16),
    "block": (2, 8, 8, 16),
    "pooled": (2, 16),
    "linear": (2, 5),
}


def test_all_layers_by_a_pattern():
    found = cp.keras.features(net(), ["*"])(images(2))
    assert {name: f.shape for name, f in found.items()} == SHAPES


@pytest.mark.parametrize(
    ("transform", "law", "layers"),
    [
        ("channel_shuffle", shuffle_channels, ["block/conv2"]),
        ("channel_shuffle_image", shuffle_channels, ["conv1", "block/conv2"]),
        ("channel_shuffle_both", shuffle_both_axes, ["conv1", "block/conv2"]),
    ],
)
def test_shuffles_are_those_of_the_channels(transform, law, layers):
    model = net()
    found = cp.measure(model, images(), transforms=("none", transform), shuffles=2)
    key = jax.random.fold_in(measurement_keys(0).transform, 0)
    for number in range(2):
        twin = net()
        parts = {"conv1": twin.get_layer("conv1"), "block/conv2": twin.get_layer("block").layers[0]}
        own = [model.get_layer("conv1"), model.get_layer("block").layers[0]]
        for layer, original in zip(parts, own, strict=True):
            if layer in layers:
                path = original.kernel.path
                kernel = {path: np.asarray(original.kernel.value)}
                shuffled = law(kernel, jax.random.fold_in(key, number), pattern=".*")
                parts[layer].kernel.assign(shuffled[path])
        assert_same(found.sel(transform=transform, shuffle=number), cp.measure(twin, images()))


def test_depthwise_separable_and_transposed_kernels_are_permuted_along_their_channels():
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Conv2D(6, 3),
            keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
            keras.layers.SeparableConv2D(5, 3),
            keras.layers.Conv2DTranspose(4, 3),
        ]
    )
    ready = cp.keras.features(model).prepared(images(2))
    changed = ready.transformed("channel_shuffle", jax.random.key(1)).variables
    moved = {
        path.split("/", 1)[1]: axis
        for path, value in changed.items()
        for axis in range(np.ndim(value))
        if not np.array_equal(value, ready.variables[path])
        and np.array_equal(*(np.sort(v, axis) for v in (value, ready.variables[path])))
        and {row.tobytes() for row in np.moveaxis(np.asarray(value), axis, 0)}
        == {row.tobytes() for row in np.moveaxis(np.asarray(ready.variables[path]), axis, 0)}
    }
    names = [name.split("/")[0].rstrip("_0123456789") + "/" + name.split("/")[1] for name in moved]
    assert dict(zip(names, moved.values(), strict=True)) == {
        "depthwise_conv2d/kernel": 2,
        "separable_conv2d/depthwise_kernel": 2,
        "separable_conv2d/pointwise_kernel": 2,
        "conv2d_transpose/kernel": 3,
    }


def test_subclasses_are_taken_once_they_have_weights():
    model = Subclass()
    with pytest.raises(ValueError, match=r"no weights yet.*model\(images\[:1\]\)"):
        cp.measure(model, images())
    model(images(1))
    found = cp.measure(model, images())
    assert found["layer"].values.tolist() == ["same", "same:2", "head"]
    assert_is_the_definition(found, cp.keras.features(model), images())


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"takes images of shape \(16, 16, 3\) .*got \(12, 12, 3\)"
    ):
        cp.measure(net(size=16), images())
    with pytest.raises(ValueError, match="'conv3' matches no layer; the nearest are"):
        cp.measure(net(), images(), layers=["conv3"])


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")
@pytest.mark.slow
def test_pytorch_runs_it_too(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-m", "tests.library.keras_networks"]
    said = subprocess.run(
        program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said.splitlines() == [str(SHAPES)] * 2
    for data_format in FORMATS:
        theirs = cp.load(tmp_path / f"torch-{data_format}.nc")
        transforms = ("none", "channel_shuffle", "channel_shuffle_both")
        ours = cp.measure(net(data_format), images(), transforms=transforms, shuffles=2)
        for transform in transforms:
            assert_same(theirs.sel(transform=transform), ours.sel(transform=transform))
