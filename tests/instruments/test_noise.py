"""Noise, by its exact moments and norms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool.instruments.noise import matched_noise, rectified_noise


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


@pytest.mark.parametrize(("kind", "dimensions"), [("luma", 4), ("chroma", 8)])
def test_luma_and_chroma_are_the_two_parts_of_white_noise(kind, dimensions):
    """Isotropic in their part of the space, with all of the norm there."""
    draws, shape = 4000, (2, 2, 3)
    difference = jnp.arange(12.0).reshape(shape)
    keys = jax.random.split(jax.random.key(0), draws)

    def drawn(kind):
        one = functools.partial(matched_noise, difference=difference, kind=kind)
        return np.asarray(jax.vmap(lambda key: one(key))(keys), np.float64)

    noise, power = drawn(kind), float((difference**2).sum())
    np.testing.assert_allclose((noise**2).sum((1, 2, 3)), power, rtol=1e-6)
    luma = np.full((3, 3), 1 / 3)  # projects a pixel on what its channels have in common
    pixel = luma if kind == "luma" else np.eye(3) - luma
    np.testing.assert_allclose(noise @ pixel, noise, atol=1e-5)
    white = drawn("white") @ pixel
    scale = np.sqrt(power / (white**2).sum((1, 2, 3), keepdims=True))
    np.testing.assert_allclose(noise, white * scale, atol=1e-4)
    flat, projector = noise.reshape(draws, -1), np.kron(np.eye(4), pixel)
    tolerance = 5 * np.sqrt(3 / draws) * power / dimensions  # as for white noise
    covariance = flat.T @ flat / draws
    np.testing.assert_allclose(covariance, projector * power / dimensions, atol=tolerance)


def test_impossible_noise_is_refused():
    gray = jnp.ones((4, 4, 1))
    with pytest.raises(ValueError, match=r"these images are gray \(one channel\).*leave out"):
        matched_noise(jax.random.key(0), gray, "chroma")
    with pytest.raises(ValueError, match="noise 'pink': expected one of white, luma, chroma"):
        matched_noise(jax.random.key(0), gray, "pink")
    luma, white = (matched_noise(jax.random.key(0), gray, kind) for kind in ("luma", "white"))
    np.testing.assert_array_equal(luma, white)  # of one channel they are the same
