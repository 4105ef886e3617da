"""Figure 5 and the noise figure: test error against D, G, R of the output."""

import numpy as np
import pytest

from cnnpool.figures import error_scatter, fig5, noise, style
from cnnpool.figures.networks import Network
from tests import deep_results

FACTORS = {"lenet": 0.5, "alexnet": 1.5, "vgg11": 0.7, "vgg11_bn": 0.3, "vgg13_bn": 0.2}


def network(model, data="scale2d", **fields):
    return Network(deep_results.network(model, data, **fields), f"{model}.nc")


def five(**fields):
    """Networks whose test error is 0.1 times the square of R's factor."""
    return [network(m, factor=f, test_error=0.1 * f**2, **fields) for m, f in FACTORS.items()]


def markers(axes):
    """{(x, y): line} of the points of a panel."""
    return {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0])): line
        for line in axes.get_lines()
        if line.get_marker() not in ("None", "|", "_")
    }


def test_points_are_outputs_averaged_over_seeds_with_errors():
    points = fig5.series(five())
    assert [one.panel[1] for one in points] == ["D"] * 5 + ["G"] * 5 + ["R"] * 5
    vgg = next(one for one in points if one.model == "vgg11" and one.panel[1] == "D")
    r, g = 10**-1.5, 0.02
    np.testing.assert_allclose(vgg.x, [r * g * 0.7**0.5])
    np.testing.assert_allclose(vgg.y, [0.1 * 0.7**2])
    np.testing.assert_allclose(vgg.x_se, vgg.x * 0.1 / np.sqrt(3))
    np.testing.assert_allclose(vgg.y_se, vgg.y * 0.1 / np.sqrt(3))
    assert list(vgg.seeds) == [3]


def test_one_point_a_network_in_its_colour_on_log_axes():
    figure = fig5.draw(fig5.series(five()))
    assert [axes.get_xlabel() for axes in figure.axes] == ["$D_f$", "$G_f$", "$R_f$"]
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert len(markers(axes)) == 5
    found = markers(figure.axes[2])
    for model, factor in FACTORS.items():
        (line,) = [
            one for place, one in found.items() if place[1] == pytest.approx(0.1 * factor**2)
        ]
        look = style.network(model)
        assert (line.get_color(), line.get_marker()) == (look.color, look.marker)
        assert line.get_xdata()[0] == pytest.approx(factor * 10**-1.5)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["AlexNet ($n$ = 3)", "LeNet ($n$ = 3)"]


def test_the_correlations_of_a_power_law_are_one():
    points = fig5.series(five())
    for quantity, sign in (("D", 1), ("G", -1), ("R", 1)):
        pearson, spearman = error_scatter.correlations(points, quantity)
        # LeNet and AlexNet share no depth with the VGGs, but the output's R, G are the same.
        assert pearson.value == pytest.approx(sign)
        assert spearman.value == pytest.approx(sign)
    assert "| all, scale detection | G_f | 5 | -1.00 | -1.00 |" in fig5.markdown(points)
    titles = [axes.get_title() for axes in fig5.draw(points).axes]
    assert titles == [f"$r$: {one}\n$\\rho$: {one}" for one in ("+1.00", "-1.00", "+1.00")]


def test_a_network_without_errors_is_drawn_hollow_at_half_a_test_image():
    perfect = network("resnet18", factor=0.1, test_error=0.0)
    points = fig5.series([*five(), perfect])
    figure = fig5.draw(points)
    floor = 0.5 / 4096
    (place,) = [place for place in markers(figure.axes[2]) if place[1] == floor]
    assert place[0] == pytest.approx(0.1 * 10**-1.5)
    assert markers(figure.axes[2])[place].get_markerfacecolor() == "white"
    text = "1 of 6 networks without test error, drawn hollow at half a test image"
    assert figure.get_suptitle() == text
    assert fig5.markdown(points).endswith(text)
    assert error_scatter.correlations(points, "R")[0].points == 6
    (row,) = [one for one in points if one.model == "resnet18" and one.panel[1] == "R"]
    assert row.points == ("no test error",)


def test_what_has_no_logarithm_is_left_out_and_said():
    of_unknown_size = network("resnet18", "cifar10", test_error=0.0)
    dead = network("lenet", "cifar10")
    dead.dataset["G"].loc[{"layer": "linear05"}] = np.nan
    given = [of_unknown_size, dead, network("vgg11", "cifar10", image_noise=1.0, factor=0.5)]
    points = noise.series(given)
    figure = noise.draw(points)
    assert figure.get_suptitle() == "2 of 3 networks left out where there is no logarithm"
    assert [len(markers(axes)) for axes in figure.axes] == [2, 1, 2]
    assert error_scatter.correlations(points, "R")[0].points == 2
    assert "| all | R_f | 2 | undefined | undefined |" in noise.markdown(points)


def test_noise_levels_are_colours_and_networks_markers():
    given = [
        network(model, "cifar10", image_noise=level, factor=factor, test_error=0.1 * factor)
        for level in (10.0, 0.0)
        for model, factor in FACTORS.items()
    ]
    points = noise.series(given)
    assert noise.levels(points) == ["$s$ = 0", "$s$ = 10"]
    figure = noise.draw(points)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        *("AlexNet", "LeNet", "VGG11", "VGG11-bn", "VGG13-bn"),
        *("$s$ = 0", "$s$ = 10"),
    ]
    drawn = [
        line for line in figure.axes[0].get_lines() if line.get_marker() not in ("None", "|", "_")
    ]
    assert len({line.get_color() for line in drawn}) == 2
    assert {line.get_marker() for line in drawn} == {
        style.network(model).marker for model in FACTORS
    }
    text = noise.markdown(points)
    assert "| s = 10 | D_f | 5 | +1.00 | +1.00 |" in text
    assert "| all | G_f | 10 | -1.00" in text
