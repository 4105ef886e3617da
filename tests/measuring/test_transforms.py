"""Transforms of classifiers by name."""

import functools
import itertools

from flax.traverse_util import flatten_dict
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool import models
from cnnpool.configs import cifar10
from cnnpool.measuring import transforms
from cnnpool.training.variables import Variables


@functools.cache
def network(name):
    config = cifar10.get_config("paper").unlock()
    config.model.name = name
    if name.startswith(("vgg", "resnet")):
        config.model.width_factor = 0.1
    model = models.build(config.model)
    shapes = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(1), jnp.zeros((1, 32, 32, 3))
    )
    random = np.random.default_rng(0)
    made = jax.tree.map(lambda a: jnp.asarray(random.random(a.shape), jnp.float32), shapes)
    return Variables(made["params"], made.get("batch_stats", {}))


def changed(name, variables, seed=0):
    new = transforms.transform_variables(name, variables, jax.random.key(seed))
    before, after = (flatten_dict(v._asdict(), sep="/") for v in (variables, new))
    assert before.keys() == after.keys()
    return {path for path in before if (before[path] != after[path]).any()}


def kernels(variables, *, main_only=False):
    paths = flatten_dict(variables.params, sep="/")
    return {
        f"params/{path}"
        for path in paths
        if "conv" in path and path.endswith("kernel") and not (main_only and "shortcut" in path)
    }


def test_the_one_channel_of_grey_images_stays_where_it_is():
    variables = network("lenet")
    grey = jax.tree.map(lambda leaf: leaf, variables)
    grey.params["conv01"]["kernel"] = grey.params["conv01"]["kernel"][:, :, :1]
    assert changed("channel_shuffle_image", grey) == {"params/conv02/kernel"}
    assert changed("channel_shuffle:conv01", grey) == set()


@pytest.mark.parametrize("name", ["vgg11_bn", "resnet18", "efficientnet_b0"])
def test_a_shuffle_changes_every_convolution_but_the_first_and_nothing_else(name):
    variables = network(name)
    found = changed("channel_shuffle", variables)
    wanted = kernels(variables) - {"params/conv01/kernel"}
    if name == "resnet18":
        assert any("shortcut_conv" in path for path in found)
    if name == "efficientnet_b0":
        assert sum("depthwise_conv" in path for path in found) == 16
        assert sum("excite_conv" in path for path in found) == 16
    assert found == wanted


def test_the_image_channels_are_shuffled_where_asked_for():
    variables = network("vgg11_bn")
    both = changed("channel_shuffle_image", variables) - changed("channel_shuffle", variables)
    # One of six permutations of three channels changes nothing: with this key it does change.
    assert both == {"params/conv01/kernel"}


@pytest.mark.parametrize("name", ["vgg11_bn", "efficientnet_b0"])
def test_both_axes_of_every_convolution_change_and_nothing_else(name):
    variables = network(name)
    assert changed("channel_shuffle_both", variables) == kernels(variables)
    assert changed("channel_shuffle_both:conv01", variables) == {"params/conv01/kernel"}


def pairs(variables):
    """For each convolution with its batch norm, {weights of a filter, sorted: its vectors}."""
    flat = flatten_dict(variables._asdict(), sep="/")
    found = {}
    for path in kernels(variables):
        conv = path.removeprefix("params/").removesuffix("/kernel")
        layers = conv, conv.replace("conv", "bn")
        vectors = [
            flat[f"{tree}/{layer}/{name}"]
            for tree, layer, name in itertools.product(
                ("params", "batch_stats"), layers, ("bias", "scale", "mean", "var")
            )
            if f"{tree}/{layer}/{name}" in flat
        ]
        filters = np.sort(np.moveaxis(np.asarray(flat[path]), -1, 0).reshape(len(vectors[0]), -1))
        belonging = np.stack(vectors, -1)
        found[path] = {tuple(f): tuple(v) for f, v in zip(filters, belonging, strict=True)}
    return found


@pytest.mark.parametrize("name", ["lenet", "vgg11_bn", "resnet18", "efficientnet_b0"])
def test_vectors_alone_meet_the_filters_that_they_meet_when_both_axes_are_shuffled(name):
    variables, key = network(name), jax.random.key(0)
    alone, both = (
        transforms.transform_variables(f"channel_shuffle_{kind}", variables, key)
        for kind in ("vectors", "both")
    )
    assert pairs(alone) == pairs(both) != pairs(variables)
    found = changed("channel_shuffle_vectors", variables)
    everything = flatten_dict(variables._asdict(), sep="/")
    assert found == {path for path in everything if not path.endswith("kernel")} - {
        path for path in everything if "linear" in path
    }


