"""Figures 2, 6 and 7: which lines are drawn, with which values, styles and bands."""

from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.colors import to_rgba
import numpy as np
import pytest

from cnnpool.figures import depth_curves, fig6, style
from cnnpool.figures.figure_rows import ROWS
from cnnpool.figures.networks import MeasuredNetwork
from tests import classifier_results

fig2, fig7 = (ROWS[item] for item in ("fig2", "fig7"))


def network(*args, **fields):
    return MeasuredNetwork(classifier_results.network(*args, **fields), "a.nc")


def lines_of(axes, color):
    """Lines of a colour, by their style."""
    return {
        line.get_linestyle(): line
        for line in axes.get_lines()
        if to_rgba(line.get_color()) == to_rgba(color) and line.get_marker() != "None"
    }


def bands_of(axes):
    return [one for one in axes.collections if isinstance(one, FillBetweenPolyCollection)]


def test_full_lines_are_the_network_and_dashed_ones_its_shuffle():
    curves = fig2.series([network("vgg11")])
    (axes,) = fig2.draw(curves).axes
    lines = lines_of(axes, style.BLUE)
    share = np.arange(1, 10) / 9
    for linestyle, slope in (("-", 1.5), ("--", 0.5)):
        np.testing.assert_allclose(lines[linestyle].get_xdata(), share)
        np.testing.assert_allclose(lines[linestyle].get_ydata(), 10 ** (-slope * share))
    assert lines["--"].get_markerfacecolor() == "white"
    assert axes.get_yscale() == "log"
    assert axes.get_title() == "CIFAR-10"


def test_initialization_is_thin_and_grey_and_only_where_it_was_measured():
    (axes,) = fig2.draw(fig2.series([network("vgg11")])).axes
    grey = depth_curves.LOOKS["initialization"]["color"]
    (line,) = lines_of(axes, grey).values()
    np.testing.assert_allclose(line.get_ydata(), np.ones(9))
    assert line.get_linewidth() < 1
    without = fig2.series([network("vgg11", stages=["trained"])])
    assert {one.curve for one in without} == {"original", "channels shuffled"}
    (axes,) = fig2.draw(without).axes
    assert not lines_of(axes, grey)


def test_there_is_a_line_at_one():
    (axes,) = fig2.draw(fig2.series([network("vgg11")])).axes
    flat = [line for line in axes.get_lines() if list(line.get_ydata()) == [1, 1]]
    assert len(flat) == 1


@pytest.mark.parametrize("seeds", [1, 3])
def test_bands_are_standard_errors(seeds):
    curves = fig2.series([network("vgg11", seeds=seeds)])
    original, shuffled = (
        next(one for one in curves if one.curve == name)
        for name in ("original", "channels shuffled")
    )
    # Over three seeds the standard deviation is 0.1 of the mean; over images an error is 0.05.
    relative = 0.1 / np.sqrt(3) if seeds == 3 else classifier_results.IMAGE_ERROR
    np.testing.assert_allclose(original.y_se, relative * original.y)
    spread = classifier_results.SHUFFLE_SPREAD * np.sqrt(np.mean([0.9**2, 1, 1.1**2]) / 3)
    spread = spread if seeds == 3 else classifier_results.SHUFFLE_SPREAD
    np.testing.assert_allclose(shuffled.y_se, np.hypot(relative, spread) * shuffled.y)
    (axes,) = fig2.draw(curves).axes
    bands = bands_of(axes)
    assert len(bands) == 2  # not of the initialization
    heights = sorted(float(np.ptp(band.get_paths()[0].vertices[:, 1])) for band in bands)
    expected = sorted(
        (one.y + one.y_se).max() - (one.y - one.y_se).min() for one in (original, shuffled)
    )
    np.testing.assert_allclose(heights, expected)


def test_panels_are_the_data_sets_that_there_are():
    both = fig2.series([network("vgg11", "imagenet"), network("vgg11", "cifar10")])
    figure = fig2.draw(both)
    assert [axes.get_title() for axes in figure.axes] == ["CIFAR-10", "ImageNet"]
    only = fig7.draw(fig7.series([network("alexnet", "imagenet")]))
    assert [axes.get_title() for axes in only.axes] == ["ImageNet"]


