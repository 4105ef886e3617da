"""Correlation coefficients and their bootstrap against scipy, and the coverage of the intervals."""

import numpy as np
import pytest
from scipy import stats

from cnnpool.figures import correlation

COEFFICIENTS = (correlation.log_pearson, correlation.spearman)
SCIPY = {
    correlation.log_pearson: lambda x, y: stats.pearsonr(np.log(x), np.log(y)).statistic,
    correlation.spearman: lambda x, y: stats.spearmanr(x, y).statistic,
}


def some_points(count=11):
    rng = np.random.default_rng(0)
    x = rng.lognormal(size=count)
    return x, x**0.7 * rng.lognormal(size=count)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_values_are_scipy_s(coefficient):
    x, y = some_points()
    found = coefficient(x, y, seed=0)
    assert found.value == pytest.approx(SCIPY[coefficient](x, y), abs=1e-12)
    assert found.points == 11


def test_ties_share_their_mean_rank():
    _, y = some_points()
    tied = np.array([1.0, 2, 2, 2, 3, 3, 5, 5, 5, 5, 6])
    np.testing.assert_array_equal(correlation.ranks(tied), stats.rankdata(tied))
    expected = stats.spearmanr(tied, y).statistic
    assert correlation.spearman(tied, y, seed=0).value == pytest.approx(expected)


def test_ranks_of_weighted_values_are_those_of_repeated_ones():
    values, weights = np.array([3.0, 1, 3, 2]), np.array([[2, 1, 1, 3], [0, 4, 0, 1]])
    for found, weight in zip(correlation.ranks(values, weights), weights, strict=True):
        expected = stats.rankdata(np.repeat(values, weight))
        np.testing.assert_array_equal(np.repeat(found, weight), expected)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize(
    "units", [None, ["a", "b", "b", "c", "a", "d"]], ids=["points", "architectures"]
)
def test_intervals_are_percentiles_over_all_resamples_in_which_r_is_defined(coefficient, units):
    x = np.array([1.0, 2, 2, 4, 8, 3])
    y = np.array([1.1, 1.1, 3, 5, 6, 9])
    found = coefficient(x, y, seed=7, units=units)
    owners = range(6) if units is None else units
    count = len(set(owners))
    members = [[k for k, one in enumerate(owners) if one == unit] for unit in sorted(set(owners))]
    rng = np.random.default_rng(7)
    values = []
    for draw in rng.multinomial(count, [1 / count] * count, 2000):
        chosen = [k for times, unit in zip(draw, members, strict=True) for k in unit * times]
        if len(set(x[chosen])) > 1 and len(set(y[chosen])) > 1:
            values.append(SCIPY[coefficient](x[chosen], y[chosen]))
    assert 1000 < len(values) < 2000
    assert (found.low, found.high) == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-9)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_intervals_are_those_of_scipy_s_bootstrap(coefficient):
    x, y = some_points(20)
    found = np.mean([coefficient(x, y, seed=seed)[1:3] for seed in range(20)], axis=0)
    expected = stats.bootstrap(
        (x, y),
        SCIPY[coefficient],
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    # Over seeds the ends of 2000 resamples scatter by 0.02 at most; their distance is 0.5 or more.
    assert found == pytest.approx(np.array(expected), abs=0.06)
    assert np.ptp(found) > 0.5


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_copies_within_a_unit_are_no_further_evidence(coefficient):
    x, y = some_points(8)
    alone = coefficient(x, y, seed=3)
    copied = [np.tile(values, 5) for values in (x, y)]
    together = coefficient(*copied, seed=3, units=[*range(8)] * 5)
    assert together[:3] == pytest.approx(alone[:3])
    apart = coefficient(*copied, seed=3)
    assert apart.high - apart.low < 0.6 * (alone.high - alone.low)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_the_seed_decides_the_resamples(coefficient):
    x, y = some_points()
    one, same, other = (coefficient(x, y, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.value == other.value
    assert one.low != other.low


@pytest.mark.parametrize(
    ("coefficient", "coverage"),
    [(correlation.log_pearson, 0.89), (correlation.spearman, 0.97)],
)
def test_how_often_intervals_of_few_points_hold_the_true_coefficient(coefficient, coverage):
    rng, rho, size, repeats = np.random.default_rng(1), 0.8, 11, 500
    truth = rho if coefficient is correlation.log_pearson else 6 / np.pi * np.arcsin(rho / 2)
    covered = 0
    for seed in range(repeats):
        x, noise = rng.normal(size=(2, size))
        y = rho * x + np.sqrt(1 - rho**2) * noise
        found = coefficient(np.exp(x), np.exp(y), seed=seed)
        covered += found.low <= truth <= found.high
    # The docstring's numbers, +- 3 binomial standard errors.
    assert covered / repeats == pytest.approx(coverage, abs=0.042)


def test_what_is_undefined_is_said():
    three = np.array([1.0, 2, 4])
    five = np.array([1.0, 2, 3, 4, 5])
    assert str(correlation.log_pearson(three, 1 / three, seed=0)) == "-1.00"
    assert str(correlation.spearman(three[:2], three[:2], seed=0)) == "undefined"
    assert str(correlation.spearman(three, np.ones(3), seed=0)) == "undefined"
    assert str(correlation.spearman(np.ones(5), five, seed=0)) == "undefined"
    assert str(correlation.log_pearson(three[:0], three[:0], seed=0)) == "undefined"
    assert str(correlation.spearman(five, five**2, seed=0)) == "+1.00 [+1.00, +1.00]"
    few_units = correlation.spearman(five, five**2, seed=0, units=["a", "a", "b", "c", "c"])
    assert str(few_units) == "+1.00"
    shuffled = correlation.log_pearson(five, np.array([1.0, 3, 2, 5, 4]), seed=0)
    assert str(shuffled).startswith("+0.8")
    with pytest.raises(ValueError, match="expected positive values"):
        correlation.log_pearson(three, three - 1, seed=0)
    with pytest.raises(ValueError, match="expected a unit for each of 3 points; got 2"):
        correlation.spearman(three, three, seed=0, units=["a", "b"])
