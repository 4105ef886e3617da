"""What the paper claims of pooling, as one statistic a claim and network, with a verdict.

Ratios are in decades: log10(R_1 / R_K) = 1 is a fall by a factor of ten from the first layer to the
output. The mean and standard error are over the networks of a file; of a single network the error
is over images (of spectra: over filters) and random shuffles, by error propagation. A claim `holds`
where its statistic lies two standard errors on the side that it names, fails where it lies two on
the other, and is undecided in between; from few networks that is a rough test.

That G_k grows with depth is claimed of scale detection alone (section 3, Figure 6). Of images the
abstract speaks of "a gain of sensitivity to white noise acquired over training" and does not say in
which layer; here are both ends of the network.
"""

from collections.abc import Callable, Iterator, Sequence
import math
from typing import NamedTuple

import numpy as np
import xarray as xr

from cnnpool.figures import layers, seed_average, spectra
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import Network
from cnnpool.figures.seed_average import Average

ITEM = "claims"
STAGES, TRANSFORMS = ("init", "trained"), ("none", "channel_shuffle")
SIGMAS = 2.0
HOLDS, FAILS, UNDECIDED, NOT_REFUTED = "holds", "fails", "undecided", "not refuted"
NEARLY = 0.2  # how far from 1 a share may be where the paper says "almost"
HEAD = "| network | claim | statistic | networks | value | verdict |\n|---|---|---|---|---|---|"


class Statistic(NamedTuple):
    """A number with its standard error over `seeds` networks, or within the one there is."""

    mean: float
    se: float
    seeds: int


class Claim(NamedTuple):
    """One claim.

    Attributes:
      words: the paper's, in short.
      formula: the statistic.
      statistic: of a network.
      verdict: from the statistic.
      data: the data set that it is about; None if any.
    """

    words: str
    formula: str
    statistic: Callable[[Network], Statistic]
    verdict: Callable[[Statistic], str]
    data: str | None = None


def is_positive(found: Statistic) -> str:
    """Of a claim that a statistic is above zero."""
    if found.mean > SIGMAS * found.se:
        return HOLDS
    return FAILS if found.mean < -SIGMAS * found.se else UNDECIDED


def is_not_positive(found: Statistic) -> str:
    """Of a claim that a statistic is not above zero, which no measurement can prove."""
    if not np.isfinite(found[:2]).all():
        return UNDECIDED
    return FAILS if found.mean > SIGMAS * found.se else NOT_REFUTED


def is_almost_one(found: Statistic) -> str:
    """Of a claim that a share is nearly the whole: 1 to within `NEARLY`."""
    distance, error = abs(found.mean - 1), SIGMAS * found.se
    if distance + error <= NEARLY:
        return HOLDS
    return FAILS if distance - error > NEARLY else UNDECIDED


def change(
    network: Network, quantity: str, stage: str, *, first: str = "none", last: str = "none"
) -> Statistic:
    """log10(q_K / q_1), the change of D, G or R over the depth.

    Args:
      network: measured at the stage.
      quantity: "D", "G" or "R".
      stage: of training.
      first: transform under which q_1 is taken.
      last: under which q_K is taken.
    """
    at_stage = layers.with_depth(network.at_nominal()).sel(stage=stage)
    ends = (
        at_stage.sel(transform=first).isel(layer=0),
        at_stage.sel(transform=last).isel(layer=-1),
    )
    return _log_ratio([_with_errors(end, quantity, network) for end in ends])


def gain(network: Network, quantity: str, *, layer: int) -> Statistic:
    """log10(q trained / q at initialization), what training changes in one layer.

    Args:
      network: measured at both stages.
      quantity: "D", "G" or "R".
      layer: place among those that figures plot: 0 the first, -1 the output.
    """
    cell = layers.with_depth(network.at_nominal()).sel(transform="none").isel(layer=layer)
    return _log_ratio([_with_errors(cell.sel(stage=one), quantity, network) for one in STAGES])


def shuffled_over_original(network: Network) -> Statistic:
    """log10(R_K shuffled / R_K), at the output of the trained network."""
    output = layers.output(network.at_nominal()).sel(stage="trained")
    both = [output.sel(transform=transform) for transform in TRANSFORMS]
    return _log_ratio([_with_errors(one, "R", network) for one in both])


def _with_errors(
    cell: xr.Dataset, quantity: str, network: Network
) -> tuple[np.ndarray, np.ndarray]:
    """A quantity and its error over images and shuffles, by seed."""
    spread = np.nan_to_num(cell[f"{quantity}_shuffle_sd"].values) / math.sqrt(network.shuffles)
    return cell[quantity].values, np.hypot(cell[f"{quantity}_se"].values, spread)


def _log_ratio(ends: Sequence[tuple[np.ndarray, np.ndarray]]) -> Statistic:
    """log10(b / a) of a and b with their errors, averaged over seeds."""
    (a, a_se), (b, b_se) = ends
    with np.errstate(divide="ignore", invalid="ignore"):
        return _over_seeds(np.log10(b / a), np.hypot(a_se / a, b_se / b) / math.log(10))


def _over_seeds(values: np.ndarray, errors: np.ndarray) -> Statistic:
    cell = xr.Dataset({"x": ("seed", values), "x_se": ("seed", errors)})
    average: Average = seed_average.over_seeds(cell, "x")
    return Statistic(float(average.mean), float(average.se), int(average.seeds))


