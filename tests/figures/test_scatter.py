"""Figure 5 and the noise figure: test error against D, G, R of the output."""

import csv
import json

import numpy as np
import pytest

from cnnpool.figures import error_scatter, fig5, noise, style
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import write_csv
from tests import classifier_results

FACTORS = {"lenet": 0.5, "alexnet": 1.5, "vgg11": 0.7, "vgg11_bn": 0.3, "vgg13_bn": 0.2}

BY_IMAGES = "± se over images ($n$ = 1)"


def network(model, data="scale2d", **fields):
    return MeasuredNetwork(classifier_results.network(model, data, **fields), f"{model}.nc")


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


def test_a_narrow_network_is_hollow_in_the_picture_and_in_the_legend():
    both = [network("vgg11"), network("vgg11", width_factor=0.25, test_error=0.2)]
    figure = fig5.draw(fig5.series(both))
    for axes in figure.axes:
        fills = {place[1]: line.get_fillstyle() for place, line in markers(axes).items()}
        assert [fills[key] for key in sorted(fills)] == ["full", "none"]
    legend = figure.legends[0]
    assert [handle.get_fillstyle() for handle in legend.legend_handles] == ["full", "none"]


def test_the_correlations_of_a_power_law_are_one():
    points = fig5.series(five())
    for quantity, sign in (("D", 1), ("G", -1), ("R", 1)):
        # LeNet and AlexNet share no depth with the VGGs, but the output's R, G are the same.
        for found in error_scatter.correlations(points, quantity, unit=error_scatter.NETWORKS):
            assert found[:3] == pytest.approx((sign,) * 3)
    minus = "-1.00 [-1.00, -1.00]"
    text = fig5.markdown(points)
    assert f"| all, scale detection | G_f | 5 | 5 networks | {minus} | {minus} |" in text
    titles = [axes.get_title() for axes in fig5.draw(points).axes]
    plus = minus.replace("-", "+")
    assert titles == [f"$r$: {one}\n$\\rho$: {one}" for one in (plus, minus, plus)]


@pytest.mark.parametrize("quantity", ["D", "G", "R", "test_error"])
def test_both_coordinates_are_means_over_the_seeds_in_which_all_is_finite(quantity):
    given = five()
    cell = {"seed": 0, "stage": "trained"}
    if quantity != "test_error":
        cell |= {"layer": "linear05", "transform": "none"}
    given[0].dataset[quantity].loc[cell] = np.nan
    points = [one for one in fig5.series(given) if one.model == "lenet"]
    # Of the factors 0.9, 1, 1.1 of seeds 0, 1, 2 the last two are left: mean 1.05, error 0.05.
    r, g = 0.5 * 10**-1.5, 0.02 / 0.5**0.5
    for one, value in zip(points, (r * g, g, r), strict=True):
        np.testing.assert_allclose(one.x, [1.05 * value])
        np.testing.assert_allclose(one.x_se, [0.05 * value])
        np.testing.assert_allclose(one.y, [1.05 * 0.1 * 0.25])
        np.testing.assert_allclose(one.y_se, [0.05 * 0.1 * 0.25])
        assert list(one.seeds) == [2]
    assert error_scatter.remarks(points) == []


def left_out_networks():
    """Without test error; with a dead output in every seed; with R = 0."""
    perfect = network("resnet18", factor=0.1, test_error=0.0)
    dead = network("fully_connected_2")
    dead.dataset["G"].loc[{"layer": "linear09"}] = np.nan
    blind = network("vgg16")
    blind.dataset["R"].loc[{"layer": "linear09"}] = 0.0
    return [perfect, dead, blind]


REMARKS = [
    "left out, no test error: ResNet18",
    "left out, dead in every seed: fully connected, 2",
    "left out, D, G or R is 0: VGG16",
]


def test_networks_without_error_or_life_are_left_out_and_named():
    given = [*five(), *left_out_networks()]
    points = fig5.series(given)
    assert sorted(error_scatter.remarks(points)) == sorted(REMARKS)
    figure = fig5.draw(points)
    without = fig5.draw(fig5.series(five()))
    for axes, same in zip(figure.axes, without.axes, strict=True):
        assert markers(axes).keys() == markers(same).keys()
        assert axes.get_title() == same.get_title()
    note, *others = figure.get_supxlabel().split("\n")
    assert note == without.get_supxlabel() == "95 % intervals: bootstrap over networks"
    assert others == error_scatter.remarks(points)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 5
    text = fig5.markdown(points)
    assert text.endswith("\n\n".join(error_scatter.remarks(points)))
    assert "| all, scale detection | R_f | 5 | 5 networks | +1.00" in text
    row = next(one for one in points if one.model == "resnet18" and one.panel[1] == "R")
    assert (row.points, list(row.y)) == (("no test error",), [0.0])
    np.testing.assert_allclose(row.x, [0.1 * 10**-1.5])


