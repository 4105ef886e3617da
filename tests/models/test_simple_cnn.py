"""The simple CNN, against its oracle in float64 and by laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool.models.simple_cnn import SimpleCNN
from tests.oracles import simple_cnn as oracle

SHAPES = [(3, 1), (2, 1), (4, 1), (5, 1), (2, 2), (4, 2)]


@pytest.mark.parametrize(("filter_size", "stride"), SHAPES)
@pytest.mark.usefixtures("x64")
def test_every_layer_agrees_with_the_oracle(filter_size, stride):
    params = oracle.normal_params(3, 6, filter_size, 0)
    images = np.random.default_rng(1).standard_normal((5, 32, 1))
    _, activations = SimpleCNN(6, 3, filter_size, stride).apply(
        {"params": jax.tree.map(jnp.asarray, params)}, jnp.asarray(images)
    )
    expected = oracle.forward(params, images, filter_size, stride)
    assert list(activations) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(activations[name], value, rtol=0, atol=1e-12, err_msg=name)


def test_output_is_the_readout():
    model = SimpleCNN(4, 2, 3, 1)
    images = jnp.ones((2, 8, 1))
    params = model.init(jax.random.key(0), images)
    output, activations = model.apply(params, images)
    np.testing.assert_array_equal(output, activations["linear"][:, 0])


def test_initialization_is_standard_normal_everywhere():
    params = SimpleCNN(64, 4, 3, 1).init(jax.random.key(0), jnp.ones((1, 32, 1)))["params"]
    for name, layer in params.items():
        for leaf in layer.values():
            count = leaf.size
            # Five standard errors of mean and variance of a standard normal sample.
            assert abs(leaf.mean()) < 5 / np.sqrt(count), name
            assert abs((leaf**2).mean() - 1) < 5 * np.sqrt(2 / count), name


def test_the_network_is_translation_invariant():
    model = SimpleCNN(8, 4, 3, 1)
    image = jax.random.normal(jax.random.key(1), (1, 32, 1))
    params = model.init(jax.random.key(0), image)
    shifted = jnp.roll(image, 5, axis=1)
    np.testing.assert_allclose(
        model.apply(params, image)[0], model.apply(params, shifted)[0], rtol=1e-5
    )


def test_a_network_too_deep_for_the_ring_is_refused():
    with pytest.raises(ValueError, match=r"conv06 gets 1 positions.*longer data.length"):
        SimpleCNN(2, 6, 2, 2).init(jax.random.key(0), jnp.ones((1, 32, 1)))
