"""The paper's claims as statistics, of made-up results with known answers."""

import json
import math

import numpy as np
import pytest

from cnnpool import results
from cnnpool.figures import __main__ as figures
from cnnpool.figures import claims
from cnnpool.figures.claims import FAILS, HOLDS, NOT_REFUTED, UNDECIDED, Statistic
from cnnpool.figures.networks import Network
from cnnpool.filter_spectrum import laplacian_modes
from tests import deep_results


def network(data="scale2d", *, share=0.95, share_se=0.01, seeds=3, **fields):
    dataset = deep_results.network("vgg11_bn", data, seeds=seeds, **fields)
    cells = np.full((seeds, 2), share)
    dataset["spatial_share"] = ("seed", "stage"), cells
    dataset["spatial_share_se"] = ("seed", "stage"), cells * 0 + share_se
    dataset.attrs["measurement"] = json.dumps({"settings": {"shuffles": 4}})
    return Network(dataset, "a.nc")


def values(one):
    return {
        claim.words: claim.statistic(one)
        for claim in claims.CLAIMS
        if claim.data in (None, one.data)
    }


def test_statistics_are_ratios_in_decades():
    """Of R = 10^(-1.5 k/9), shuffled 10^(-0.5 k/9), G = 0.01 (1 + k/9), D = R G."""
    found = values(network())
    g = math.log10(2 / (1 + 1 / 9))
    lowest = math.log10(1 / np.mean(10 ** (-laplacian_modes(3)[1] / 4)))
    expected = {
        "R_k falls with depth": 1.5 * 8 / 9,
        "R_k does not fall at initialization": 0,
        "D_k falls with depth": 1.5 * 8 / 9 - g,
        "G_k grows with depth": g,
        "training makes the first layer more sensitive to noise": math.log10(1 + 1 / 9),
        "training makes the output more sensitive to noise": math.log10(2),
        "with shuffled channels R_k still falls": 0.5 * 8 / 9,
        "shuffled channels leave the curves almost unaltered": 0.95,
        "the zero frequency grows where R falls": lowest,
    }
    assert found.keys() == expected.keys()
    for words, value in expected.items():
        np.testing.assert_allclose(found[words].mean, value, atol=1e-12, err_msg=words)
        assert found[words].seeds == 3
    natural = network("cifar10")
    natural.dataset["spatial_share"] = ("seed", "stage"), np.full((3, 2), 0.5)
    of_images = values(natural)
    np.testing.assert_allclose(of_images["shuffled channels raise R"].mean, 1.0)
    assert "G_k grows with depth" not in of_images


def test_the_error_is_over_networks_or_within_the_only_one():
    """The seeds' factors cancel in ratios but those that are put in here."""
    three = network()
    three.dataset["R"].loc[{"layer": "linear09", "transform": "none"}] *= [[1.0], [2.0], [4.0]]
    found = values(three)["R_k falls with depth"]
    np.testing.assert_allclose(found.mean, 1.5 * 8 / 9 - math.log10(2))
    np.testing.assert_allclose(found.se, math.log10(2) / math.sqrt(3))
    one = values(network(seeds=1))
    images, shuffles = deep_results.IMAGE_ERROR, deep_results.SHUFFLE_SPREAD
    ten = math.log(10)
    np.testing.assert_allclose(one["R_k falls with depth"].se, math.sqrt(2) * images / ten)
    both = math.sqrt(2 * (images**2 + shuffles**2 / 4)) / ten
    np.testing.assert_allclose(one["with shuffled channels R_k still falls"].se, both)
    spectra = one["the zero frequency grows where R falls"].se
    np.testing.assert_allclose(spectra, math.sqrt(2 / 8) * images / ten)


def test_a_gain_is_between_the_stages_of_one_layer():
    """What is put into one layer after training moves its gain alone, with the spread's error."""
    three = network()
    three.dataset["G"].loc[{"layer": "linear09", "stage": "trained"}] *= [[0.1], [0.1], [0.2]]
    found = values(three)
    output = found["training makes the output more sensitive to noise"]
    two = math.log10(2)
    np.testing.assert_allclose(output.mean, two - 1 + two / 3)
    np.testing.assert_allclose(output.se, two / 3)
    assert claims.is_positive(output) == FAILS
    first = found["training makes the first layer more sensitive to noise"]
    np.testing.assert_allclose(first.mean, math.log10(1 + 1 / 9))
    np.testing.assert_allclose(claims.gain(three, "R", layer=0).mean, -1.5 / 9)
    one = claims.gain(network(seeds=1), "G", layer=-1)
    np.testing.assert_allclose(one.se, math.sqrt(2) * deep_results.IMAGE_ERROR / math.log(10))


def test_zero_frequencies_count_where_r_falls_alone():
    plain, other = network(), network()
    other.dataset["R"].loc[{"layer": "pool02", "transform": "none", "stage": "trained"}] = 2.0
    other.dataset["gamma"].loc[{"layer": "conv02", "stage": "trained", "frequency": 1}] *= 100
    key = "the zero frequency grows where R falls"
    np.testing.assert_allclose(values(other)[key], values(plain)[key], atol=1e-12)
    other.dataset["R"].loc[{"layer": "pool02", "transform": "none", "stage": "trained"}] = 0.1
    assert values(other)[key].mean > values(plain)[key].mean + 0.05


@pytest.mark.parametrize(
    ("mean", "positive", "not_positive", "almost_one"),
    [
        (-0.3, FAILS, NOT_REFUTED, FAILS),
        (0.15, UNDECIDED, NOT_REFUTED, FAILS),
        (0.25, HOLDS, FAILS, FAILS),
        (0.7, HOLDS, FAILS, UNDECIDED),
        (0.95, HOLDS, FAILS, UNDECIDED),
        (1.5, HOLDS, FAILS, FAILS),
        (math.nan, UNDECIDED, UNDECIDED, UNDECIDED),
    ],
)
def test_verdicts_are_two_standard_errors(mean, positive, not_positive, almost_one):
    found = Statistic(mean, 0.1, 3)
    assert claims.is_positive(found) == positive
    assert claims.is_not_positive(found) == not_positive
    assert claims.is_almost_one(found) == almost_one


def test_almost_one_is_within_a_fifth_for_sure():
    assert claims.is_almost_one(Statistic(0.9, 0.04, 10)) == HOLDS
    assert claims.is_almost_one(Statistic(0.64, 0.04, 1)) == FAILS
    assert claims.is_not_positive(Statistic(-1.0, math.nan, 1)) == UNDECIDED


def test_the_command_writes_a_line_a_claim_and_network(tmp_path, capsys):
    for name, data in (("a", "scale2d"), ("b", "cifar10")):
        results.write(tmp_path / f"{name}.nc", network(data).dataset)
    files = [str(tmp_path / f"{name}.nc") for name in "ab"]
    out = tmp_path / "claims.md"
    figures.main(["claims", "--results", *files, "--out", str(out)])
    text = out.read_text()
    assert text in capsys.readouterr().out
    assert len(text.splitlines()) == 2 + 9 + 8
    line = "| VGG11-bn, scale detection | R_k falls with depth | log10 R_1 / R_K | 3 | +1.33 ± 0.00"
    assert f"{line} | holds |" in text


def test_networks_that_were_not_shuffled_are_refused():
    dataset = deep_results.network("vgg11", "scale2d", transforms=("none",))
    with pytest.raises(ValueError, match=r"lacks transform channel_shuffle.*spatial_share"):
        claims.markdown([Network(dataset, "a.nc")])
