"""Channel shuffle and mean channel, by their laws."""

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool.instruments import channels
from cnnpool.models.simple_cnn import SimpleCNN
from tests.oracles import receptive_field as oracle

MODEL = SimpleCNN(6, 4, 3, 1)
IMAGES = jax.random.normal(jax.random.key(1), (3, 16, 1))


@pytest.fixture
def params():
    return MODEL.init(jax.random.key(0), IMAGES)["params"]


def output(params):
    return np.asarray(MODEL.apply({"params": params}, IMAGES)[0])


def shuffled(params, seed=0):
    return channels.shuffle_channels(params, jax.random.key(seed), pattern=r"conv(?!01/)\d+/kernel")


def test_shuffling_keeps_the_multiset_of_filters_and_all_else(params):
    new = shuffled(params)
    assert any((new[k]["kernel"] != params[k]["kernel"]).any() for k in ("conv02", "conv03"))
    for name, layer in params.items():
        np.testing.assert_array_equal(new[name]["bias"], layer["bias"])
        if name in ("conv01", "linear"):
            np.testing.assert_array_equal(new[name]["kernel"], layer["kernel"])
            continue
        for feature in range(6):
            before = sorted(map(tuple, np.asarray(layer["kernel"][:, :, feature]).T))
            after = sorted(map(tuple, np.asarray(new[name]["kernel"][:, :, feature]).T))
            assert before == after, "a filter of one output channel must only change its input"


def test_one_permutation_serves_all_filters_of_a_kernel_and_kernels_differ(params):
    new, orders = shuffled(params), []
    for name in ("conv02", "conv03", "conv04"):
        old, kernel = np.asarray(params[name]["kernel"]), np.asarray(new[name]["kernel"])
        order = [int(np.flatnonzero(old[0, :, 0] == value)[0]) for value in kernel[0, :, 0]]
        np.testing.assert_array_equal(kernel, old[:, order])
        orders.append(tuple(order))
    assert len(set(orders)) > 1


def test_shuffling_depends_on_the_key_only(params):
    np.testing.assert_array_equal(output(shuffled(params)), output(shuffled(params)))
    assert (output(shuffled(params, 0)) != output(shuffled(params, 1))).any()


def test_relabelling_channels_leaves_the_function_alone(params):
    order = jax.random.permutation(jax.random.key(3), 6)
    new = jax.tree.map(lambda leaf: leaf, params)
    new["conv02"] = {
        "kernel": params["conv02"]["kernel"][..., order],
        "bias": params["conv02"]["bias"][order],
    }
    new["conv03"]["kernel"] = params["conv03"]["kernel"][:, order]
    np.testing.assert_allclose(output(new), output(params), rtol=1e-5)


def test_a_kernel_is_shuffled_alone_as_among_all(params):
    alone = channels.shuffle_channels(params, jax.random.key(0), pattern="conv03/kernel")
    np.testing.assert_array_equal(alone["conv03"]["kernel"], shuffled(params)["conv03"]["kernel"])
    np.testing.assert_array_equal(alone["conv02"]["kernel"], params["conv02"]["kernel"])


def test_filters_of_a_depthwise_kernel_are_permuted():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 1, 40))
    params = {"depthwise_conv": {"kernel": kernel}}
    new = channels.shuffle_channels(
        params, jax.random.key(1), pattern=".*", depthwise="depthwise_conv/kernel"
    )["depthwise_conv"]["kernel"]
    assert (new != kernel).any(), "its input axis has length 1: permuting that shuffles nothing"
    before, after = (sorted(map(tuple, np.asarray(k).reshape(9, 40).T)) for k in (kernel, new))
    assert before == after


def test_a_depthwise_kernel_that_is_not_named_is_refused():
    params = {"dw": {"kernel": jnp.ones((3, 3, 1, 40))}, "pw": {"kernel": jnp.ones((1, 1, 40, 8))}}
    with pytest.raises(ValueError, match=r"dw/kernel has shape \(3, 3, 1, 40\), one channel"):
        channels.shuffle_channels(params, jax.random.key(0), pattern=".*")
    with pytest.raises(ValueError, match="'wd/kernel' matches no parameter; there are dw/kernel"):
        channels.shuffle_channels(params, jax.random.key(0), pattern="pw.*", depthwise="wd/kernel")


def mean_channel(params):
    return channels.mean_channel_filters(
        params, pattern=r"conv\d+/(kernel|bias)", image_layer="conv01/.*"
    )


