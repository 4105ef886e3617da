"""The paper's claims as statistics, of made-up results with known answers."""

import json
import math

import numpy as np
import pytest
from scipy import stats
import xarray as xr

from cnnpool.figures import __main__ as figures
from cnnpool.figures import claims, shuffles
from cnnpool.figures.claims import FAILS, HOLDS, NOT_REFUTED, UNDECIDED
from cnnpool.figures.intervals import Interval
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.files import results
from cnnpool.instruments.filter_spectrum import laplacian_modes
from tests import classifier_results


def network(data="scale2d", *, share=0.95, share_se=0.01, seeds=3, **fields):
    dataset = classifier_results.network("vgg11_bn", data, seeds=seeds, **fields)
    there = dataset["transform"] == "channel_shuffle"
    cells = xr.DataArray(np.full((seeds, 2), share), dims=("seed", "stage")).where(there)
    dataset["spatial_share"], dataset["spatial_share_se"] = cells, cells * 0 + share_se
    dataset.attrs["measurement"] = json.dumps(
        {"settings": {"shuffles": classifier_results.SHUFFLES}}
    )
    return MeasuredNetwork(dataset, "a.nc")


def values(one):
    return {
        (claim.words or claim.formula, variant): found
        for claim, variant, found, _ in claims.of_network(one)
    }


def verdicts(one):
    return {
        (claim.words, variant): verdict for claim, variant, _, verdict in claims.of_network(one)
    }


FROZEN, INPUTS = "frozen statistics", "inputs"
FALLS, SHARE = ("R_k falls with depth", ""), ("spatial share of the fall of log R", INPUTS)
STILL_FALLS = ("with shuffled channels R_k still falls", INPUTS)
RAISED = ("shuffled channels raise R", INPUTS)
ZERO = ("the zero frequency grows where R falls", "")
OUTPUT, FIRST = (
    (f"training makes the {layer} more sensitive to noise", FROZEN)
    for layer in ("output", "first layer")
)


def test_statistics_are_ratios_in_decades():
    """Of R = 10^(-1.5 k/9), shuffled 10^(-0.5 k/9), G = 0.01 (1 + k/9), D = R G."""
    one = network()
    one.dataset["G"].loc[{"layer": "pool01", "transform": "channel_shuffle"}] *= 1 + 1e-9
    found = values(one)
    g = math.log10(2 / (1 + 1 / 9))
    expected = {
        FALLS: 1.5 * 8 / 9,
        ("R_k does not fall at initialization", FROZEN): 0,
        ("D_k falls with depth", ""): 1.5 * 8 / 9 - g,
        ("G_k grows with depth", ""): g,
        FIRST: math.log10(1 + 1 / 9),
        OUTPUT: math.log10(2),
        STILL_FALLS: 0.5 * 8 / 9,
        **{
            ("shuffled channels leave the curves almost unaltered", f"{q}, inputs; layer {k}"): v
            for q, k, v in (("D", 9, 1.0), ("G", 1, 0.0), ("R", 9, 1.0))
        },
        SHARE: 0.95,
        ZERO: math.log10(1 / np.mean(10 ** (-laplacian_modes(3)[1] / 4))),
    }
    assert found.keys() == expected.keys()
    for words, value in expected.items():
        np.testing.assert_allclose(found[words].mean, value, atol=1e-8, err_msg=str(words))
        assert found[words].networks == 3
    of_images = values(network("cifar10"))
    np.testing.assert_allclose(of_images[RAISED].mean, 1.0)
    assert ("G_k grows with depth", "") not in of_images