def spatial_share(network: Network) -> Statistic:
    """Of the fall of log R, what is left with shuffled channels (`cnnpool.pooling_budget`)."""
    cell = network.at_nominal().sel(stage="trained")
    return _over_seeds(cell["spatial_share"].values, cell["spatial_share_se"].values)


def growth_of_zero_frequency(network: Network) -> Statistic:
    """Mean over the layers in which R falls of log10(z trained / z at initialization).

    z = gamma_{k,1} / (mean over l of gamma_{k,l}), the power of constant filters over that of white
    ones; R_0 = 1 is the input's.
    """
    units = spectra.convolutions(network.dataset)
    shown = network.dataset[["gamma", "gamma_se"]].sel(layer=units)
    lowest = shown.isel(frequency=0)
    share = lowest["gamma"] / shown["gamma"].mean("frequency")
    relative_error = lowest["gamma_se"] / lowest["gamma"]
    before, after = (share.sel(stage=stage) for stage in STAGES)
    growth = np.log10((after / before).transpose("seed", "layer").values)
    squares = (relative_error / math.log(10)) ** 2
    variance = squares.sel(stage=list(STAGES)).sum("stage").transpose("seed", "layer").values
    falls = _falls(network, units)
    count = falls.sum(1)
    with np.errstate(invalid="ignore"):
        mean = np.where(falls, growth, 0).sum(1) / count
        return _over_seeds(mean, np.sqrt(np.where(falls, variance, 0).sum(1)) / count)


def _falls(network: Network, units: Sequence[str]) -> np.ndarray:
    """Whether R_k < R_{k-1} in the layers of some units, by seed."""
    dataset = network.at_nominal().sel(stage="trained", transform="none")
    r = layers.with_depth(dataset)["R"].transpose("seed", "layer").values
    fell = r < np.concatenate([np.ones_like(r[:, :1]), r[:, :-1]], axis=1)
    depth = layers.relative_depth(dataset) * np.nanmax(dataset["depth"].values)
    number = dict(zip(dataset["layer"].values, depth.round().astype(int), strict=True))
    return fell[:, [number[unit] - 1 for unit in units]]


def _fall_of_shuffled(network: Network) -> Statistic:
    shuffled = {"first": "channel_shuffle", "last": "channel_shuffle"}
    return _negative(change(network, "R", "trained", **shuffled))


def _negative(found: Statistic) -> Statistic:
    return found._replace(mean=-found.mean)


NATURAL = "cifar10"
CLAIMS = (
    Claim(
        "R_k falls with depth",
        "log10 R_1 / R_K",
        lambda one: _negative(change(one, "R", "trained")),
        is_positive,
    ),
    Claim(
        "R_k does not fall at initialization",
        "log10 R_1 / R_K",
        lambda one: _negative(change(one, "R", "init")),
        is_not_positive,
    ),
    Claim(
        "D_k falls with depth",
        "log10 D_1 / D_K",
        lambda one: _negative(change(one, "D", "trained")),
        is_positive,
    ),
    Claim(
        "G_k grows with depth",
        "log10 G_K / G_1",
        lambda one: change(one, "G", "trained"),
        is_positive,
        measured.SCALE_DETECTION,
    ),
    Claim(
        "training makes the first layer more sensitive to noise",
        "log10 of G_1, trained / initialization",
        lambda one: gain(one, "G", layer=0),
        is_positive,
    ),
    Claim(
        "training makes the output more sensitive to noise",
        "log10 of G_K, trained / initialization",
        lambda one: gain(one, "G", layer=-1),
        is_positive,
    ),
    Claim(
        "shuffled channels raise R",
        "log10 R_K shuffled / R_K",
        shuffled_over_original,
        is_positive,
        NATURAL,
    ),
    Claim(
        "with shuffled channels R_k still falls",
        "log10 R_1 / R_K, both shuffled",
        _fall_of_shuffled,
        is_positive,
    ),
    Claim(
        "shuffled channels leave the curves almost unaltered",
        "spatial share of the fall of log R",
        spatial_share,
        is_almost_one,
        measured.SCALE_DETECTION,
    ),
    Claim(
        "the zero frequency grows where R falls",
        "log10 of gamma_1 / mean gamma, trained / initialization",
        growth_of_zero_frequency,
        is_positive,
    ),
)


def markdown(networks: Sequence[Network]) -> str:
    """A line for every claim and network.

    Args:
      networks: deep ones, with convolutions, without noise in the training set.

    Raises:
      ValueError: if there is none, or one lacks a stage, a transform or its spectra.
    """
    chosen = measured.choose(
        networks, lambda one: not one.image_noise, item=ITEM, needs="deep networks without noise"
    )
    needed = (*spectra.VARIABLES, "spatial_share")
    measured.require(chosen, item=ITEM, stages=STAGES, transforms=TRANSFORMS, variables=needed)
    return "\n".join([HEAD, *(line for one in chosen for line in _lines(one))]) + "\n"


def _lines(network: Network) -> Iterator[str]:
    for claim in CLAIMS:
        if claim.data in (None, network.data):
            found = claim.statistic(network)
            yield (
                f"| {network.title} | {claim.words} | {claim.formula} | {found.seeds} "
                f"| {found.mean:+.2f} ± {found.se:.2f} | {claim.verdict(found)} |"
            )
