"""The training step and blocks of epochs: gradient, skipping, seeds, devices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool.devices import runtime
from cnnpool.models.simple_cnn import SimpleCNN
from cnnpool.training import ring_setup
from cnnpool.training.groups import NO_STEP
from cnnpool.training.hinge import ridge_shrinkage
from cnnpool.training.ring_step import SGD, TrainingSet
from tests.oracles import simple_cnn as oracle


@pytest.fixture
def config(tiny_config):
    """Four small networks."""
    with tiny_config.unlocked():
        tiny_config.seeds = (0, 1, 2, 3)
    return tiny_config


def run(config, *, seeds=None, devices=1, start=0, stop=60, active=None, blocks=1, params=None):
    """Trains `seeds` for some epochs on some devices; returns numpy parameters and metrics."""
    with config.unlocked():
        config.seeds = tuple(seeds if seeds is not None else config.seeds)
    net = ring_setup.network(config)
    mesh = jax.make_mesh(
        (devices,), ("seed",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices]
    )
    state = ring_setup.initial_state(net, config.seeds, mesh)
    data = ring_setup.training_sets(config, net.data, mesh)
    sgd = ring_setup.sgd(config, net)
    block = sgd.compile(mesh, seeds_per_batch=config.runtime.seeds_per_batch)
    active = jnp.ones(len(config.seeds), bool) if active is None else jnp.array(active)
    params = state.networks if params is None else params
    edges = np.linspace(start, stop, blocks + 1).astype(int)
    for begin, end in itertools.pairwise(edges):
        params, metrics = block(params, data, active, int(begin), int(end))
    return jax.device_get(params), jax.device_get(metrics)


def leaves(params):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def same_bits(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(leaves(a), leaves(b), strict=True))


@pytest.mark.parametrize(("filter_size", "stride"), [(3, 1), (2, 1), (4, 1), (2, 2)])
@pytest.mark.usefixtures("x64")
def test_a_step_is_the_oracles_gradient_step(filter_size, stride):
    width, depth, ridge, learning_rate = 6, 3, 0.01, 0.06
    params = oracle.normal_params(depth, width, filter_size, 0)
    images = np.random.default_rng(0).standard_normal((8, 32, 1))
    labels = np.array([1.0, -1.0] * 4)
    gradient = oracle.gradient(params, images, labels, ridge, filter_size, stride)
    model = SimpleCNN(width, depth, filter_size, stride)
    shrinkage = ridge_shrinkage(
        params, ridge=ridge, width=width, depth=depth, learning_rate=learning_rate
    )
    sgd = SGD(lambda p, x: model.apply({"params": p}, x)[0], shrinkage, learning_rate, 8)
    stacked = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], params)
    new, (loss, needed) = sgd.step(
        stacked,
        jnp.asarray(images)[None],
        jnp.asarray(labels)[None],
        jnp.ones(1, bool),
        jnp.array(True),
    )
    expected = jax.tree.map(lambda p, g: (p - learning_rate * g)[None], params, gradient)
    for a, b in zip(leaves(new), leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    outputs = oracle.forward(params, images, filter_size, stride)["linear"][:, 0]
    assert float(loss[0]) == pytest.approx(np.maximum(0, 1 - labels * outputs).mean(), abs=1e-12)
    assert bool(needed)


def test_skipping_zero_gradients_changes_no_bit(config):
    skipped, metrics = run(config, stop=120)
    fraction = metrics.backward_fraction
    assert (fraction < 1).all(), "nothing was skipped: the test shows nothing"
    assert (fraction > 0).all()
    config.training.skip_zero_gradients = False
    unskipped, other = run(config, stop=120)
    assert same_bits(skipped, unskipped)
    np.testing.assert_array_equal(metrics.hinge, other.hinge)


def test_skipping_in_a_vectorized_group_changes_no_bit(config):
    config.runtime.seeds_per_batch = 4
    skipped, metrics = run(config, stop=120)
    assert (metrics.backward_fraction < 1).all()
    config.training.skip_zero_gradients = False
    assert same_bits(skipped, run(config, stop=120)[0])


@pytest.fixture
def long_config(config):
    """Networks that interpolate within 100 epochs, and are trained until most epochs do nothing."""
    with config.unlocked():
        config.seeds = (0, 1)
        config.training.ridge = 0.003
    return config


def test_epochs_are_really_left_out(long_config, monkeypatch):
    expected, _ = run(long_config, stop=400)
    monkeypatch.setattr(
        SGD, "shrink", lambda self, params, *_: jax.tree.map(jnp.zeros_like, params)
    )
    monkeypatch.setattr(SGD, "look", lambda *_: (jnp.array(True), jnp.array(1)))
    broken, _ = run(long_config, stop=400)
    for zero, value in zip(leaves(broken), leaves(expected), strict=True):
        assert (zero == 0).all()
        assert (value != 0).any()


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("strided", [False, True])
def test_leaving_out_epochs_changes_no_bit(long_config, group, strided):
    if strided:  # each output position sees one sector
        long_config.data.update(task="sector", length=16, scale=4, gap=0)
        long_config.model.update(filter_size=2, stride=2, depth=2)
    long_config.runtime.seeds_per_batch = group
    left_out, metrics = run(long_config, stop=400)
    assert (metrics.backward_fraction < 0.5).all()
    long_config.training.skip_zero_gradients = False
    every, other = run(long_config, stop=400)
    assert same_bits(left_out, every)
    np.testing.assert_array_equal(metrics.hinge, other.hinge)


@pytest.mark.parametrize("change", [{"ridge": 0.0}, {"ridge": -0.0005}, {"batch_size": 16}])
def test_leaving_out_epochs_changes_no_bit_with_another_training(long_config, change):
    long_config.training.update(change)
    left_out, metrics = run(long_config, stop=600)
    assert (metrics.backward_fraction < 1).all()
    long_config.training.skip_zero_gradients = False
    assert same_bits(left_out, run(long_config, stop=600)[0])


def test_leaving_out_epochs_changes_no_bit_on_two_devices(long_config):
    left_out, _ = run(long_config, stop=400, devices=2)
    long_config.training.skip_zero_gradients = False
    assert same_bits(left_out, run(long_config, stop=400, devices=2)[0])


def test_blocks_may_be_cut_within_epochs_that_are_left_out(long_config):
    assert same_bits(run(long_config, stop=400)[0], run(long_config, stop=400, blocks=13)[0])


def test_epochs_are_left_out_beside_a_frozen_network(long_config):
    long_config.runtime.seeds_per_batch = 2
    active = [True, False]
    left_out, metrics = run(long_config, stop=400, active=active)
    long_config.training.skip_zero_gradients = False
    every, other = run(long_config, stop=400, active=active)
    assert same_bits(left_out, every)
    np.testing.assert_array_equal(metrics.hinge, other.hinge)


def test_a_loss_that_the_ridge_removes_is_trained_first():
    """The ridge raises one image's margin above 1 within an epoch; its gradient counts before."""

    def output(p, x):
        return p["w"] * x[:, 0] + p["b"] * x[:, 1]

    images, labels = jnp.array([[[-0.1, 0.1], [0.0, 1.0]]]), jnp.ones((1, 2))
    start = {"w": jnp.array([2.0]), "b": jnp.array([11.9991])}
    for order in range(6):
        data = TrainingSet(images, labels, jnp.arange(2)[None], jax.random.key(order)[None])
        found = [
            SGD(output, {"w": 0.9999, "b": 1.0}, 1e-3, 1, skip).compile(
                runtime.seed_mesh(1), seeds_per_batch=1
            )(start, data, jnp.ones(1, bool), 0, 40)[0]
            for skip in (True, False)
        ]
        assert same_bits(*found)


