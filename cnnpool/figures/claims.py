"""What the paper claims about pooling: one statistic per claim and network, with a verdict.

Ratios are in decades: log10(R_1 / R_K) = 1 is a fall by a factor of ten from the first layer to the
output. Every statistic has its 95 % interval, over networks or, where there is one, over its
shuffles and images (`cnnpool.figures.intervals`; of spectra: over filters). A claim `holds` where
the interval lies on the side that it names, fails where it lies on the other, and is undecided in
between. Values of several shuffles are averaged as logarithms.

A claim on shuffled channels is judged for each kind of shuffle that was measured, and one on
networks before training for both kinds of batch statistics: `own`, those of x, tau(x) and x + eta
each for its own, as the paper's authors measure, and `frozen`, those of x for all three. Both are
the same without batch normalization.

That G_k grows with depth is claimed for scale detection only (section 3, Figure 6). For images, the
abstract speaks of "a gain of sensitivity to white noise acquired over training" and does not say in
which layer; both ends of the network are tested here, and the luma and chroma parts of the noise
where they were measured. "Almost unaltered" is a statement about every layer: the interval of its
ratio of shuffled to original lies within `NEARLY` decades.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import math
from typing import NamedTuple

import numpy as np

from cnnpool.figures import intervals, layers, shuffles, spectra
from cnnpool.figures import networks as measured
from cnnpool.figures.intervals import Interval
from cnnpool.figures.networks import WHITE, MeasuredNetwork
from cnnpool.files.results import LEAST_FALL

ITEM = "claims"
STAGES, TRANSFORMS = ("init", "trained"), ("none", "channel_shuffle")
HOLDS, FAILS, UNDECIDED, NOT_REFUTED = "holds", "fails", "undecided", "not refuted"
UNDEFINED, MEASURED = "undefined", "no claim"
NEARLY = 0.1  # decades; 26 %
HEAD = (
    "| network | claim | of | statistic | networks | value, 95 % interval | verdict |\n"
    "|---|---|---|---|---|---|---|"
)
Judged = tuple[Interval, str]


class Claim(NamedTuple):
    """One claim.

    Attributes:
      words: the paper's words, in short.
      formula: the statistic.
      judge: statistic and verdict by variant of the claim, "" where it has one alone.
      data: the data set that it is about; None if any.
    """

    words: str
    formula: str
    judge: Callable[[MeasuredNetwork], Mapping[str, Judged]]
    data: str | None = None


def is_positive(found: Interval) -> str:
    """The verdict on a claim that a statistic is above zero."""
    if found.low > 0:
        return HOLDS
    return FAILS if found.high < 0 else UNDECIDED


def is_not_positive(found: Interval) -> str:
    """The verdict on a claim that a statistic is not above zero, which no measurement can prove."""
    if not np.isfinite(found[:3]).all():
        return UNDECIDED
    return FAILS if found.low > 0 else NOT_REFUTED


def is_nearly_zero(found: Sequence[Interval]) -> str:
    """The verdict on a claim that the ratios of all layers are one, to within `NEARLY` decades."""
    if all(one.low > -NEARLY and one.high < NEARLY for one in found):
        return HOLDS
    outside = any(one.low > NEARLY or one.high < -NEARLY for one in found)
    return FAILS if outside else UNDECIDED


def change(
    network: MeasuredNetwork, quantity: str, *, stage: str, transform: str = "none"
) -> Interval:
    """log10(q_K / q_1), the change of D, G or R over the depth.

    Args:
      network: measured so.
      quantity: "D", "G" or "R".
      stage: of training.
      transform: of the network.
    """
    whole = intervals.curve(network, quantity, stage=stage, transform=transform)
    (found,) = intervals.difference(whole.at(-1), whole.at(0))
    return found


def gain(
    network: MeasuredNetwork, quantity: str, *, layer: int, before: str = "none", noise: str = WHITE
) -> Interval:
    """log10(q trained / q at initialization), what training changes in one layer.

    Args:
      network: measured at both stages.
      quantity: "D", "G" or "R".
      layer: index among the layers that figures plot: 0 is the first, -1 the output.
      before: the transform that determines its batch statistics at initialization.
      noise: the kind of noise.
    """
    trained = intervals.curve(network, quantity, stage="trained", noise=noise)
    start = intervals.curve(network, quantity, stage="init", transform=before, noise=noise)
    (found,) = intervals.difference(trained.at(layer), start.at(layer))
    return found


def spatial_share(network: MeasuredNetwork, shuffle: str) -> Interval:
    """The share of the fall of log R that remains when channels are shuffled.

    See `cnnpool.instruments.pooling_budget`. Of the networks whose R falls by more than half a
    decade; NaN where there is none.
    """
    cell = network.at_nominal().sel(stage="trained", transform=shuffle)
    whole = intervals.curve(network, "R", stage="trained").values
    falls = whole[:, 0] - whole[:, -1] > LEAST_FALL
    share, error = (cell[name].values for name in ("spatial_share", "spatial_share_se"))
    return intervals.of_networks(np.where(falls, share, np.nan), intervals.normal(error))


def growth_of_zero_frequency(network: MeasuredNetwork) -> Interval:
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
        error = np.sqrt(np.where(falls, variance, 0).sum(1)) / count
    return intervals.of_networks(mean, intervals.normal(error))


def _falls(network: MeasuredNetwork, units: Sequence[str]) -> np.ndarray:
    """Whether R_k < R_{k-1} in the layers of some units, by seed."""
    dataset = network.at_nominal().sel(stage="trained", transform="none")
    r = layers.with_depth(dataset)["R"].transpose("seed", "layer").values
    fell = r < np.concatenate([np.ones_like(r[:, :1]), r[:, :-1]], axis=1)
    depth = layers.relative_depth(dataset) * np.nanmax(dataset["depth"].values)
    number = dict(zip(dataset["layer"].values, depth.round().astype(int), strict=True))
    return fell[:, [number[unit] - 1 for unit in units]]


def _once(
    statistic: Callable[[MeasuredNetwork], Interval], verdict: Callable[[Interval], str]
) -> Callable[[MeasuredNetwork], dict[str, Judged]]:
    """The statistic and verdict of a claim that has no variants."""

    def judge(network: MeasuredNetwork) -> dict[str, Judged]:
        found = statistic(network)
        return {"": (found, verdict(found))}

    return judge


def _before_training(network: MeasuredNetwork) -> dict[str, str]:
    """The transforms that determine a network's batch statistics at initialization."""
    if not network.has_batch_norm:
        return {"": "none"}
    own = {"own statistics": "own_statistics"} if network.has("init", "own_statistics") else {}
    return own | {"frozen statistics": "none"}


