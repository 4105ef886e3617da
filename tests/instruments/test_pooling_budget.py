"""The pooling budget, by hand-made moments and a brute-force jackknife."""

import numpy as np
import pytest

from cnnpool.instruments.moments import ImageMoments
from cnnpool.instruments.pooling_budget import log_fall, spatial_share

IMAGES = 50


def layer(ratio, *, noise=0.0, seed=0):
    """Moments whose R is `ratio`, up to a relative `noise` that differs between images."""
    random = np.random.default_rng(seed)
    response = 1 + random.random(IMAGES)
    deformation = ratio * response * np.exp(noise * random.standard_normal(IMAGES))
    return ImageMoments(deformation, response, np.ones(IMAGES), 0.0)


def test_shares_of_one_and_of_zero():
    network = (layer(1.0), layer(0.1))
    assert spatial_share(network, [network]).value == pytest.approx(1)
    assert spatial_share(network, [(layer(1.0), layer(1.0))]).value == pytest.approx(0)


def test_half_of_the_fall_of_the_logarithm():
    share = spatial_share((layer(1.0), layer(0.01)), [(layer(1.0), layer(0.1))] * 3)
    assert share.value == pytest.approx(0.5)
    assert share.se == pytest.approx(0, abs=1e-7)


def test_its_error_is_that_of_leaving_out_images_by_hand():
    original = layer(1.0, noise=0.3, seed=1), layer(0.2, noise=0.3, seed=2)
    shuffled = [
        (layer(1.0, noise=0.3, seed=seed), layer(0.4, noise=0.3, seed=seed + 1)) for seed in (3, 5)
    ]

    def share_of(keep):
        def fall(pair):
            first, last = (m.deformation[keep].mean() / m.noise[keep].mean() for m in pair)
            return np.log(first / last)

        falls = [fall(pair) for pair in shuffled]
        return np.mean(falls) / fall(original), np.std(falls, ddof=1) / np.sqrt(2) / fall(original)

    everyone = np.arange(IMAGES)
    value, over_shuffles = share_of(everyone)
    without = np.array([share_of(np.delete(everyone, i))[0] for i in everyone])
    over_images = np.sqrt((IMAGES - 1) / IMAGES * ((without - without.mean()) ** 2).sum())
    found = spatial_share(original, shuffled)
    assert found.value == pytest.approx(value, rel=1e-12)
    assert found.se == pytest.approx(np.hypot(over_images, over_shuffles), rel=1e-9)


def test_undefined_where_r_does_not_fall():
    first, last = layer(1.0, noise=0.3, seed=1), layer(0.98, noise=0.3, seed=2)
    fall, without = log_fall(first, last)
    assert abs(fall) < 2 * np.sqrt((IMAGES - 1) * without.var()), "the fall is real: void"
    assert np.isnan(spatial_share((first, last), [(first, last)])).all()


def test_a_layer_without_response_gives_nan_and_no_warning():
    deaf = ImageMoments(np.zeros(IMAGES), np.zeros(IMAGES), np.ones(IMAGES), 0.0)
    assert np.isnan(spatial_share((layer(1.0), deaf), [(layer(1.0), deaf)])).all()


def test_needs_a_shuffled_network():
    with pytest.raises(ValueError, match="at least one shuffled network"):
        spatial_share((layer(1.0), layer(0.1)), [])