def test_networks_have_their_own_colours_markers_and_legend_entries():
    figure = fig7.draw(fig7.series([network("lenet"), network("alexnet", seeds=1)]))
    (axes,) = figure.axes
    for name in ("lenet", "alexnet"):
        look = style.network(name)
        assert {line.get_marker() for line in lines_of(axes, look.color).values()} == {look.marker}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        *("AlexNet ($n$ = 1)", "LeNet ($n$ = 3)"),
        *("original", "channels shuffled", "initialization"),
    ]


@pytest.mark.parametrize(
    ("seeds", "title"),
    [
        ([1, 1], "± se over images ($n$ = 1)"),
        ([5, 5], "mean over 5 seeds, ± se"),
        ([3, 5], "mean over 3 or 5 seeds, ± se"),
        ([5, 1], "mean over 5 seeds, ± se\n± se over images ($n$ = 1)"),
    ],
)
def test_the_legend_says_what_the_bands_are(seeds, title):
    given = [network(m, seeds=n) for m, n in zip(("lenet", "alexnet"), seeds, strict=True)]
    legend = fig7.draw(fig7.series(given)).legends[0]
    assert legend.get_title().get_text() == title


def test_looks_of_networks_differ():
    looks = [(look.color, look.marker) for look in style.NETWORKS.values()]
    assert len(set(looks)) == len(looks)
    vgg = [look for look in style.NETWORKS.values() if look.family == style.VGG]
    assert len({look.color for look in vgg}) == len({look.marker for look in vgg}) == len(vgg) == 8


def test_figure_6_has_a_row_a_family_and_d_g_r_in_columns():
    curves = fig6.series([network("vgg11", "scale2d"), network("alexnet", "scale2d")])
    figure = fig6.draw(curves)
    assert [one.get_ylabel() for one in figure.axes] == [
        *("AlexNet\nLeNet\n$D_k$", "$G_k$", "$R_k$"),
        *("VGG\n$D_k$", "$G_k$", "$R_k$"),
    ]
    assert [one.get_title() for one in figure.axes] == ["$D_k$", "$G_k$", "$R_k$", "", "", ""]
    share = np.arange(1, 10) / 9
    r, g = 10 ** (-1.5 * share), 0.01 * (1 + share)
    for axes, expected in zip(figure.axes[3:], (r * g, g, r), strict=True):
        np.testing.assert_allclose(lines_of(axes, style.BLUE)["-"].get_ydata(), expected)


def test_displacement_and_cutoff_are_the_nominal_ones():
    curves = fig2.series([network("vgg11", deltas=[0.1, 1.0, 3.0], cutoffs=[10, 3])])
    np.testing.assert_allclose(curves[0].y, 10 ** (-1.5 * np.arange(1, 10) / 9))


def test_layers_without_a_value_leave_a_gap():
    dataset = classifier_results.network("vgg11", seeds=1)
    dataset["R"].loc[{"layer": "relu05"}] = np.nan
    curves = fig2.series([MeasuredNetwork(dataset, "a.nc")])
    assert list(np.flatnonzero(np.isnan(curves[0].y))) == [4]
    assert list(curves[0].seeds) == [1, 1, 1, 1, 0, 1, 1, 1, 1]
    fig2.draw(curves)


def test_batch_norm_has_two_curves_at_initialization():
    """With own statistics, where they were measured, and with frozen ones beside."""
    both = network("vgg11_bn", transforms=("none", "channel_shuffle", "own_statistics"))
    both.dataset["R"].loc[{"stage": "init", "transform": "own_statistics"}] *= 2
    found = {one.curve: one.y for one in fig2.series([both])}
    own, frozen = found["initialization"], found["initialization, frozen statistics"]
    np.testing.assert_allclose(own, 2 * frozen)
    without = {one.curve for one in fig2.series([network("vgg11")])}
    assert without == {"original", "channels shuffled", "initialization"}


def test_all_three_shuffles_are_drawn_where_they_were_measured():
    kinds = ("channel_shuffle", "channel_shuffle_both", "channel_shuffle_recalibrated")
    found = {one.curve for one in fig2.series([network("vgg11_bn", transforms=("none", *kinds))])}
    assert {"channels shuffled", "both axes shuffled", "shuffled, recalibrated"} <= found
    found = {one.curve for one in fig2.series([network("vgg11", transforms=("none", *kinds))])}
    assert "shuffled, recalibrated" not in found, "without batch norm it is the plain shuffle"
