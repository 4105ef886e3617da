"""Which networks a figure shows, and what it says where something is missing."""

import numpy as np
import pytest

from cnnpool.figures import delta_cutoff, fig5, fig6, fig8, layers, noise
from cnnpool.figures import networks as measured
from cnnpool.figures.figure_rows import ROWS
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.files import results
from tests import classifier_results

fig2, fig3, fig7 = (ROWS[item] for item in ("fig2", "fig3", "fig7"))


def network(*args, **fields):
    return MeasuredNetwork(classifier_results.network(*args, **fields), "a.nc")


def test_names_come_from_the_config():
    plain = network("vgg11_bn", "cifar10")
    assert (plain.title, plain.variant) == ("VGG11-bn, CIFAR-10", "")
    other = network("lenet", "cifar10", image_noise=10.0, width_factor=0.5)
    assert other.title == "LeNet, width 0.5, noise 10, CIFAR-10"
    assert network("my_net", "arrays").title == "my_net, own images"


def test_a_config_without_names_or_that_is_none():
    data = classifier_results.network("lenet")
    nameless = MeasuredNetwork(data.assign_attrs(config="{}"), "a.nc")
    assert (nameless.identity, nameless.is_imported) == (("", "", ""), False)
    with pytest.raises(ValueError, match=r"Figure 2 needs .*\(a.nc\)"):
        fig2.series([nameless])
    for text in ("LeNet", "[]"):
        with pytest.raises(results.ResultsError, match=r"a.nc: .*config to be a JSON obj"):
            _ = MeasuredNetwork(data.assign_attrs(config=text), "a.nc").title


def test_files_of_one_and_of_several_networks_are_read(tmp_path):
    one, two = (classifier_results.network(model) for model in ("vgg11", "lenet"))
    results.write(tmp_path / "one.nc", one)
    results.write(tmp_path / "two.nc", {"a": one, "b": two})
    found = measured.read([tmp_path / "one.nc", tmp_path / "two.nc"])
    assert [one.model for one in found] == ["vgg11", "vgg11", "lenet"]
    assert found[2].source == f"{tmp_path / 'two.nc'}, network b"


def test_networks_are_in_the_paper_s_order_whatever_the_files():
    given = [
        network("vgg11_bn", "scale2d"),
        network("vgg11_bn", "cifar10"),
        network("lenet", "cifar10"),
        network("vgg11", "cifar10"),
        network("vgg11", "imagenet"),
    ]
    assert [one.title for one in measured.in_order(given)] == [
        "LeNet, CIFAR-10",
        "VGG11, CIFAR-10",
        "VGG11-bn, CIFAR-10",
        "VGG11, ImageNet",
        "VGG11-bn, scale detection",
    ]


def test_each_figure_takes_what_it_shows():
    given = [
        network("vgg11", "cifar10"),
        network("vgg11", "cifar10", image_noise=10.0),
        network("alexnet", "cifar10"),
        network("vgg11", "scale2d"),
        network("fully_connected_4", "scale2d"),
        network("simple_cnn", "scale1d"),
    ]

    def shown(figure):
        series = figure.series(given)
        return {(one.model, one.data, one.variant) for one in series}

    vgg, alexnet = ("vgg11", "cifar10", ""), ("alexnet", "cifar10", "")
    noisy, scale = ("vgg11", "cifar10", "noise 10"), ("vgg11", "scale2d", "")
    assert shown(fig2) == {vgg}
    assert shown(fig7) == {alexnet}
    assert shown(fig6) == {scale}
    assert shown(fig3) == {vgg, scale}
    assert shown(fig8) == {vgg, alexnet, scale}
    assert shown(fig5) == {scale, ("fully_connected_4", "scale2d", "")}
    assert shown(noise) == {vgg, noisy, alexnet}


def test_no_network_of_a_figure_is_an_error_that_lists_what_was_given():
    given = [network("lenet", "scale2d")]
    with pytest.raises(ValueError, match=r"Figure 2 needs .*got LeNet, scale detection \(a\.nc\)"):
        fig2.series(given)
    with pytest.raises(ValueError, match=r"Figure 6 needs .*; got none"):
        fig6.series([])