def test_mean_channel_is_idempotent_and_keeps_shapes_and_readout(params):
    once = mean_channel(params)
    twice = mean_channel(once)
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(twice), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert jax.tree.map(jnp.shape, once) == jax.tree.map(jnp.shape, params)
    np.testing.assert_array_equal(once["linear"]["kernel"], params["linear"]["kernel"])
    assert float(jnp.ptp(once["conv02"]["kernel"], axis=(1, 2)).max()) == 0
    assert float(jnp.ptp(once["conv02"]["bias"])) == 0


def test_mean_channel_keeps_the_image_channels_of_the_first_layer():
    params = {
        "conv01": {"kernel": jax.random.normal(jax.random.key(0), (3, 2, 5)), "bias": jnp.ones(5)}
    }
    kernel = mean_channel(params)["conv01"]["kernel"]
    expected = np.asarray(params["conv01"]["kernel"]).mean(-1)
    np.testing.assert_allclose(kernel[..., 0], expected, rtol=1e-6)
    assert (kernel[:, 0] != kernel[:, 1]).all()


def test_mean_filters_agree_with_the_oracle(params):
    found = channels.mean_filters(params, pattern=r"conv\d+/kernel")
    plain = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    np.testing.assert_allclose(
        np.stack([found[f"conv{k:02d}"] for k in range(1, 5)]),
        oracle.mean_filters(plain),
        atol=1e-7,
    )