def _does_not_fall_before_training(network: MeasuredNetwork) -> dict[str, Judged]:
    found = {
        name: -change(network, "R", stage="init", transform=transform)
        for name, transform in _before_training(network).items()
    }
    return {name: (one, is_not_positive(one)) for name, one in found.items()}


def _gains(network: MeasuredNetwork, *, layer: int) -> dict[str, Judged]:
    found = {
        ", ".join(part for part in (name, "" if noise == WHITE else noise) if part): gain(
            network, "G", layer=layer, before=transform, noise=noise
        )
        for name, transform in _before_training(network).items()
        for noise in network.noises
    }
    return {name: (one, is_positive(one)) for name, one in found.items()}


def _raised_by_shuffles(network: MeasuredNetwork) -> dict[str, Judged]:
    found = {one: shuffles.ratios(network, "R", one)[-1] for one in shuffles.there(network)}
    return {shuffles.LABELS[one]: (ratio, is_positive(ratio)) for one, ratio in found.items()}


def _still_falls(network: MeasuredNetwork) -> dict[str, Judged]:
    found = {
        shuffles.LABELS[one]: -change(network, "R", stage="trained", transform=one)
        for one in shuffles.there(network)
    }
    return {name: (fall, is_positive(fall)) for name, fall in found.items()}