def test_a_figure_without_any_point_is_drawn(tmp_path):
    points = fig5.series(left_out_networks())
    style.save(lambda: fig5.draw(points), tmp_path / "a.png")
    assert [len(markers(axes)) for axes in fig5.draw(points).axes] == [0, 0, 0]
    assert "| R_f | 0 | 0 networks | undefined | undefined |" in fig5.markdown(points)


def test_a_long_list_of_networks_is_wrapped():
    given = [network(model, test_error=0.0) for model in style.NETWORKS]
    lines = fig5.draw(fig5.series(given)).get_supxlabel().split("\n")
    assert len(lines) == 3
    assert max(map(len, lines)) <= error_scatter.NOTE_WIDTH


def test_points_know_how_long_their_networks_were_trained(tmp_path):
    points = fig5.series([network("lenet", epochs=30), network("vgg11", epochs=100)])
    write_csv(tmp_path / "a.csv", "fig5", points)
    with (tmp_path / "a.csv").open() as file:
        found = {row["network"]: row["epochs"] for row in csv.DictReader(file)}
    assert found == {"lenet": "30", "vgg11": "100"}


@pytest.mark.parametrize(("seeds", "title"), [(1, BY_IMAGES), (3, "mean over 3 seeds, ± se")])
def test_the_legend_says_what_is_averaged(seeds, title):
    figure = fig5.draw(fig5.series(five(seeds=seeds)))
    assert figure.legends[0].get_title().get_text() == title


def noisy(models, levels=(0.0, 1.0, 10.0)):
    """Networks whose error is a power of their R times the same noise at every level."""
    scatter = dict(zip(FACTORS, (1.0, 0.4, 2.0, 0.7, 1.5), strict=True))
    return [
        network(
            model,
            "cifar10",
            image_noise=level,
            factor=FACTORS[model],
            test_error=0.1 * FACTORS[model] * scatter[model],
        )
        for level in levels
        for model in models
    ]


def row_of(text, start):
    return next(line for line in text.split("\n") if line.startswith(start)).split(" | ")


def test_noise_levels_of_an_architecture_are_drawn_together_where_there_are_four():
    points = noise.series(noisy(FACTORS))
    text = noise.markdown(points)
    found, level = (
        row_of(text, "| images with noise, all | R_f"),
        row_of(text, "| images with noise, s = 1 | R_f"),
    )
    assert found[2:4] == ["15", "5 architectures"]
    assert level[2:4] == ["5", "5 architectures"]
    # Three equal points an architecture are no further evidence.
    assert found[4:] == level[4:]
    assert "; none for fewer than 4" in text
    figure = noise.draw(points)
    assert figure.get_supxlabel() == "95 % intervals: bootstrap over architectures"
    assert figure.axes[2].get_title().split("\n")[0] == f"$r$: {found[4]}"


def test_networks_are_drawn_one_by_one_where_architectures_are_few():
    models = list(FACTORS)[:4]
    given = noisy(models)
    for one in given:
        if one.model == models[0]:
            one.dataset["test_error"][:] = 0.0
    points = noise.series(given)
    text = noise.markdown(points)
    found = row_of(text, "| images with noise, all | R_f")
    assert found[2:4] == ["9", "9 networks"]
    assert "[" in found[4]
    assert row_of(text, "| images with noise, s = 1 | R_f")[2:4] == ["3", "3 networks"]
    assert "[" not in row_of(text, "| images with noise, s = 1 | R_f")[4]
    assert noise.draw(points).get_supxlabel() == (
        "95 % intervals: bootstrap over networks\n"
        "left out, no test error: LeNet; LeNet, noise 1; LeNet, noise 10"
    )


def test_networks_measured_on_clean_images_are_a_second_row():
    given = noisy(FACTORS)
    for one in noisy(FACTORS, levels=(1.0, 10.0)):
        one.outline.attrs["measurement"] = json.dumps({"settings": {"image_noise": False}})
        one.outline["test_error"][:] *= FACTORS[one.model]
        given.append(one)
    points = noise.series(given)
    rows = list(dict.fromkeys(one.panel[0] for one in points))
    assert rows == [noise.NOISY, noise.CLEAN]
    text = noise.markdown(points)
    upper, lower = (row_of(text, f"| {row}, all | R_f") for row in rows)
    assert upper[2] == lower[2] == "15", "without noise in the training set: in both"
    assert upper[4] == row_of(noise.markdown(noise.series(noisy(FACTORS))), upper[0])[4]
    assert upper[4] != lower[4]
    axes = noise.draw(points).axes
    assert len(axes) == 6
    assert axes[3].get_ylabel().split("\n") == ["clean images", "test error"]
    assert axes[5].get_title().split("\n")[0] == f"$r$: {lower[4]}"


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
    one = "+1.00 [+1.00, +1.00]"
    assert f"| images with noise, s = 10 | D_f | 5 | 5 architectures | {one} | {one} |" in text
    assert "| images with noise, all | G_f | 10 | 5 architectures | -1.00" in text
