"""Differences of log10 D, G, R between two measurements, with 95 % intervals.

Several networks: Student's t interval of their mean, one value per network. One network alone:
Student's t interval over its random shuffles and the normal one over its images, added in
quadrature; both sides of a ratio are measured on the same images, whose errors are taken as
independent, which makes the interval wider rather than narrower. A network's value is the mean of
the logarithms over its shuffles.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from cnnpool.figures import layers
from cnnpool.figures.networks import WHITE, MeasuredNetwork
from cnnpool.shapes import Float

CONFIDENCE = 0.95
_TAIL = (1 + CONFIDENCE) / 2


class Interval(NamedTuple):
    """A mean with its 95 % interval; NaN where it is not known.

    Attributes:
      mean: over networks.
      low: lower end.
      high: upper end.
      networks: how many there are.
    """

    mean: float
    low: float
    high: float
    networks: int

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "undefined"
        if math.isnan(self.low):
            return f"{self.mean:+.2f}"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"

    def __neg__(self) -> "Interval":
        return Interval(-self.mean, -self.high, -self.low, self.networks)


class Curve(NamedTuple):
    """log10 of D, G or R for every layer that figures plot, by network; errors in decades.

    Attributes:
      values: mean over shuffles.
      images: standard error over images.
      spread: standard deviation over shuffles; NaN for fewer than two.
      shuffles: how many there are.
    """

    values: Float[np.ndarray, "networks layers"]
    images: Float[np.ndarray, "networks layers"]
    spread: Float[np.ndarray, "networks layers"]
    shuffles: int

    def at(self, layer: int) -> "Curve":
        """A single layer, by its index: 0 is the first, -1 the output."""
        values, images, spread = (field[:, [layer]] for field in self[:3])
        return Curve(values, images, spread, self.shuffles)


def curve(
    network: MeasuredNetwork,
    quantity: str,
    *,
    stage: str,
    transform: str = "none",
    noise: str = WHITE,
) -> Curve:
    """The measured values of one quantity, at the nominal displacement and cut-off.

    Args:
      network: measured so.
      quantity: "D", "G" or "R".
      stage: of training.
      transform: of the network.
      noise: the kind of noise.
    """
    shown = layers.with_depth(network.at_nominal(noise)).sel(stage=stage, transform=transform)
    names = (quantity, f"{quantity}_se", f"{quantity}_shuffle_sd")
    value, images, spread = (shown[name].transpose("seed", "layer").values for name in names)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Curve(
            np.log10(value),
            images / value / math.log(10),
            spread / value / math.log(10),
            network.shuffles,
        )


def difference(top: Curve, bottom: Curve) -> list[Interval]:
    """The mean of `top - bottom` over networks, layer by layer.

    Args:
      top: log10 of the numerator.
      bottom: log10 of the denominator, for the same number of layers.
    """
    images = np.hypot(top.images, bottom.images)
    over_shuffles = np.hypot(_half_width(top), _half_width(bottom))
    within = np.hypot(normal(images), over_shuffles)
    with np.errstate(invalid="ignore"):
        values = top.values - bottom.values
    return [of_networks(*columns) for columns in zip(values.T, within.T, strict=True)]


def of_networks(
    values: Float[np.ndarray, " networks"], within: Float[np.ndarray, " networks"]
) -> Interval:
    """The mean over networks, and its interval.

    Args:
      values: one per network; those that are not finite are left out.
      within: half width of each network's own interval, used where there is only one network.
    """
    there = np.isfinite(values)
    count = int(there.sum())
    if not count:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(values[there].mean())
    if count == 1:
        half = float(within[there][0])
    else:
        half = _quantile(count - 1) * float(values[there].std(ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def normal(error: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Half width of the interval of a normal distribution with a known standard error."""
    return _quantile(np.inf) * error


def _half_width(one: Curve) -> Float[np.ndarray, "networks layers"]:
    """Half width of the interval over shuffles; 0 where nothing is random."""
    if one.shuffles < 2:
        return np.zeros_like(one.spread)
    return _quantile(one.shuffles - 1) * np.nan_to_num(one.spread) / math.sqrt(one.shuffles)


def _quantile(freedom: int | float) -> float:
    """The quantile of Student's t distribution at the upper end of the interval."""
    return float(stdtrit(min(freedom, 1e9), _TAIL))
