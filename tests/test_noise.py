"""Noise, by its exact moments and norms."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnpool.noise import matched_noise, rectified_noise


def test_moments_are_those_of_a_rectified_gaussian():
    sigma, count = 1.7, 400_000
    noise = np.asarray(rectified_noise(jax.random.key(0), (count,), sigma), np.float64)
    mean, second = sigma / np.sqrt(2 * np.pi), sigma**2 / 2
    # Five standard errors; E eta^4 = 3 sigma^4 / 2.
    assert abs(noise.mean() - mean) < 5 * np.sqrt((second - mean**2) / count)
    assert abs((noise**2).mean() - second) < 5 * sigma**2 * np.sqrt((1.5 - 0.25) / count)
    assert noise.min() == 0


def test_matched_noise_is_white_and_has_the_norm_of_the_difference():
    draws, shape = 4000, (3, 2, 2)
    difference = jnp.arange(12.0).reshape(shape)
    keys = jax.random.split(jax.random.key(0), draws)
    noise = np.asarray(jax.vmap(matched_noise, (0, None))(keys, difference), np.float64)
    noise, power = noise.reshape(draws, -1), float((difference**2).sum())
    np.testing.assert_allclose((noise**2).sum(1), power, rtol=1e-6)  # float32
    # On a sphere E eta_i eta_j = delta_ij power / n; five standard errors of the mean, the
    # fourth moment being at most 3 (power / n)^2.
    tolerance = 5 * np.sqrt(3 / draws) * power / 12
    np.testing.assert_allclose(noise.T @ noise / draws, np.eye(12) * power / 12, atol=tolerance)


def test_matched_noise_of_no_difference_is_none():
    noise = matched_noise(jax.random.key(0), jnp.zeros((4, 4, 1)))
    np.testing.assert_array_equal(noise, np.zeros((4, 4, 1)))