def test_a_recalibrated_shuffle_is_the_plain_one_with_other_statistics():
    variables, key = network("vgg11_bn"), jax.random.key(0)
    both = (
        transforms.transform_variables(name, variables, key).params
        for name in ("channel_shuffle", "channel_shuffle_recalibrated")
    )
    jax.tree.map(np.testing.assert_array_equal, *both)
    for name in ("channel_shuffle_recalibrated", "channel_shuffle_recalibrated:conv03"):
        assert transforms.recalibrates(name)
        assert transforms.is_random(name)
        assert transforms.equivalent(name, variables) == name
    assert not transforms.recalibrates("channel_shuffle:conv03")
    same = transforms.equivalent("channel_shuffle_recalibrated:conv03", variables, untrained=True)
    assert same == "channel_shuffle:conv03", "before training statistics are the images' anyway"
    without = network("lenet")
    found = transforms.equivalent("channel_shuffle_recalibrated", without)
    assert found == "channel_shuffle", "no batch norm, nothing to recalibrate"
    assert transforms.equivalent("own_statistics", without) == "none"


def relabelled(variables, *, with_vectors):
    """Both axes of every kernel permuted, every input as the outputs that it reads."""
    random, order = np.random.default_rng(1), np.arange(3)
    new = jax.tree.map(lambda leaf: leaf, variables)
    for k in range(1, 9):
        conv, bn = f"conv{k:02d}", f"bn{k:02d}"
        before, order = order, random.permutation(len(variables.params[conv]["bias"]))
        kernel = variables.params[conv]["kernel"]
        new.params[conv]["kernel"] = kernel[:, :, before][..., order]
        if with_vectors:
            for layer in (new.params[conv], new.params[bn], new.batch_stats[bn]):
                layer |= {name: leaf[order] for name, leaf in layer.items() if leaf.ndim == 1}
    new.params["linear09"]["kernel"] = variables.params["linear09"]["kernel"][order]
    return new


def test_relabelling_channels_with_biases_and_statistics_leaves_the_function_alone():
    variables = network("vgg11_bn")
    config = cifar10.get_config("paper").unlock()
    config.model.width_factor = 0.1
    model = models.build(config.model)
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))

    @jax.jit
    def output(net):
        return model.apply(net._asdict(), images, train=False)[0]

    whole, moved, left = (
        output(net)
        for net in (
            variables,
            relabelled(variables, with_vectors=True),
            relabelled(variables, with_vectors=False),
        )
    )
    # Sums of some hundred terms in another order, through eight layers of float32.
    np.testing.assert_allclose(moved, whole, rtol=1e-4)
    assert not np.allclose(left, whole, rtol=1e-2), "vectors that stay behind change the network"


def test_a_layer_is_shuffled_alone_and_as_it_is_among_all():
    variables = network("vgg11_bn")
    key = jax.random.key(0)
    assert changed("channel_shuffle:conv03", variables) == {"params/conv03/kernel"}
    alone = transforms.transform_variables("channel_shuffle:conv03", variables, key)
    all_of_them = transforms.transform_variables("channel_shuffle", variables, key)
    np.testing.assert_array_equal(
        alone.params["conv03"]["kernel"], all_of_them.params["conv03"]["kernel"]
    )


def test_mean_filters_average_four_batch_norm_vectors_and_spare_linear_layers():
    variables = network("vgg11_bn")
    new = transforms.transform_variables("mean_channel_filters", variables, jax.random.key(0))
    for collection, name in (
        ("params", "scale"),
        ("params", "bias"),
        ("batch_stats", "mean"),
        ("batch_stats", "var"),
    ):
        vector = getattr(new, collection)["bn03"][name]
        old = getattr(variables, collection)["bn03"][name]
        np.testing.assert_allclose(vector, np.full(len(old), np.mean(old)), rtol=1e-6)
    assert jnp.ptp(new.params["conv03"]["kernel"], axis=(2, 3)).max() == 0
    image_kernel = new.params["conv01"]["kernel"]
    assert jnp.ptp(image_kernel, axis=3).max() == 0
    assert (jnp.ptp(image_kernel, axis=2) > 0).all(), "image channels must stay apart"
    np.testing.assert_array_equal(
        new.params["linear09"]["kernel"], variables.params["linear09"]["kernel"]
    )


def test_names_are_parsed_against_the_network():
    params = network("vgg11_bn").params
    each = transforms.parse("none, channel_shuffle_each", params)
    assert each == ("none", *(f"channel_shuffle:conv{k:02d}" for k in range(2, 9)))
    assert transforms.parse("none,none", params) == ("none",)
    assert transforms.parse("channel_shuffle_both_each", params)[0] == "channel_shuffle_both:conv01"
    assert len(transforms.parse("channel_shuffle_recalibrated_each", params)) == 7
    with pytest.raises(ValueError, match="'channel_shuffle_image:conv03'; expected one of"):
        transforms.parse("channel_shuffle_image:conv03", params)
    with pytest.raises(ValueError, match=r"'shuffle'; expected one of .*'channel_shuffle'"):
        transforms.parse("shuffle", params)
    with pytest.raises(
        ValueError, match=r"convolution of channel_shuffle is 'conv9'.*did you mean 'conv0"
    ):
        transforms.parse("channel_shuffle:conv9", params)
    with pytest.raises(ValueError, match="matches no parameter"):
        transforms.parse("channel_shuffle", network("fully_connected_2").params)
