"""Linen modules, their layers found by themselves, against the same network as a function."""

from flax import linen
import jax
from jax.tree_util import Partial
import numpy as np
import pytest

import cnnpool as cp
from cnnpool.figures import depth_curves
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.instruments.channels import shuffle_both_axes, shuffle_channels
from cnnpool.measuring.inputs import measurement_keys
from tests.library.networks import assert_same, images, network, weights


class Net(linen.Module):
    """Modules are made in another order than they run in."""

    @linen.compact
    def __call__(self, x, train: bool):
        second = linen.Conv(16, (3, 3), padding="VALID", use_bias=False, name="conv2")
        first = linen.Conv(8, (3, 3), padding="VALID", use_bias=False, name="conv1")
        x = linen.relu(first(x))
        x = linen.Dropout(0.5, deterministic=not train)(x)
        return linen.Dense(5, use_bias=False, name="linear")(linen.relu(second(x)).mean((1, 2)))


def variables():
    return {"params": {name: {"kernel": kernel} for name, kernel in weights().items()}}


def kernels(variables):
    return {name: one["kernel"] for name, one in variables["params"].items()}


def test_it_is_the_same_network_as_a_function():
    found = cp.measure(Net(), images(), variables=variables())
    assert found["layer"].values.tolist() == ["conv1", "conv2", "linear"]
    assert_same(found, cp.measure(Partial(network, weights()), images()))


@pytest.mark.parametrize(
    ("transform", "law", "pattern"),
    [
        ("channel_shuffle", shuffle_channels, "params/conv2/kernel"),
        ("channel_shuffle_image", shuffle_channels, "params/conv./kernel"),
        ("channel_shuffle_both", shuffle_both_axes, "params/conv./kernel"),
    ],
)
def test_shuffles_are_those_of_the_channels(transform, law, pattern):
    transforms = ("none", transform)
    found = cp.measure(Net(), images(), variables=variables(), transforms=transforms, shuffles=2)
    key = jax.random.fold_in(measurement_keys(0).transform, 0)
    for number in range(2):
        shuffled = law(variables(), jax.random.fold_in(key, number), pattern=pattern)
        one = cp.measure(Partial(network, kernels(shuffled)), images())
        assert_same(found.sel(transform=transform, shuffle=number), one)
    assert np.isnan(found["D"].sel(transform="none", shuffle=1)).all()


def test_figures_take_them_with_their_pooling_budget():
    transforms = ("none", "channel_shuffle")
    found = cp.measure(Net(), images(), variables=variables(), transforms=transforms, shuffles=2)
    assert {"spatial_share", "layer_spatial_share_se"} <= set(found)
    curves = depth_curves.relative_sensitivity_series(
        [MeasuredNetwork(found, "here")], item="Figure 2"
    )
    assert [one.curve for one in curves] == ["original", "channels shuffled"]
    assert len(found.cnnpool.plot().axes[0].containers) == 2


def test_all_modules_by_a_pattern_and_repeated_calls_by_their_number():
    class Twice(linen.Module):
        @linen.compact
        def __call__(self, x):
            same = linen.Conv(3, (3, 3), name="same")
            return linen.LayerNorm(name="norm")(same(same(x)))

    net = Twice()
    found = net.init(jax.random.key(0), images(2))
    assert list(cp.flax.features(net, found)(images(2))) == ["same", "same:2"]
    assert list(cp.flax.features(net, found, ["*"])(images(2))) == ["same", "same:2", "norm"]


def test_what_is_missing_is_said():
    with pytest.raises(TypeError, match="expected variables="):
        cp.measure(Net(), images())
    with pytest.raises(ValueError, match="did you mean 'channel_shuffle'"):
        cp.measure(Net(), images(), variables=variables(), transforms="chanel_shuffle")


