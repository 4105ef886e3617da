"""Rectified noise, by its exact moments."""

import jax
import numpy as np

from cnnpool.noise import rectified_noise


def test_moments_are_those_of_a_rectified_gaussian():
    sigma, count = 1.7, 400_000
    noise = np.asarray(rectified_noise(jax.random.key(0), (count,), sigma), np.float64)
    mean, second = sigma / np.sqrt(2 * np.pi), sigma**2 / 2
    # Five standard errors; E eta^4 = 3 sigma^4 / 2.
    assert abs(noise.mean() - mean) < 5 * np.sqrt((second - mean**2) / count)
    assert abs((noise**2).mean() - second) < 5 * sigma**2 * np.sqrt((1.5 - 0.25) / count)
    assert noise.min() == 0
