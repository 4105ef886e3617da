"""R against displacement and cut-off, and D, G, R against the epoch."""

import numpy as np
import pytest

from cnnpool.figures import delta_cutoff, dynamics
from cnnpool.figures.networks import MeasuredNetwork
from tests import classifier_results


def network(*args, **fields):
    return MeasuredNetwork(classifier_results.network(*args, **fields), "a.nc")


def test_r_against_displacement_a_curve_a_cutoff():
    curves = delta_cutoff.series([network(deltas=[3.0, 0.1, 1.0], cutoffs=[10, 3])])
    assert list(dict.fromkeys(one.panel[1] for one in curves)) == [
        *("$k/K$ ≈ 0.25", "$k/K$ ≈ 0.5", "$k/K$ ≈ 0.75", "output")
    ]
    three, ten = (one for one in curves if one.panel[1] == "output")
    assert (three.curve, ten.curve) == ("$c$ = 3", "$c$ = 10")
    np.testing.assert_array_equal(three.x, [0.1, 1, 3])
    np.testing.assert_allclose(three.y, 10**-1.5 * three.x**0.1)
    np.testing.assert_allclose(ten.y, 10**-1.5 * ten.x**0.1 * (10 / 3) ** 0.2)
    assert three.points == ("not natural", "natural", "natural")
    assert ten.points == ("not natural", "natural", "not natural")


def test_markers_are_hollow_where_not_natural():
    figure = delta_cutoff.draw(
        delta_cutoff.series([network(deltas=[0.1, 1.0, 3.0], cutoffs=[3, 10])])
    )
    axes = figure.axes[-1]
    dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
    hollow = [dot for dot in dots if dot.get_markerfacecolor() == "white"]
    assert [list(dot.get_xdata()) for dot in hollow] == [[0.1], [0.1, 3]]
    filled = [dot for dot in dots if dot.get_markerfacecolor() != "white"]
    assert [list(dot.get_xdata()) for dot in filled] == [[1, 3], [1]]


def test_one_displacement_with_several_cutoffs_is_enough():
    assert len(delta_cutoff.series([network(deltas=[0.5], cutoffs=[3, 10])])) == 8


def test_epochs_are_in_order_and_the_best_network_is_left_out():
    given = network(stages=["trained", "30", "last", "init", "10"], epochs=100)
    curves = dynamics.series([given])
    output = [one for one in curves if one.curve == "output"]
    assert [one.panel[1] for one in output] == ["$D_k$", "$G_k$", "$R_k$"]
    for one in output:
        np.testing.assert_array_equal(one.x, [0, 10, 30, 100])
        assert one.points == ("init", "10", "30", "last")
    np.testing.assert_allclose(output[2].y, 10 ** (-1.5 * output[2].x / 100))
    np.testing.assert_allclose(output[1].y, 0.01 * (1 + output[1].x / 100))
    np.testing.assert_allclose(output[0].y, output[1].y * output[2].y)


def test_the_output_is_darkest_and_a_row_is_a_network():
    given = [network(stages=["init", "last"]), network("lenet", "scale2d", stages=["init", "last"])]
    figure = dynamics.draw(dynamics.series(given))
    assert [axes.get_ylabel() for axes in figure.axes] == [
        *("VGG11-bn\nCIFAR-10\n$D_k$", "$G_k$", "$R_k$"),
        *("LeNet\nscale detection\n$D_k$", "$G_k$", "$R_k$"),
    ]
    lines = [line for line in figure.axes[2].get_lines() if len(line.get_xdata()) == 2][:4]
    brightness = [sum(line.get_color()[:3]) for line in lines]
    assert brightness == sorted(brightness, reverse=True)


def test_one_epoch_is_no_dynamics():
    with pytest.raises(ValueError, match=r"several epochs.*--stage=all --transforms=none"):
        dynamics.series([network(stages=["init", "trained"])])
    given = network(stages=["init", "1"], transforms=["channel_shuffle"])
    with pytest.raises(ValueError, match=r"lacks transform none .*--stage=init,1"):
        dynamics.series([given])