def _unaltered(network: MeasuredNetwork) -> dict[str, Judged]:
    """By quantity and shuffle: the layer that is altered most, and the verdict on all layers."""
    judged = {}
    for shuffle in shuffles.there(network):
        for quantity in shuffles.QUANTITIES:
            found = shuffles.ratios(network, quantity, shuffle)
            known = [one for one in found if math.isfinite(one.mean)]
            if known:
                most = max(known, key=lambda one: abs(one.mean))
                k = found.index(most) + 1
                name = f"{quantity}, {shuffles.LABELS[shuffle]}; layer {k}"
                judged[name] = (most, is_nearly_zero(known))
    return judged


def _shares(network: MeasuredNetwork) -> dict[str, Judged]:
    found = {shuffles.LABELS[one]: spatial_share(network, one) for one in shuffles.there(network)}
    fall = -change(network, "R", stage="trained").mean
    undefined = f"{UNDEFINED}: R falls by {fall:.2f} decades, {LEAST_FALL:g} are needed"
    return {name: (one, MEASURED if one.networks else undefined) for name, one in found.items()}


NATURAL = "natural images"
CLAIMS = (
    Claim(
        "R_k falls with depth",
        "log10 R_1 / R_K",
        _once(lambda one: -change(one, "R", stage="trained"), is_positive),
    ),
    Claim(
        "R_k does not fall at initialization",
        "log10 R_1 / R_K",
        _does_not_fall_before_training,
    ),
    Claim(
        "D_k falls with depth",
        "log10 D_1 / D_K",
        _once(lambda one: -change(one, "D", stage="trained"), is_positive),
    ),
    Claim(
        "G_k grows with depth",
        "log10 G_K / G_1",
        _once(lambda one: change(one, "G", stage="trained"), is_positive),
        measured.SCALE_DETECTION,
    ),
    Claim(
        "training makes the first layer more sensitive to noise",
        "log10 of G_1, trained / initialization",
        functools.partial(_gains, layer=0),
    ),
    Claim(
        "training makes the output more sensitive to noise",
        "log10 of G_K, trained / initialization",
        functools.partial(_gains, layer=-1),
    ),
    Claim("shuffled channels raise R", "log10 R_K shuffled / R_K", _raised_by_shuffles, NATURAL),
    Claim("with shuffled channels R_k still falls", "log10 R_1 / R_K, both shuffled", _still_falls),
    Claim(
        "shuffled channels leave the curves almost unaltered",
        "log10 shuffled / original, the layer altered most",
        _unaltered,
        measured.SCALE_DETECTION,
    ),
    Claim("", "spatial share of the fall of log R", _shares),
    Claim(
        "the zero frequency grows where R falls",
        "log10 of gamma_1 / mean gamma, trained / initialization",
        _once(growth_of_zero_frequency, is_positive),
    ),
)


def markdown(networks: Sequence[MeasuredNetwork]) -> str:
    """One row per claim, variant and network.

    Args:
      networks: image classifiers with convolutions, trained without noise in the training set.

    Raises:
      ValueError: if there are no such networks, or one of them has no spectra or was not measured
        at a stage or under a transform that a claim needs.
    """
    chosen = measured.choose(
        networks, lambda one: not one.image_noise, item=ITEM, needs="classifiers without noise"
    )
    needed = (*spectra.VARIABLES, "spatial_share")
    measured.require(chosen, item=ITEM, stages=STAGES, transforms=TRANSFORMS, variables=needed)
    return "\n".join([HEAD, *(line for one in chosen for line in _lines(one))]) + "\n"


def of_network(network: MeasuredNetwork) -> Iterator[tuple[Claim, str, Interval, str]]:
    """(claim, variant, statistic, verdict) of all claims about a network's data set."""
    kind = network.data if network.data == measured.SCALE_DETECTION else NATURAL
    for claim in CLAIMS:
        if claim.data in (None, kind):
            for variant, (found, verdict) in claim.judge(network).items():
                yield claim, variant, found, verdict


def _lines(network: MeasuredNetwork) -> Iterator[str]:
    for claim, variant, found, verdict in of_network(network):
        yield (
            f"| {network.title} | {claim.words} | {variant} | {claim.formula} | {found.networks} "
            f"| {found} | {verdict} |"
        )
