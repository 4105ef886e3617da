"""Correlation coefficients against scipy, and the coverage of their intervals."""

import numpy as np
import pytest
from scipy import stats

from cnnpool import correlation


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    x = rng.lognormal(size=11)
    return x, x**0.7 * rng.lognormal(size=11)


def test_pearson_of_logarithms_and_its_interval_are_scipy_s(points):
    x, y = points
    found = correlation.log_pearson(x, y)
    expected = stats.pearsonr(np.log(x), np.log(y))
    assert found.value == pytest.approx(expected.statistic, abs=1e-12)
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval(0.95), abs=1e-9)
    assert found.points == 11


def test_spearman_is_scipy_s_with_and_without_ties(points):
    x, y = points
    assert correlation.spearman(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic)
    tied = np.array([1.0, 2, 2, 2, 3, 3, 5, 5, 5, 5, 6])
    np.testing.assert_array_equal(correlation.ranks(tied), stats.rankdata(tied))
    assert correlation.spearman(tied, y).value == pytest.approx(stats.spearmanr(tied, y).statistic)


@pytest.mark.parametrize("coefficient", [correlation.log_pearson, correlation.spearman])
def test_intervals_cover_the_true_coefficient(coefficient):
    rng, rho, size, repeats = np.random.default_rng(1), 0.8, 11, 1000
    truth = rho if coefficient is correlation.log_pearson else 6 / np.pi * np.arcsin(rho / 2)
    covered = 0
    for _ in range(repeats):
        x, noise = rng.normal(size=(2, size))
        y = rho * x + np.sqrt(1 - rho**2) * noise
        found = coefficient(np.exp(x), np.exp(y))
        covered += found.low <= truth <= found.high
    # 0.95 +- 3 binomial standard errors, 0.021; Fieller's variance is approximate.
    assert covered / repeats == pytest.approx(0.95, abs=0.03)


def test_what_is_undefined_is_said():
    three = np.array([1.0, 2, 4])
    assert str(correlation.log_pearson(three, 1 / three)) == "-1.00"
    assert str(correlation.spearman(three[:2], three[:2])) == "undefined"
    assert str(correlation.spearman(three, np.ones(3))) == "undefined"
    five = np.array([1.0, 2, 3, 4, 5])
    assert (
        str(correlation.spearman(five, five**2)) == "+1.00"
    )  # no interval: Fisher's z is infinite
    assert str(correlation.log_pearson(five, np.array([1.0, 3, 2, 5, 4]))).startswith("+0.8")
    with pytest.raises(ValueError, match="expected positive values"):
        correlation.log_pearson(three, three - 1)
