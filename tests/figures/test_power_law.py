"""Slopes on log-log axes."""

import numpy as np
import pytest

from cnnpool.figures.power_law import log_log_slope, slope_over_seeds

X = np.array([0.8, 1.1, 2.0, 3.5])


def test_a_power_law_has_its_exponent():
    assert log_log_slope(X, 7 * X**-1.7) == pytest.approx(-1.7)


def test_error_is_the_standard_error_of_the_mean():
    curves = np.stack([X**-1.0, X**-2.0, X**-3.0])
    slope = slope_over_seeds(X, curves)
    assert slope.mean == pytest.approx(-2)
    assert slope.se == pytest.approx(1 / np.sqrt(3))


def test_a_single_seed_has_no_error_bar():
    assert np.isnan(slope_over_seeds(X, X[None]).se)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_a_point_without_logarithm_gives_nan(bad):
    assert np.isnan(log_log_slope(X, np.array([1.0, bad, 2.0, 3.0])))
