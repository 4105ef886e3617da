"""Slopes of curves on log-log axes, with their spread over seeds."""

from typing import NamedTuple

import numpy as np

from cnnpool.shapes import Float


class Slope(NamedTuple):
    """A slope averaged over seeds and its standard error (NaN for a single seed)."""

    mean: float
    se: float


def log_log_slope(x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"]) -> float:
    """Least-squares slope of log y against log x; NaN if a point is not positive."""
    if not (np.all(x > 0) and np.all(y > 0)):
        return float("nan")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def slope_over_seeds(
    x: Float[np.ndarray, " points"], y: Float[np.ndarray, "seeds points"]
) -> Slope:
    """Fits every seed's curve; mean and standard error of the mean over the seeds."""
    slopes = np.array([log_log_slope(x, curve) for curve in y])
    se = slopes.std(ddof=1) / np.sqrt(len(slopes)) if len(slopes) > 1 else np.nan
    return Slope(float(slopes.mean()), float(se))