def test_a_run_given_twice_is_refused():
    files = [
        MeasuredNetwork(classifier_results.network(model), f"{model}-{name}.nc")
        for model in ("vgg11", "vgg11_bn")
        for name in "ab"
    ]
    with pytest.raises(ValueError, match="Figure 2 shows each network once") as raised:
        fig2.series(files)
    assert str(raised.value).splitlines()[1:] == [
        "  VGG11, CIFAR-10: vgg11-a.nc, vgg11-b.nc",
        "  VGG11-bn, CIFAR-10: vgg11_bn-a.nc, vgg11_bn-b.nc",
    ]


def test_duplicates_are_refused_before_any_number_is_read(tmp_path, monkeypatch):
    paths = [tmp_path / f"{name}.nc" for name in "ab"]
    for path in paths:
        results.write(path, classifier_results.network("vgg11"))
    monkeypatch.setattr(results, "read_networks", None)
    with pytest.raises(ValueError, match=f"VGG11, CIFAR-10: {paths[0]}, {paths[1]}"):
        fig2.series(measured.read(paths))


def test_an_outline_says_what_the_whole_file_does(tmp_path):
    sweep = {"deltas": [0.3, 1.0], "stages": ["init", "10", "trained"], "image_noise": 10.0}
    path = tmp_path / "a.nc"
    results.write(
        path, {"a": classifier_results.network("vgg11", **sweep), "b": classifier_results.network()}
    )
    for lazy, whole in zip(
        measured.read([path]), results.read_networks(path).values(), strict=True
    ):
        for name, variable in lazy.outline.variables.items():
            np.testing.assert_array_equal(variable.values, whole[name].values)
        known = MeasuredNetwork(whole, lazy.source)
        for field in (
            "title",
            "epochs",
            "noises",
            "shuffles",
            "has_batch_norm",
            "has_displacements",
        ):
            assert getattr(lazy, field) == getattr(known, field)
        assert lazy.measured.identical(whole)


def test_all_that_is_missing_is_said_with_the_command_that_measures_it():
    given = [
        network("vgg11", stages=["init"]),
        network("vgg11_bn", transforms=["none"], deltas=[0.3], cutoffs=[3, 10]),
        network("vgg13_bn"),
    ]
    with pytest.raises(ValueError) as caught:
        fig2.series(given)
    assert str(caught.value) == (
        "Figure 2: VGG11, CIFAR-10 (a.nc) lacks stage trained (it has init); "
        "VGG11-bn, CIFAR-10 (a.nc) lacks transform channel_shuffle (it has none), "
        "delta 1.0 (it has 0.3). Measure with `python -m cnnpool.eval --workdir=RUN "
        "--stage=trained --transforms=none,channel_shuffle --out=FILE`"
    )
    without = MeasuredNetwork(
        classifier_results.network("vgg11").drop_vars(["gamma", "eigenvalue"]), "a.nc"
    )
    with pytest.raises(ValueError, match="lacks variable gamma, variable eigenvalue"):
        fig3.series([without])
    with pytest.raises(ValueError, match=r"--deltas=0\.3,1,3 --cutoffs=3,10 --out=FILE"):
        delta_cutoff.series(given[2:])
    with pytest.raises(ValueError, match=r"--config\.data\.image_noise=10"):
        noise.series(given[2:])


def test_units_between_two_points_belong_to_the_next():
    dataset = classifier_results.network("lenet")
    found = dict(zip(dataset["layer"].values, layers.relative_depth(dataset), strict=True))
    assert found["conv01"] == found["relu01"] == found["pool01"] == pytest.approx(1 / 5)
    assert found["linear03"] == found["relu03"] == pytest.approx(3 / 5)
    assert found["linear05"] == 1
    assert list(layers.with_depth(dataset)["layer"].values) == [
        *("pool01", "pool02", "relu03", "relu04", "linear05")
    ]
    assert str(layers.output(dataset)["layer"].values) == "linear05"


def test_some_layers_are_spread_over_the_depth_and_a_shallow_network_has_fewer():
    found = layers.some(classifier_results.network("vgg11"))
    assert {title: float(one["depth"]) for title, one in found.items()} == {
        "$k/K$ ≈ 0.25": 2,
        "$k/K$ ≈ 0.5": 4,
        "$k/K$ ≈ 0.75": 7,
        "output": 9,
    }
    two = classifier_results.network("vgg11").isel(layer=np.arange(6))
    assert list(layers.some(two)) == ["$k/K$ ≈ 0.5", "output"]
