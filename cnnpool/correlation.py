"""Correlation coefficients with confidence intervals, by numpy alone."""

import math
from statistics import NormalDist
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

CONFIDENCE = 0.95
# Variance of Fisher's z: exact to leading order for Pearson's r of normal variables; for Spearman's
# rho, Fieller, Hartley and Pearson (Biometrika 44, 1957).
_PEARSON, _SPEARMAN = 1.0, 1.06


class Correlation(NamedTuple):
    """A correlation coefficient.

    Attributes:
      value: -1 to 1; NaN for fewer than three points, or where all x or all y are equal.
      low: end of the 95 % confidence interval; NaN for fewer than four points, and where the value
        is 1 or -1, of which Fisher's z knows no interval.
      high: its other end.
      points: how many.
    """

    value: float
    low: float
    high: float
    points: int

    def __str__(self) -> str:
        """`+0.93 [+0.71, +0.98]`, as much of it as is defined."""
        if math.isnan(self.value):
            return "undefined"
        if math.isnan(self.low):
            return f"{self.value:+.2f}"
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def log_pearson(x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"]) -> Correlation:
    """Pearson's r of log x and log y, the linear correlation on log-log axes.

    The interval is Fisher's: tanh(atanh(r) +- 1.96 / sqrt(n - 3)).

    Args:
      x: positive.
      y: positive.

    Raises:
      ValueError: if a value is not positive.
    """
    if not (np.all(x > 0) and np.all(y > 0)):
        raise ValueError("expected positive values; leave out points without a logarithm")
    return _with_interval(np.log(x), np.log(y), _PEARSON)


def spearman(x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"]) -> Correlation:
    """Spearman's rho: Pearson's r of the ranks; equal values share their mean rank."""
    return _with_interval(ranks(x), ranks(y), _SPEARMAN)


def ranks(values: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    """1 for the smallest value; equal values share their mean rank."""
    below = (values[:, None] > values).sum(1)
    equal = (values[:, None] == values).sum(1)
    return below + (equal + 1) / 2


def _with_interval(x: np.ndarray, y: np.ndarray, variance: float) -> Correlation:
    points = len(x)
    if points < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(math.nan, math.nan, math.nan, points)
    value = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))
    if points < 4 or math.isclose(abs(value), 1, rel_tol=1e-12):
        return Correlation(value, math.nan, math.nan, points)
    width = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(variance / (points - 3))
    z = math.atanh(value)
    return Correlation(value, math.tanh(z - width), math.tanh(z + width), points)