def test_the_epochs_without_a_loss_are_foreseen(long_config):
    params = jax.tree.map(jnp.asarray, run(long_config, seeds=[0], stop=400)[0])
    net = ring_setup.network(long_config)
    data = ring_setup.training_sets(long_config, net.data, runtime.seed_mesh(1))
    sgd, active = ring_setup.sgd(long_config, net), jnp.ones(1, bool)

    def after(epochs):
        shrunk = sgd.shrink(params, active, 2, jnp.array(epochs))  # two steps an epoch
        margins = data.labels * jax.vmap(net.output)(shrunk, data.images)
        return bool((margins >= 1).all()), sgd.look(shrunk, data, active, 2)

    clear, (found, left) = after(0)
    assert clear
    assert bool(found)
    left = int(left)
    assert 3 < left < 64
    assert after(left)[0]
    assert not after(left + 3)[0]  # margins hardly bend within so few epochs


def test_representatives_stand_for_all_training_images(config):
    net = ring_setup.network(config)
    data = ring_setup.training_sets(config, net.data, runtime.seed_mesh(1))
    params = ring_setup.initial_state(net, config.seeds, runtime.seed_mesh(1)).networks
    margins = np.asarray(data.labels * jax.vmap(net.output)(params, data.images))
    for row, some in zip(margins, np.asarray(data.representatives), strict=True):
        assert len(np.unique(some)) < len(row)
        # Equal up to float32's rounding of outputs of order 1.
        assert all(np.abs(row[some] - one).min() < 1e-5 for one in row)
    config.model.stride = 2
    config.model.depth = 1
    strided = ring_setup.network(config)
    data = ring_setup.training_sets(config, strided.data, runtime.seed_mesh(1))
    np.testing.assert_array_equal(data.representatives, [np.arange(16)] * len(config.seeds))