def test_the_interval_is_over_networks_or_within_the_only_one():
    """The seeds' factors cancel in ratios but those that are put in here."""
    three = network()
    three.dataset["R"].loc[{"layer": "linear09", "transform": "none"}] *= [[1.0], [2.0], [4.0]]
    found = values(three)[FALLS]
    np.testing.assert_allclose(found.mean, 1.5 * 8 / 9 - math.log10(2))
    t = stats.t.ppf(0.975, 2) * math.log10(2) / math.sqrt(3)
    np.testing.assert_allclose((found.low, found.high), (found.mean - t, found.mean + t))
    one = values(network(seeds=1))
    half = {words: found.high - found.mean for words, found in one.items()}
    normal, ten = stats.norm.ppf(0.975), math.log(10)
    images = normal * math.sqrt(2) * classifier_results.IMAGE_ERROR / ten
    np.testing.assert_allclose(half[FALLS], images)
    n, spread = classifier_results.SHUFFLES, classifier_results.SHUFFLE_SPREAD
    each = stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n) / ten
    np.testing.assert_allclose(half[STILL_FALLS], math.hypot(images, math.sqrt(2) * each))
    spectra = normal * math.sqrt(2 / 8) * classifier_results.IMAGE_ERROR / ten
    np.testing.assert_allclose(half[ZERO], spectra)


def test_a_gain_is_between_the_stages_of_one_layer():
    """What is put into one layer after training moves its gain alone, with the spread's error."""
    three = network()
    three.dataset["G"].loc[{"layer": "linear09", "stage": "trained"}] *= [[0.1], [0.1], [0.2]]
    found = values(three)
    two = math.log10(2)
    np.testing.assert_allclose(found[OUTPUT].mean, two - 1 + two / 3)
    half = stats.t.ppf(0.975, 2) * two / 3
    np.testing.assert_allclose(found[OUTPUT].high - found[OUTPUT].mean, half)
    assert verdicts(three)[OUTPUT] == FAILS
    np.testing.assert_allclose(found[FIRST].mean, math.log10(1 + 1 / 9))
    np.testing.assert_allclose(claims.gain(three, "R", layer=0).mean, -1.5 / 9)


def test_before_training_both_kinds_of_statistics_are_judged():
    """With own statistics R falls here at initialization, with frozen ones it does not."""
    one = network("cifar10", transforms=("none", "channel_shuffle", "own_statistics"))
    at_init = {"stage": "init", "transform": "own_statistics", "layer": "linear09"}
    one.dataset["R"].loc[at_init] /= 10
    found = verdicts(one)
    words = "R_k does not fall at initialization"
    assert found[words, "own statistics"] == FAILS
    assert found[words, FROZEN] == NOT_REFUTED
    np.testing.assert_allclose(values(one)[words, "own statistics"].mean, 1)
    without = MeasuredNetwork(classifier_results.network("vgg11", "cifar10"), "b.nc")
    assert claims._before_training(without) == {"": "none"}, "the same without batch norm"


def test_luma_and_chroma_are_judged_apart():
    one = network("cifar10", noises=("white", "luma"))
    luma = {"noise": "luma", "stage": "trained", "layer": "linear09"}
    one.measured["G"].loc[luma] *= 100
    found = values(one)
    expected = found[OUTPUT].mean + 2
    np.testing.assert_allclose(found[OUTPUT[0], f"{FROZEN}, luma"].mean, expected)


def test_every_kind_of_shuffle_is_judged():
    kinds = ("channel_shuffle", "channel_shuffle_both", "channel_shuffle_recalibrated")
    one = network("cifar10", transforms=("none", *kinds))
    one.dataset["R"].loc[{"transform": kinds[1], "layer": "linear09"}] /= 100
    found = verdicts(one)
    assert found[RAISED] == found[RAISED[0], "inputs, recalibrated"] == HOLDS
    assert found[RAISED[0], "both axes"] == FAILS


def test_biases_and_norms_alone_are_drawn_beside_the_shuffles_and_prove_no_claim():
    control = "channel_shuffle_vectors"
    one = network("cifar10", transforms=("none", "channel_shuffle", control))
    one.dataset["R"].loc[{"transform": control, "layer": "linear09"}] /= 100
    assert verdicts(one).keys() == verdicts(network("cifar10")).keys()
    curves = {c.curve: c.y[-1] for c in shuffles.series([one]) if " R " in c.panel[1]}
    assert curves.keys() == {"inputs", "biases and norms alone"}
    np.testing.assert_allclose(curves["biases and norms alone"], curves["inputs"] - 2)


