"""Activations that JAX does not compute go into the same sums."""

import jax
import numpy as np
import pytest

from cnnpool.instruments.moments import image_moments
from cnnpool.instruments.sensitivity import sensitivities
from cnnpool.instruments.streamed_moments import streamed_moments
from tests.instruments.test_sensitivity import images, random_features


def on_the_host(features):
    """The same function, from numpy to numpy, which JAX cannot trace; it uses its memory again."""
    memory = {}

    def call(x):
        assert isinstance(x, np.ndarray)
        found = {name: np.asarray(f) for name, f in jax.jit(features)(x).items()}
        for name in ("z_conv", "a_pool"):
            if memory.setdefault(name, np.empty_like(found[name])).shape != found[name].shape:
                memory[name] = np.empty_like(found[name])
            memory[name][...] = found[name]
        return {name: memory[name] for name in ("z_conv", "a_pool")}

    return call


@pytest.mark.parametrize("batch_size", [0, 21, 16, 280])  # 21: 3 images, which do not divide 40
def test_moments_are_those_of_the_compiled_function(batch_size):
    inputs = images()
    ours = streamed_moments(on_the_host(random_features()), *inputs, batch_size=batch_size)
    theirs = image_moments(random_features(), *inputs, batch_size=batch_size)
    assert list(ours) == ["z_conv", "a_pool"], "layers must stay in forward order"
    for name, layer in theirs.items():
        for part, expected in zip(ours[name], layer, strict=True):
            # Two programs of the same sums: float32 rounding of sums over 28 entries.
            np.testing.assert_allclose(part, expected, rtol=1e-5)


def test_float64_is_measured_in_float32():
    inputs = images()
    features = on_the_host(random_features())
    double = streamed_moments(
        lambda x: {name: f.astype(np.float64) for name, f in features(x).items()}, *inputs
    )
    single = streamed_moments(features, *inputs)
    assert sensitivities(double) == sensitivities(single)


def test_every_image_is_told_of_once_and_batches_have_one_size():
    sizes, told = [], []

    def features(x):
        sizes.append(len(x))
        return {"x": x}

    streamed_moments(features, *images(), batch_size=21, on_batch=told.append)
    assert sizes == [7] + [21] * 14  # a first call of one image, then the batches
    assert told == [3] * 13 + [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x, "dict of named activations"),
        (lambda x: {}, "dict of named activations"),
        (lambda x: {"loss": x.sum()}, "'loss': expected floats of shape"),
        (lambda x: {"x": x.astype(int)}, "'x': expected floats"),
        (lambda x: {"x": x[:, : len(x)]}, "'x' has shape .* one row per image"),
    ],
)
def test_what_is_not_named_activations_is_refused(change, message):
    with pytest.raises(TypeError, match=message):
        streamed_moments(change, *images(draws=1), batch_size=15)
