"""What differs between two measurements of networks that began with the same seeds.

Networks of one seed have the same initialization and see the images in the same order, so that
what they were trained on makes the difference: original images or JPEG copies, for example. The
differences are taken seed by seed, for the seeds that both have; intervals are Student's t at 95 %
over these, narrower than a comparison of two means if seeds matter. For a single seed there is no
interval.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cnnpool.figures import intervals, shuffles
from cnnpool.figures.intervals import Interval
from cnnpool.figures.networks import WHITE, MeasuredNetwork

ITEM = "paired"
STAGE = "trained"
Values = Callable[[MeasuredNetwork], np.ndarray]


def markdown(networks: Sequence[MeasuredNetwork]) -> str:
    """One row per quantity at the output: the first file's, the second's, and first minus second.

    Args:
      networks: two, of the same model and with seeds in common.

    Raises:
      ValueError: if these are not two networks of one model, or have no seed in common.
    """
    first, second = _pair(networks)
    lines = [
        f"First: {first.title}, {first.source}, {first.measured.attrs['data_source']}.",
        f"Second: {second.title}, {second.source}, {second.measured.attrs['data_source']}.",
        f"Seeds: {', '.join(str(seed) for seed in first.measured['seed'].values)}.",
        "",
        "| at the output, trained | networks | first | second | first - second |",
        "|---|---|---|---|---|",
    ]
    for name, values in _quantities(first, second):
        one, other = values(first), values(second)
        cells = " | ".join(str(_interval(x)) for x in (one, other, one - other))
        lines.append(f"| {name} | {len(one)} | {cells} |")
    return "\n".join(lines) + "\n"


def _pair(networks: Sequence[MeasuredNetwork]) -> tuple[MeasuredNetwork, MeasuredNetwork]:
    """Both networks, of the seeds that both have."""
    if len(networks) != 2:
        raise ValueError(f"{ITEM} compares two files, --results A B; got {len(networks)} networks")
    seeds = [[int(seed) for seed in one.measured["seed"].values] for one in networks]
    common = [seed for seed in seeds[0] if seed in seeds[1]]
    first, second = networks
    if (first.model, first.variant) != (second.model, second.variant) or not common:
        raise ValueError(
            f"{ITEM} compares networks of the same model, with seeds in common; got "
            + " and ".join(
                f"{one.source}: {(one.model, one.variant, its)}"
                for one, its in zip(networks, seeds, strict=True)
            )
        )
    return _of_seeds(first, common), _of_seeds(second, common)


def _of_seeds(network: MeasuredNetwork, seeds: list[int]) -> MeasuredNetwork:
    if network.measured["seed"].values.tolist() == seeds:
        return network
    return MeasuredNetwork(network.measured.sel(seed=seeds), network.source)


def _quantities(first: MeasuredNetwork, second: MeasuredNetwork) -> Iterator[tuple[str, Values]]:
    """(name, values by network) for every quantity that both have."""
    for quantity in shuffles.QUANTITIES:
        yield f"log10 {quantity}_K", _output(quantity)
    for noise in [kind for kind in first.noises if kind in second.noises and kind != WHITE]:
        yield f"log10 G_K, {noise} noise", _output("G", noise=noise)
    for shuffle in [name for name in shuffles.there(first) if name in shuffles.there(second)]:
        for quantity in shuffles.QUANTITIES:
            name = f"log10 {quantity}_K shuffled / {quantity}_K, {shuffles.LABELS[shuffle]}"
            yield name, _shuffled_over_original(quantity, shuffle)


def _output(quantity: str, *, transform: str = "none", noise: str = WHITE) -> Values:
    def values(network: MeasuredNetwork) -> np.ndarray:
        found = intervals.curve(network, quantity, stage=STAGE, transform=transform, noise=noise)
        return found.at(-1).values[:, 0]

    return values


def _shuffled_over_original(quantity: str, shuffle: str) -> Values:
    shuffled, original = _output(quantity, transform=shuffle), _output(quantity)
    return lambda network: shuffled(network) - original(network)


def _interval(values: np.ndarray) -> Interval:
    return intervals.of_networks(values, np.full(len(values), np.nan))