def test_a_module_in_training_mode_is_noticed():
    class Normed(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.BatchNorm(use_running_average=False, name="bn")(x)

    found = Normed().init(jax.random.key(0), images(2))
    features = cp.flax.features(Normed(), found, ["*"], mutable="batch_stats")
    with pytest.raises(ValueError, match=r"another batch.*training mode"):
        cp.measure(features, images())


def test_kernels_are_permuted_along_their_input_channels():
    class Several(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(6, (3, 3), name="first")(x)
            x = linen.Conv(6, (3, 3), feature_group_count=6, name="depthwise")(x)
            x = linen.ConvTranspose(5, (3, 3), name="transposed")(x)
            return linen.ConvTranspose(4, (3, 3), transpose_kernel=True, name="turned")(x)

    net = cp.flax.features(Several(), Several().init(jax.random.key(0), images(2)))
    ready = net.prepared(images(2))
    changed = kernels(ready.transformed("channel_shuffle", jax.random.key(1)).variables)
    for name, axis in {"depthwise": -1, "transposed": -2, "turned": -1}.items():
        own, other = (np.asarray(k[name]) for k in (kernels(net.variables), changed))
        assert not np.array_equal(own, other)
        rows = [{row.tobytes() for row in np.moveaxis(k, axis, 0)} for k in (own, other)]
        assert rows[0] == rows[1], name


def test_kernels_whose_inputs_are_mixed_with_their_window_are_refused():
    class Local(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(4, (3, 3), name="first")(x)
            return linen.ConvLocal(4, (3, 3), name="local")(x)

    found = Local().init(jax.random.key(0), images(2))
    assert np.isfinite(cp.measure(Local(), images(), variables=found)["D"]).all()
    with pytest.raises(ValueError, match=r"params/local/kernel: which axes .* is not known"):
        cp.measure(Local(), images(), variables=found, transforms="channel_shuffle")


def test_sequential_modules_are_measured():
    """Their list has no hash; a shuffled network is still the same program."""
    layers = [linen.Conv(8, (3, 3)), linen.relu, linen.Conv(6, (3, 3)), linen.relu]
    net = linen.Sequential(layers)
    features = cp.flax.features(net, net.init(jax.random.key(0), images(2))).prepared(images(2))
    assert list(features(images(2))) == ["layers_0", "layers_2"]
    assert features.traced.func is features.only(["layers_2"]).only(None).traced.func
    shuffled = features.transformed("channel_shuffle", jax.random.key(1))
    assert jax.tree.structure(shuffled.traced) == jax.tree.structure(features.traced)


@pytest.mark.parametrize("lifted", [linen.remat, linen.jit])
def test_layers_inside_lifted_transforms_are_measured(lifted):
    class Lifted(linen.Module):
        @linen.compact
        def __call__(self, x):
            return lifted(linen.Conv)(4, (3, 3), name="second")(
                linen.Conv(4, (3, 3), name="one")(x)
            )

    net = cp.flax.features(Lifted(), Lifted().init(jax.random.key(0), images(2)))
    assert list(net(images(2))) == ["one", "second"]
    assert [kernel.path for kernel in net.prepared(images(2)).kernels] == [
        "params/one/kernel",
        "params/second/kernel",
    ]


def test_layers_inside_a_scan_are_not_shuffled_in_silence():
    class Block(linen.Module):
        @linen.compact
        def __call__(self, x, _):
            return linen.Conv(4, (3, 3), name="conv")(x), None

    class Scanned(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(4, (3, 3), name="first")(x)
            axes, rngs = {"params": 0}, {"params": True}
            scanned = linen.scan(Block, variable_axes=axes, split_rngs=rngs, length=2)
            return linen.Conv(4, (3, 3), name="last")(scanned(name="blocks")(x, None)[0])

    found = Scanned().init(jax.random.key(0), images(2))
    assert list(cp.flax.features(Scanned(), found)(images(2))) == ["first", "last"]
    with pytest.raises(ValueError, match=r"params/blocks/conv/kernel: which axes"):
        cp.measure(Scanned(), images(), variables=found, transforms="channel_shuffle")


class WithAnotherFlag(linen.Module):
    @linen.compact
    def __call__(self, x, is_train, temperature=1.0):
        return linen.BatchNorm(use_running_average=not is_train)(x) / temperature


def test_an_argument_that_the_call_needs_is_asked_for():
    with pytest.raises(TypeError, match=r"the module's call needs is_train: .*, is_train=\.\.\.\)"):
        cp.flax.features(WithAnotherFlag(), {})
    assert cp.flax.features(WithAnotherFlag(), {}, is_train=False).label == "WithAnotherFlag"
