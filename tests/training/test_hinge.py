"""Hinge loss, its slope, and the ridge's shrinkage."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool.training.hinge import hinge, hinge_slope, ridge_shrinkage


def test_hinge_and_slope():
    margins = jnp.array([-1.0, 0.5, 1.0, 3.0])
    labels = jnp.array([1.0, -1.0, 1.0, -1.0])
    np.testing.assert_array_equal(hinge(margins), [2.0, 0.5, 0.0, 0.0])
    np.testing.assert_array_equal(hinge_slope(margins, labels), [-1.0, 1.0, 0.0, 0.0])


def test_a_margin_that_is_not_a_number_is_not_taken_for_a_solved_image():
    assert jnp.isnan(hinge(jnp.array([jnp.nan])))[0]


def test_ridge_shrinks_convolution_kernels_only():
    params = {
        "conv01": {"kernel": jnp.ones((3, 1, 2)), "bias": jnp.ones(2)},
        "linear": {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1)},
    }
    shrinkage = ridge_shrinkage(params, ridge=0.01, width=2, depth=4, learning_rate=0.02)
    assert shrinkage["conv01"] == {"kernel": pytest.approx(1 - 2 * 0.02 * 0.01 / 8), "bias": 1.0}
    assert shrinkage["linear"] == {"kernel": 1.0, "bias": 1.0}