@pytest.mark.parametrize(
    "transform",
    [
        lambda p: channels.shuffle_channels(p, jax.random.key(0), pattern="cnov.*"),
        lambda p: channels.mean_channel_filters(p, pattern="conv.*", image_layer="conv1/.*"),
        lambda p: channels.mean_filters(p, pattern="kernel"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(params, transform):
    with pytest.raises(
        ValueError, match="matches no parameter; there are conv01/bias, conv01/kernel"
    ):
        transform(params)


def as_equinox(key):
    first, second = jax.random.split(key)
    return [equinox.nn.Conv2d(3, 6, 3, key=first), equinox.nn.Conv2d(6, 5, 3, key=second)]


def test_any_pytree_is_shuffled_by_path_and_axis():
    network = as_equinox(jax.random.key(0))
    assert channels.paths(network) == ["0/weight", "0/bias", "1/weight", "1/bias"]
    new = channels.shuffle_channels(
        network, jax.random.key(1), pattern="1/weight", input_axis=1, output_axis=0
    )
    order = [
        int(np.flatnonzero(np.asarray(network[1].weight)[0, :, 0, 0] == value)[0])
        for value in np.asarray(new[1].weight)[0, :, 0, 0]
    ]
    assert sorted(order) == list(range(6))
    np.testing.assert_array_equal(new[1].weight, network[1].weight[:, jnp.array(order)])
    np.testing.assert_array_equal(new[0].weight, network[0].weight)


def test_channels_first_are_averaged_as_channels_last():
    network = as_equinox(jax.random.key(0))
    new = channels.mean_channel_filters(
        network, pattern="[01]/.*", image_layer="0/.*", input_axis=1, output_axis=0
    )
    for layer, axes in zip(range(2), ((0,), (0, 1)), strict=True):
        expected = np.asarray(network[layer].weight).mean(axes, keepdims=True)
        np.testing.assert_allclose(
            new[layer].weight,
            np.broadcast_to(expected, network[layer].weight.shape),
            rtol=1e-5,
            atol=1e-7,
        )
        assert np.ptp(new[layer].bias) == 0
        np.testing.assert_allclose(new[layer].bias[0, 0, 0], network[layer].bias.mean(), rtol=1e-5)


def test_a_bias_cannot_be_shuffled(params):
    with pytest.raises(ValueError, match=r"conv02/bias matches .* no kernel"):
        channels.shuffle_channels(params, jax.random.key(0), pattern="conv02/.*")


def both_shuffled(params, seed=0):
    return channels.shuffle_both_axes(params, jax.random.key(seed), pattern=r"conv\d+/kernel")


def orders(old, new):
    """(inputs, outputs) of a kernel of different numbers: new[..., i, o] = old[..., p[i], q[o]]."""
    place = {value: index for index, value in np.ndenumerate(np.asarray(old)[0])}
    found = np.array([[place[value] for value in row] for row in np.asarray(new)[0]])
    np.testing.assert_array_equal(found[..., 0], found[:, :1, 0].repeat(found.shape[1], 1))
    return found[:, 0, 0], found[0, :, 1]


def test_both_axes_are_permuted_by_orders_of_their_own_and_filters_are_kept(params):
    new = both_shuffled(params)
    for name in ("conv01", "conv02", "conv03", "conv04"):
        old = params[name]["kernel"]
        inputs, outputs = orders(old, new[name]["kernel"])
        expected = np.asarray(old)[:, inputs][..., outputs]
        np.testing.assert_array_equal(new[name]["kernel"], expected)
        taps = (sorted(map(tuple, np.asarray(k).reshape(3, -1).T)) for k in (old, expected))
        assert next(taps) == next(taps), "the multiset of filters"
        np.testing.assert_array_equal(new[name]["bias"], params[name]["bias"])
        plain = shuffled(params)[name]["kernel"]
        if name != "conv01":  # its one input channel has nothing to permute
            np.testing.assert_array_equal(inputs, orders(old, plain)[0])
            assert inputs.tolist() != outputs.tolist()
    np.testing.assert_array_equal(new["linear"]["kernel"], params["linear"]["kernel"])


def test_both_axes_and_the_biases_are_a_shuffle_of_inputs_alone(params):
    """Names of channels mean nothing: K[p(i), q(o)], b[q(o)] is K[p(r^-1(i)), o] renamed."""
    new, plain = both_shuffled(params), jax.tree.map(lambda leaf: leaf, params)
    moved = jax.tree.map(lambda leaf: leaf, new)
    before = np.arange(1)
    for name in ("conv01", "conv02", "conv03", "conv04"):
        inputs, outputs = orders(params[name]["kernel"], new[name]["kernel"])
        moved[name]["bias"] = params[name]["bias"][outputs]
        plain[name]["kernel"] = params[name]["kernel"][:, inputs[np.argsort(before)]]
        before = outputs
    moved["linear"]["kernel"] = params["linear"]["kernel"][before]
    np.testing.assert_allclose(output(moved), output(plain), rtol=1e-5)
    assert not np.allclose(output(new), output(plain), rtol=1e-3), "the biases did not move"


def test_no_filter_of_both_axes_is_lost_where_one_has_length_one():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 1, 40))
    new = channels.shuffle_both_axes({"dw": kernel}, jax.random.key(1), pattern="dw")["dw"]
    assert (new != kernel).any()
    before, after = (sorted(map(tuple, np.asarray(k).reshape(9, 40).T)) for k in (kernel, new))
    assert before == after
    with pytest.raises(ValueError, match=r"bias matches .* no kernel"):
        channels.shuffle_both_axes({"bias": kernel[0, 0, 0]}, jax.random.key(1), pattern="bias")


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (6, 6, 3, 3), (64, 64, 1, 1), (16, 3, 5, 5)])
@pytest.mark.parametrize(
    "transform",
    [
        lambda kernel: channels.shuffle_channels(kernel, jax.random.key(0), pattern=".*"),
        lambda kernel: channels.shuffle_both_axes(kernel, jax.random.key(0), pattern=".*"),
        lambda kernel: channels.mean_channel_filters({"k": kernel}, pattern="k", image_layer="k"),
    ],
)
def test_channels_first_kernels_are_not_taken_for_channels_last(transform, shape):
    with pytest.raises(
        ValueError, match=r"look like rows and columns.* input_axis=1, output_axis=0"
    ):
        transform(jnp.ones(shape))


@pytest.mark.parametrize("shape", [(3, 3, 8, 4), (3, 3, 3, 3), (5, 5, 3, 3), (2, 2, 4, 4)])
def test_channels_last_kernels_of_any_size_are_shuffled(shape):
    kernel = jnp.arange(float(np.prod(shape))).reshape(shape)
    shuffled = channels.shuffle_channels(kernel, jax.random.key(0), pattern=".*")
    assert sorted(shuffled.ravel()) == sorted(kernel.ravel())


def test_vectors_are_permuted_only_where_they_belong_to_a_kernel():
    params = {"conv": {"kernel": jnp.ones((3, 3, 2, 8)), "bias": jnp.arange(8.0)}}
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="no vector to permute; there are conv/bias, conv/kernel"):
        channels.shuffle_vectors(params, key, kernel_of=lambda path: None)
    owners = {"conv/bias": "conv/kernel"}
    new = channels.shuffle_vectors(params, key, kernel_of=owners.get)["conv"]
    assert sorted(new["bias"].tolist()) == list(range(8)) != new["bias"].tolist()
    assert new["kernel"] is params["conv"]["kernel"]
