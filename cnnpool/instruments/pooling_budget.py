"""The pooling budget: how much of the fall of R is due to spatial and to channel pooling.

Shuffling channels removes channel pooling and keeps spatial pooling. The share of the fall of
log R between two layers that remains after shuffling is due to spatial pooling, the rest to
channel pooling:

    spatial share = (log R_1^shuffled - log R_K^shuffled) / (log R_1 - log R_K)

A share of a small fall is meaningless: for a whole network it is taken only if R falls by more than
half a decade (`cnnpool.files.results.LEAST_FALL`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnnpool.instruments.moments import ImageMoments
from cnnpool.instruments.sensitivity import R_without, jackknife_error
from cnnpool.shapes import Float


class Share(NamedTuple):
    """A share and its standard error; both NaN if R falls too little to be divided up."""

    value: float
    se: float


def log_fall(first: ImageMoments, last: ImageMoments) -> tuple[float, Float[np.ndarray, " images"]]:
    """log R_first - log R_last, and the same without each image.

    Args:
      first: moments of the layer nearer the image.
      last: moments of the other layer, on the same images.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = [np.log(layer.deformation.mean() / layer.noise.mean()) for layer in (first, last)]
        without = [np.log(R_without(layer)) for layer in (first, last)]
    return float(whole[0] - whole[1]), without[0] - without[1]


def spatial_share(
    original: tuple[ImageMoments, ImageMoments],
    shuffled: Sequence[tuple[ImageMoments, ImageMoments]],
    *,
    least_decades: float = 0.0,
) -> Share:
    """The spatial share of the fall of log R between two layers.

    Undefined (NaN) unless R falls by more than two standard errors, and by `least_decades`.

    Its standard error adds in quadrature the jackknife error over images, which all networks
    share, and the standard error of the mean over shuffles.

    Args:
      original: moments of the (first, last) layer of the network as it is.
      shuffled: the same for each random shuffle of the network; at least one.
      least_decades: the smallest fall of log10 R that is divided up.

    Raises:
      ValueError: if there is no shuffled network.
    """
    if not shuffled:
        raise ValueError("a pooling budget needs at least one shuffled network, got none")
    fall, fall_without = log_fall(*original)
    least = max(2 * jackknife_error(fall_without), least_decades * np.log(10))
    if not fall > least:
        return Share(float("nan"), float("nan"))
    falls, falls_without = zip(*(log_fall(*pair) for pair in shuffled), strict=True)
    over_images = jackknife_error(np.mean(falls_without, axis=0) / fall_without)
    spread = np.std(falls, ddof=1) / np.sqrt(len(falls)) if len(falls) > 1 else 0.0
    return Share(float(np.mean(falls) / fall), float(np.hypot(over_images, spread / fall)))
