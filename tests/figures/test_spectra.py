"""Figures 3, 8 and 10: spectra of filters and their mean frequency."""

import numpy as np
import pytest

from cnnpool.figures import fig8, spectra
from cnnpool.figures.figure_rows import ROWS
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.instruments.filter_spectrum import laplacian_modes
from tests import classifier_results

fig3, fig10 = (ROWS[item] for item in ("fig3", "fig10"))


def network(*args, **fields):
    return MeasuredNetwork(classifier_results.network(*args, **fields), "a.nc")


def test_a_panel_a_convolution_and_a_row_a_network():
    given = [network("vgg11_bn", "scale2d"), network("vgg11_bn"), network("vgg11")]
    figure = fig3.draw(fig3.series(given))
    assert len(figure.axes) == 3 * 8
    rows = [figure.axes[8 * row].get_ylabel() for row in range(3)]
    assert rows == ["VGG11\nCIFAR-10", "VGG11-bn\nCIFAR-10", "VGG11-bn\nscale detection"]
    assert [axes.get_title() for axes in figure.axes[:8]] == [f"$k$ = {k}" for k in range(1, 9)]
    assert all(axes.get_yscale() == "log" for axes in figure.axes)


def test_dotted_is_initialization_and_solid_trained():
    figure = fig3.draw(fig3.series([network("vgg11")]))
    axes = figure.axes[2]
    random, dotted, solid = axes.get_lines()
    level = 0.01 / 3
    np.testing.assert_array_equal(random.get_xdata(), np.arange(1, 10))
    np.testing.assert_allclose(random.get_ydata(), np.full(9, level))
    assert (dotted.get_linestyle(), solid.get_linestyle()) == (":", "-")
    np.testing.assert_allclose(dotted.get_ydata(), np.full(9, level))
    expected = classifier_results.trained_power(laplacian_modes(3)[1], level)
    np.testing.assert_allclose(solid.get_ydata(), expected)
    assert random.get_linewidth() < solid.get_linewidth()


def test_errors_are_over_seeds_or_over_filters():
    for seeds, relative in ((3, 0.1 / np.sqrt(3)), (1, classifier_results.IMAGE_ERROR)):
        curves = fig3.series([network("vgg11", seeds=seeds)])
        trained = [one for one in curves if one.curve == "trained"]
        assert len(trained) == 8
        np.testing.assert_allclose(trained[0].y_se, relative * trained[0].y)
        assert list(trained[0].seeds) == [seeds] * 9


def test_equal_eigenvalues_share_a_tick():
    figure = fig3.draw(fig3.series([network("vgg11")]))
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.get_xticks(), [1, 2.5, 4, 5.5, 7.5, 9])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "2", "3", "4", "6"]


def test_many_eigenvalues_have_few_labels():
    eigenvalues = [f"{value:.6g}" for value in laplacian_modes(5)[1]]
    places, labels = spectra.eigenvalue_ticks(eigenvalues)
    assert len(places) == len(set(eigenvalues))
    shown = [label for label in labels if label]
    assert (len(shown), shown[0], shown[-1]) == (4, "0", "7.2")


def test_figure_10_has_large_and_small_filters():
    curves = fig10.series([network("lenet"), network("alexnet")])
    figure = fig10.draw(curves)
    assert [len(axes.get_lines()) for axes in figure.axes] == [3] * 7 + [0] * 3
    lenet = [one for one in curves if one.model == "lenet"]
    assert {len(one.x) for one in lenet} == {25}
    assert {len(one.x) for one in curves if one.model == "alexnet"} == {9}


def test_convolutions_of_one_pixel_have_no_spectrum():
    dataset = classifier_results.network("vgg11")
    dataset["eigenvalue"].loc[{"layer": "conv02", "frequency": slice(2, None)}] = np.nan
    assert spectra.convolutions(dataset) == ["conv01", *(f"conv{k:02d}" for k in range(3, 9))]


def test_figure_8_is_a_curve_a_network_against_depth():
    given = [network("vgg11"), network("alexnet"), network("alexnet", "scale2d")]
    figure = fig8.draw(fig8.series(given))
    assert [axes.get_title() for axes in figure.axes] == ["CIFAR-10", "scale detection"]
    lines = figure.axes[0].get_lines()
    dotted, solid = lines[:2]
    assert (dotted.get_linestyle(), solid.get_linestyle()) == (":", "-")
    np.testing.assert_allclose(solid.get_xdata(), np.arange(1, 6) / 8)
    np.testing.assert_allclose(solid.get_ydata(), [0.35, 0.4, 0.45, 0.5, 0.55])
    np.testing.assert_allclose(dotted.get_ydata(), np.ones(5))
    np.testing.assert_allclose(lines[3].get_xdata(), np.arange(1, 9) / 9)
    assert list(lines[-1].get_ydata()) == [1, 1]


@pytest.mark.parametrize("figure", [fig3, fig8])
def test_both_stages_are_needed(figure):
    with pytest.raises(ValueError, match=r"lacks stage init .*--stage=init,trained"):
        figure.series([network("vgg11", stages=["trained"])])