def test_blocks_may_be_cut_anywhere(config):
    assert same_bits(run(config, stop=30)[0], run(config, stop=30, blocks=3)[0])


def test_seeds_trained_together_are_those_trained_alone(config):
    together, _ = run(config, stop=20)
    alone, _ = run(config, seeds=[2], stop=20)
    # XLA may round a vectorized program differently; parameters are of order 1.
    for a, b in zip(leaves(together), leaves(alone), strict=True):
        np.testing.assert_allclose(a[2], b[0], atol=20 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("devices", [2, 4])
def test_several_devices_give_the_result_of_one(config, devices):
    one, metrics = run(config, stop=20)
    several, other = run(config, stop=20, devices=devices)
    # One thread a device splits sums differently from all threads on one device; rounding
    # grows over 40 steps of a chaotic phase by a few orders of magnitude.
    for a, b in zip(leaves(one), leaves(several), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3)
    np.testing.assert_allclose(metrics.hinge, other.hinge, atol=1e-3)


def test_vectorized_seeds_give_the_result_of_seeds_in_turn(config):
    in_turn, _ = run(config, stop=3)
    config.runtime.seeds_per_batch = 4
    vectorized, _ = run(config, stop=3)
    for a, b in zip(leaves(in_turn), leaves(vectorized), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)  # six steps of float32 rounding


@pytest.mark.parametrize("group", [1, 4])
def test_a_finished_seed_is_frozen(config, group):
    config.runtime.seeds_per_batch = group
    net = ring_setup.network(config)
    start = ring_setup.initial_state(net, config.seeds, runtime.seed_mesh(1)).networks
    after, _ = run(config, stop=3, active=[True, False, True, True])
    all_active, _ = run(config, stop=3)
    for before, new, reference in zip(
        leaves(start), leaves(after), leaves(all_active), strict=True
    ):
        np.testing.assert_array_equal(new[1], before[1])
        np.testing.assert_array_equal(new[[0, 2, 3]], reference[[0, 2, 3]])
        assert (new[0] != before[0]).any()


def test_the_step_of_a_loss_that_is_not_finite_is_named(config):
    net = ring_setup.network(config)
    params = ring_setup.initial_state(net, config.seeds, runtime.seed_mesh(1)).networks
    params["linear"]["bias"] = params["linear"]["bias"].at[1].set(jnp.nan)
    _, metrics = run(config, start=5, stop=7, params=params)
    assert metrics.first_bad_step[1] == 0
    assert (metrics.first_bad_step[[0, 2, 3]] == NO_STEP).all()
    assert np.isnan(metrics.hinge[1])


def test_a_diverging_run_names_the_first_bad_step(config):
    config.training.learning_rate_per_channel = 1e20
    _, metrics = run(config, stop=5)
    assert (metrics.first_bad_step > 0).all()
    assert (metrics.first_bad_step < 10).all()  # two steps an epoch


def test_an_overflow_in_the_last_step_of_a_block_is_seen(config):
    config.training.batch_size = config.data.train_size  # one step an epoch
    config.training.ridge = -4e39  # blows kernels up by 3e38, beyond float32
    _, metrics = run(config, stop=1)
    assert np.isfinite(metrics.hinge).all(), "the loss before the update is finite"
    assert not metrics.finite.any()
