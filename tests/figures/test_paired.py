"""Differences between networks of the same seeds, of made-up results with known answers."""

import math

import numpy as np
import pytest
from scipy import stats

from cnnpool.figures import paired
from cnnpool.figures.networks import MeasuredNetwork
from tests import classifier_results


def networks(*, seeds=3):
    return [
        MeasuredNetwork(classifier_results.network("vgg11", seeds=seeds), name)
        for name in ("a.nc", "b.nc")
    ]


def cells(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_differences_are_taken_seed_by_seed():
    """Seeds differ by much in both files; what the second has more, by little."""
    first, second = networks()
    factors = np.array([1.0, 10.0, 100.0])
    more = np.array([10.0, 10.0, 10.0**1.3])
    output = {"layer": "linear09", "stage": "trained", "transform": "none"}
    for network, factor in ((first, factors), (second, factors * more)):
        network.dataset["R"].loc[output] *= factor[:, None, None]
    count, _, _, difference = cells(paired.markdown([first, second]), "log10 R_K")
    half = stats.t.ppf(0.975, 2) * 0.3 / math.sqrt(3) / math.sqrt(3)
    assert count == "3"
    assert difference == f"-1.10 [{-1.1 - half:+.2f}, {-1.1 + half:+.2f}]"


def test_shuffles_are_compared_by_what_they_change():
    first, second = networks()
    second.dataset["G"].loc[{"layer": "linear09", "transform": "channel_shuffle"}] *= 10
    found = cells(paired.markdown([first, second]), "log10 G_K shuffled / G_K, inputs")
    zero, one = "+0.00 [+0.00, +0.00]", "+1.00 [+1.00, +1.00]"
    assert [cell.replace("-0.00", "+0.00") for cell in found[1:]] == [
        zero,
        one,
        one.replace("+", "-"),
    ]


def test_one_network_has_no_interval():
    assert cells(paired.markdown(networks(seeds=1)), "log10 R_K")[-1] == "+0.00"


def test_what_cannot_be_paired_is_refused():
    one, _ = networks()
    with pytest.raises(ValueError, match="compares two files, --results A B; got 1"):
        paired.markdown([one])
    fewer = MeasuredNetwork(classifier_results.network("vgg11", seeds=2), "c.nc")
    with pytest.raises(ValueError, match=r"same model and seeds; got a.nc.*\[0, 1, 2\].*c.nc"):
        paired.markdown([one, fewer])
