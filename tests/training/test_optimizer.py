"""Learning rates and optimizers against the protocol's formulas (sections 5 and 7)."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from cnnpool.training import optimizer

STEPS = 7  # of an epoch


def config(**fields):
    made = {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "cosine_period": 0.8,
        "warmup_epochs": 0,
        "clip_norm": None,
        "epochs": 250,
    }
    return ConfigDict(made | fields)


def rates(training, steps):
    found = optimizer.learning_rate(training, jnp.asarray(steps), steps_per_epoch=STEPS)
    return np.broadcast_to(found, steps.shape)


@pytest.mark.parametrize(("period", "epochs"), [(0.8, 250), (1.0, 15), (0.8, 300)])
def test_the_rate_of_every_epoch(period, epochs, x64):
    training = config(cosine_period=period, epochs=epochs)
    e = np.arange(epochs)
    expected = 0.1 * (1 + np.cos(np.pi * e / (period * epochs))) / 2
    for within in (0, STEPS - 1):
        np.testing.assert_allclose(rates(training, e * STEPS + within), expected, atol=1e-15)


def test_the_authors_period_lets_the_rate_rise_again(x64):
    found = rates(config(), np.arange(250) * STEPS)
    assert found.argmin() == 200
    np.testing.assert_allclose(found[200], 0, atol=1e-15)
    assert (np.diff(found[:200]) < 0).all()
    assert (np.diff(found[200:]) > 0).all()
    # cos(pi 249 / 200) = -0.718
    np.testing.assert_allclose(found[-1], 0.0141, rtol=1e-2)


def test_a_constant_rate(x64):
    training = config(schedule="constant", learning_rate=0.05)
    np.testing.assert_array_equal(rates(training, np.arange(250 * STEPS)), 0.05)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("epochs", [1, 3, 0.5])
def test_warm_up_multiplies_and_reaches_the_full_rate_at_its_end(schedule, epochs, x64):
    t = np.arange(5 * STEPS)
    full = rates(config(schedule=schedule), t)
    found = rates(config(schedule=schedule, warmup_epochs=epochs), t)
    length = epochs * STEPS
    np.testing.assert_allclose(found / full, np.minimum(1, (t + 1) / length), rtol=1e-14)
    np.testing.assert_array_equal(found[t >= length], full[t >= length])
    if epochs >= 1:
        np.testing.assert_allclose(found[length - 1], full[length - 1], rtol=1e-14)


def params():
    return {
        "kernel": jnp.full((2, 3), 2.0),
        "filter": jnp.full((1, 1, 2, 2), 3.0),
        "bias": jnp.full(3, 5.0),
        "scale": jnp.asarray(7.0),
    }


def updates(training, gradients, *, count=1):
    """What `count` steps with the same gradient add to the parameters."""
    rule = optimizer.build(training, steps_per_epoch=STEPS)
    state, values = rule.init(params()), params()
    for _ in range(count):
        found, state = rule.update(gradients, state, values)
        values = jax.tree.map(jnp.add, values, found)
    return jax.tree.map(jnp.subtract, values, params())


def test_decay_touches_tensors_of_two_or_more_dimensions_only(x64):
    nothing = jax.tree.map(jnp.zeros_like, params())
    found = updates(config(weight_decay=0.5), nothing)
    np.testing.assert_allclose(found["kernel"], -0.1 * 0.5 * 2, rtol=1e-14)
    np.testing.assert_allclose(found["filter"], -0.1 * 0.5 * 3, rtol=1e-14)
    np.testing.assert_array_equal(found["bias"], 0)
    np.testing.assert_array_equal(found["scale"], 0)


def test_momentum_goes_on_with_the_old_gradients_and_the_rates_of_their_steps(x64):
    gradient = jax.tree.map(jnp.ones_like, params())
    training = config(momentum=0.9, epochs=2, weight_decay=0.0)
    velocity, total = 0.0, 0.0
    for t in range(STEPS + 3):
        velocity = 0.9 * velocity + 1
        total -= 0.1 * (1 + np.cos(np.pi * (t // STEPS) / (0.8 * 2))) / 2 * velocity
    found = updates(training, gradient, count=STEPS + 3)
    for leaf in jax.tree.leaves(found):
        np.testing.assert_allclose(leaf, total, rtol=1e-12)


@pytest.mark.parametrize("size", [0.01, 4.0])
def test_clipping_to_a_norm_over_all_tensors_before_the_decay(size, x64):
    random = np.random.default_rng(0)
    gradient = jax.tree.map(lambda p: jnp.asarray(random.normal(size=p.shape)), params())
    norm = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in gradient.values()))
    gradient = {k: g * size / norm for k, g in gradient.items()}
    found = updates(config(clip_norm=0.5, weight_decay=0.1), gradient)
    factor = min(1, 0.5 / size)
    for name, value in params().items():
        decay = 0.1 * value if value.ndim >= 2 else 0.0
        expected = -0.1 * (factor * gradient[name] + decay)
        np.testing.assert_allclose(found[name], expected, rtol=1e-11, err_msg=name)


def test_the_first_step_of_adam_is_the_sign_of_the_gradient(x64):
    gradient = jax.tree.map(lambda p: jnp.full_like(p, -3.0), params())
    found = updates(config(optimizer="adam", schedule="constant"), gradient)
    for leaf in jax.tree.leaves(found):
        np.testing.assert_allclose(leaf, 0.1, rtol=1e-7)  # eps 1e-8 over a gradient of 3


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer", "sdg", "training.optimizer is 'sdg'; expected 'sgd' or 'adam'"),
        ("schedule", "linear", "training.schedule is 'linear'; expected 'cosine' or 'constant'"),
        *(
            (field, value, f"training.{field} must be positive and finite, got {value}")
            for field in ("learning_rate", "cosine_period", "clip_norm")
            for value in (0.0, -0.1, float("nan"), float("inf"))
        ),
        *(
            (field, value, f"training.{field} must be finite and not negative, got {value}")
            for field in ("momentum", "weight_decay", "warmup_epochs")
            for value in (-0.1, float("nan"), float("inf"))
        ),
    ],
)
def test_impossible_fields_are_refused(field, value, message):
    with pytest.raises(ValueError, match="^" + message):
        optimizer.build(config(**{field: value}), steps_per_epoch=STEPS)