def test_nearly_unaltered_is_a_statement_on_every_layer():
    near, far, wide = (Interval(*ends, 3) for ends in ((0, -0.05, 0.05), (1, 0.9, 1.1), (0, -1, 1)))
    assert claims.is_nearly_zero([near, near]) == HOLDS
    assert claims.is_nearly_zero([near, far, wide]) == FAILS
    assert claims.is_nearly_zero([near, wide]) == UNDECIDED


def test_a_share_is_undefined_where_r_falls_by_less_than_half_a_decade():
    one = network()
    falls = one.dataset["R"].sel(stage="trained", transform="none")
    flat = falls.sel(layer="pool01") * 10**-0.4
    output = {"layer": "linear09", "stage": "trained", "transform": "none"}
    one.dataset["R"].loc[output] = flat
    found = {words: one for words, one in verdicts(one).items() if words[0] == ""}
    assert found == {("", INPUTS): "undefined: R falls by 0.40 decades, 0.5 are needed"}
    assert str(values(one)[SHARE]) == "undefined"
    one.dataset["R"].loc[output] = flat.where(flat["seed"] > 0, flat / 10)
    assert values(one)[SHARE].networks == 1, "of the network in which it falls far enough"


def test_files_of_schema_1_are_judged_by_their_means_and_spreads():
    new = network("cifar10", seeds=1)
    old = MeasuredNetwork(classifier_results.of_schema_1(new.measured), "old.nc")
    then, now = values(old)[RAISED], values(new)[RAISED]
    # The mean of R over shuffles is larger than that of its logarithms, by half its variance.
    n = classifier_results.SHUFFLES
    variance = classifier_results.SHUFFLE_SPREAD**2 * (n - 1) / n
    expected = now.mean + variance / 2 / math.log(10)
    np.testing.assert_allclose(then.mean, expected, atol=1e-5)  # cumulants of fourth order
    np.testing.assert_allclose(then.high - then.low, now.high - now.low, rtol=0.02)


def test_zero_frequencies_count_where_r_falls_alone():
    plain, other = network(), network()
    other.dataset["R"].loc[{"layer": "pool02", "transform": "none", "stage": "trained"}] = 2.0
    other.dataset["gamma"].loc[{"layer": "conv02", "stage": "trained", "frequency": 1}] *= 100
    np.testing.assert_allclose(values(other)[ZERO], values(plain)[ZERO], atol=1e-12)
    other.dataset["R"].loc[{"layer": "pool02", "transform": "none", "stage": "trained"}] = 0.1
    assert values(other)[ZERO].mean > values(plain)[ZERO].mean + 0.05


@pytest.mark.parametrize(
    ("ends", "positive", "not_positive"),
    [
        ((-0.3, -0.5, -0.1), FAILS, NOT_REFUTED),
        ((0.15, -0.05, 0.35), UNDECIDED, NOT_REFUTED),
        ((0.25, 0.05, 0.45), HOLDS, FAILS),
        ((math.nan, math.nan, math.nan), UNDECIDED, UNDECIDED),
    ],
)
def test_verdicts_are_where_the_interval_lies(ends, positive, not_positive):
    found = Interval(*ends, 3)
    assert claims.is_positive(found) == positive
    assert claims.is_not_positive(found) == not_positive


def test_the_command_writes_a_line_a_claim_and_network(tmp_path, capsys):
    for name, data in (("a", "scale2d"), ("b", "cifar10")):
        results.write(tmp_path / f"{name}.nc", network(data).measured)
    files = [str(tmp_path / f"{name}.nc") for name in "ab"]
    out = tmp_path / "claims.md"
    figures.main(["claims", "--results", *files, "--out", str(out)])
    text = out.read_text()
    assert text in capsys.readouterr().out
    assert len(text.splitlines()) == 2 + 12 + 9
    line = "| VGG11-bn, scale detection | R_k falls with depth |  | log10 R_1 / R_K | 3 "
    assert f"{line}| +1.33 [+1.33, +1.33] | holds |" in text


def test_networks_that_were_not_shuffled_are_refused():
    dataset = classifier_results.network("vgg11", "scale2d", transforms=("none",))
    with pytest.raises(ValueError, match=r"lacks transform channel_shuffle.*spatial_share"):
        claims.markdown([MeasuredNetwork(dataset, "a.nc")])
