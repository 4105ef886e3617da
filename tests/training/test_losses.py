"""Losses against numpy, and what counts as wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool.training.losses import LOSSES

CROSS_ENTROPY, HINGE = LOSSES["cross_entropy"], LOSSES["hinge"]


def test_cross_entropy_is_minus_the_log_of_the_softmax(x64):
    outputs = np.random.default_rng(0).normal(size=(7, 5)) * 10
    labels = np.arange(7) % 5
    softmax = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
    expected = -np.log(softmax[np.arange(7), labels])
    found = CROSS_ENTROPY.values(jnp.asarray(outputs), jnp.asarray(labels))
    np.testing.assert_allclose(found, expected, rtol=1e-12)  # rounding of exp and log


def test_cross_entropy_survives_outputs_whose_exponential_overflows():
    found = CROSS_ENTROPY.values(jnp.array([[1e4, 0.0], [1e4, 0.0]]), jnp.array([0, 1]))
    np.testing.assert_array_equal(found, [0, 1e4])


def test_hinge_of_plus_and_minus_one():
    outputs = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0], np.float32)
    for label in (1, -1):
        labels = jnp.full(len(outputs), label)
        found = HINGE.values(jnp.asarray(outputs)[:, None], labels)
        np.testing.assert_array_equal(found, np.maximum(0, 1 - label * outputs))


def test_wrong_classes():
    outputs = jnp.array([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [-3.0, -2.0, -1.0]])
    np.testing.assert_array_equal(CROSS_ENTROPY.wrong(outputs, jnp.array([1, 1, 2])), [0, 1, 0])


@pytest.mark.parametrize("label", [1, -1])
def test_an_output_of_exactly_zero_is_wrong(label):
    outputs = jnp.array([[0.0], [-0.0], [1e-30], [-1e-30]])
    expected = [True, True, label < 0, label > 0]
    np.testing.assert_array_equal(HINGE.wrong(outputs, jnp.full(4, label)), expected)


def test_an_output_that_is_not_a_number_is_wrong_whatever_the_label():
    nan = jnp.nan
    assert HINGE.wrong(jnp.full((2, 1), nan), jnp.array([1, -1])).all()
    outputs = jnp.array([[nan, nan], [nan, nan], [nan, 1.0], [1.0, nan]])
    assert CROSS_ENTROPY.wrong(outputs, jnp.array([0, 1, 0, 0])).all()
    assert jnp.isnan(CROSS_ENTROPY.values(outputs, jnp.array([0, 1, 0, 0]))).all()


def test_what_labels_a_loss_takes():
    assert CROSS_ENTROPY.needs_classes
    assert not HINGE.needs_classes


def test_the_gradient_of_hinge_vanishes_only_beyond_the_margin():
    slope = jax.grad(lambda f: HINGE.values(f, jnp.array([1, -1, 1, -1])).sum())
    found = slope(jnp.array([[0.5], [0.5], [1.5], [-1.5]]))
    np.testing.assert_array_equal(found[:, 0], [-1, 1, 0, 0])
