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
    others = classifier_results.network("vgg11", seeds=2).assign_coords(seed=[7, 8])
    with pytest.raises(ValueError, match=r"in common; got a.nc.*\[0, 1, 2\].*c.nc.*\[7, 8\]"):
        paired.markdown([one, MeasuredNetwork(others, "c.nc")])


def test_seeds_that_only_one_file_has_are_left_out():
    one, other = networks()
    other.dataset["R"].loc[{"seed": 1}] *= 100  # of no effect: it is not among the common ones
    other = MeasuredNetwork(other.measured.isel(seed=[2, 0]), "c.nc")
    text = paired.markdown([one, other])
    assert "Seeds: 0, 2." in text
    assert cells(text, "log10 R_K")[0] == "2"
    assert cells(text, "log10 R_K")[-1] == "+0.00 [+0.00, +0.00]"
