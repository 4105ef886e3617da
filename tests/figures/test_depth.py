"""D, G, R against depth of any result files: which curves, colours, lines, panels and labels."""

import csv
import json

import numpy as np
import pytest
import xarray as xr

from cnnpool.figures import __main__ as figures
from cnnpool.figures import depth, networks
from cnnpool.files import results
from tests import classifier_results
from tests.paths import ROOT


def written(path, dataset, **attributes):
    path.parent.mkdir(exist_ok=True)
    results.write(path, dataset.assign_attrs(attributes))
    return path


def own(name="mine", **fields):
    """As cp.save writes a network that is not the paper's."""
    data = classifier_results.network("lenet", **fields)
    config = {"model": {"name": name}, "data": {"name": "arrays"}, "seeds": [0]}
    return data.drop_vars(["test_error", "test_loss", "epoch"]).assign_attrs(
        config=json.dumps(config)
    )


def drawn(files, **options):
    chosen = depth.Options(**options)
    return depth.of_networks(networks.read(files), chosen), chosen


def test_networks_by_colour_transforms_by_line_cutoffs_by_panel(tmp_path):
    files = [
        written(tmp_path / "a.nc", classifier_results.network("vgg11", cutoffs=[3, 10])),
        written(tmp_path / "b.nc", own(cutoffs=[10, 3])),
    ]
    found, options = drawn(
        files,
        color="network",
        style="transform",
        facet="cutoff",
        select={"stage": ["trained"]},
    )
    assert list(found.colors) == ["VGG11, CIFAR-10", "mine, own images"]
    assert list(found.styles) == ["original", "channels shuffled"]
    panels = dict.fromkeys(one.series.panel for one in found.curves)
    assert list(panels) == [(c, f"${q}_k$") for c in ("$c$ = 3", "$c$ = 10") for q in "DGR"]
    (curve,) = (
        one.series
        for one in found.curves
        if one.series.panel == ("$c$ = 10", "$R_k$")
        and (one.color, one.style) == ("mine, own images", "original")
    )
    share = np.arange(1, 6) / 5
    np.testing.assert_allclose(curve.x, np.arange(1, 6))
    np.testing.assert_allclose(curve.y, 10 ** (-1.5 * share) * (10 / 3) ** 0.2)
    np.testing.assert_allclose(curve.y_se, curve.y * 0.1 / np.sqrt(3))
    figure = depth.draw(found, options)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["$D_k$", "$G_k$", "$R_k$"]
    assert len(figure.axes[0].containers) == 4, "two networks, shuffled and not"


def test_whatever_is_not_named_goes_into_the_colour(tmp_path):
    file = written(tmp_path / "a.nc", classifier_results.network("vgg11", deltas=[0.3, 1.0]))
    found, _ = drawn([file], color="delta", select={"transform": ["none"]})
    assert list(found.colors) == [
        *("$\\delta$ = 0.3, init", "$\\delta$ = 0.3, trained"),
        *("$\\delta$ = 1, init", "$\\delta$ = 1, trained"),
    ]
    curves = [(one.color, one.series.panel) for one in found.curves]
    assert len(curves) == len(set(curves)) == 12, "no two curves look the same"


def test_networks_of_the_same_name_are_told_apart_by_their_files(tmp_path):
    run = classifier_results.network("vgg11")
    files = [written(tmp_path / name, run) for name in ("a.nc", "b.nc")]
    assert list(drawn(files, color="network", style="transform", facet="stage")[0].colors) == [
        "VGG11 (a.nc)",
        "VGG11 (b.nc)",
    ]
    files = [written(tmp_path / folder / "a.nc", run) for folder in ("one", "two")]
    found, _ = drawn(files, color="network", select={"stage": ["trained"], "transform": ["none"]})
    assert list(found.colors) == ["VGG11 (one/a.nc)", "VGG11 (two/a.nc)"]


def test_own_labels_and_groups(tmp_path):
    results.write(tmp_path / "a.nc", {"x": own("n"), "y": own("n")})
    written(tmp_path / "b.nc", own("n"))
    files = [tmp_path / "a.nc", tmp_path / "b.nc"]
    select = {"stage": ["trained"], "transform": ["none"]}
    found, _ = drawn(files, labels={"a.nc:x": "Mine", "b.nc": "Theirs"}, select=select)
    assert list(found.colors) == ["Mine", "n", "Theirs"]
    assert list(drawn(files, select=select)[0].colors) == ["n (a.nc:x)", "n (a.nc:y)", "n (b.nc)"]
    with pytest.raises(ValueError, match=r"'c\.nc'; expected one of .*did you mean"):
        drawn(files, labels={"c.nc": "Mine"})
    with pytest.raises(ValueError, match=r"so are called .*network x, .*network y: give .*GROUP"):
        drawn(files, labels={"a.nc": "Mine"})


def test_dead_networks_are_left_out_and_the_legend_says_so(tmp_path):
    data = own()
    data["R"].loc[{"seed": 2, "layer": ["pool02", "relu03"]}] = np.nan
    file = written(tmp_path / "a.nc", data)
    found, options = drawn([file], select={"stage": ["trained"], "transform": ["none"]})
    assert list(found.counts.values()) == ["$n$ = 2 of 3"]
    (curve,) = (one.series for one in found.curves if one.series.panel[1] == "$R_k$")
    assert list(curve.seeds) == [3, 2, 2, 3, 3]
    assert np.isfinite(curve.y).all()
    labels = [text.get_text() for text in depth.draw(found, options).legends[0].get_texts()]
    assert labels == ["$n$ = 2 of 3"]


def test_r_may_be_undefined_everywhere(tmp_path):
    data = own(transforms=("none",), stages=("trained",))
    data["R"][:] = np.nan
    found, options = drawn([written(tmp_path / "a.nc", data)])
    assert list(found.counts.values()) == ["$n$ = 0 of 3"]
    depth.draw(found, options)


def test_a_selected_value_may_contain_commas_and_a_flag_be_repeated(tmp_path, capsys):
    files = [
        written(tmp_path / f"{data}.nc", classifier_results.network("lenet", data))
        for data in ("cifar10", "scale2d")
    ]
    out = tmp_path / "a.svg"
    flags = [
        "network=LeNet, CIFAR-10",
        "stage=init",
        "stage=trained",
        "transform=none,channel_shuffle",
    ]
    arguments = [word for flag in flags for word in ("--select", flag)]
    figures.main(["depth", *map(str, files), *arguments, f"--out={out}"])
    assert "not drawn: " + str(files[1]) in capsys.readouterr().out
    table = out.with_suffix(".csv").read_text("utf-8")
    for words in ("init, original", "trained, original", "init, channels shuffled"):
        assert words in table


def test_files_without_the_dimension_noise_are_of_white_noise(tmp_path):
    files = [
        written(tmp_path / "a.nc", own(noises=("white", "luma"))),
        written(tmp_path / "b.nc", classifier_results.of_schema_1(own())),
    ]
    found, _ = drawn(files, color="noise", quantities="R")
    assert {words.partition(",")[0] for words in found.colors} == {"white noise", "luma noise"}


def test_seeds_and_shuffles_are_shown_one_by_one_where_they_are_asked_for(tmp_path):
    file = written(tmp_path / "a.nc", own())
    select = {"stage": ["trained"], "transform": ["channel_shuffle"]}
    found, _ = drawn([file], color="seed", style="shuffle", quantities="R", select=select)
    assert len(found.curves) == 3 * classifier_results.SHUFFLES
    assert {int(one.series.seeds.max()) for one in found.curves} == {1}
    first = next(one for one in found.curves if (one.color, one.style) == ("seed 1", "shuffle 0"))
    raw = own()["R"].sel(seed=1, stage="trained", transform="channel_shuffle", shuffle=0).squeeze()
    np.testing.assert_allclose(first.series.y, raw.values[own()["depth"].notnull()])


def test_coordinates_of_seeds_stages_and_of_whole_networks_are_names_too(tmp_path):
    data = own().assign_coords(epochs=("stage", [0, 7]), kind=("seed", ["a", "b", "a"]), rate=0.1)
    files = [
        written(tmp_path / "a.nc", data),
        written(tmp_path / "b.nc", data.assign_coords(rate=0.05)),
    ]
    select = {"transform": ["none"], "epochs": ["7"]}
    found, _ = drawn(files, color="rate", style="kind", select=select)
    assert list(found.colors) == ["rate 0.05", "rate 0.1"]
    counts = {one.style: int(one.series.seeds.max()) for one in found.curves}
    assert counts == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"color": "colour"}, r"'colour'; expected one of \['cutoff', .*'network'"),
        ({"select": {"stage": ["best"]}}, "no stage is best; there are init, trained"),
        ({"quantities": "DX"}, "expected some of D, G and R, got 'DX'"),
        ({"all_units": True, "relative": True}, "leave out one"),
    ],
)
def test_what_is_unknown_is_said(tmp_path, options, message):
    file = written(tmp_path / "a.nc", own())
    with pytest.raises(ValueError, match=message):
        drawn([file], **options)


def test_all_units_lie_one_behind_the_other(tmp_path):
    data = own()
    file = written(tmp_path / "a.nc", data)
    found, _ = drawn([file], all_units=True, quantities="R", select={"stage": ["trained"]})
    curve = found.curves[0].series
    assert curve.points[:4] == ("conv01", "relu01", "pool01", "conv02")
    np.testing.assert_allclose(curve.x[:6], [1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    assert np.isfinite(curve.x).all()


def test_a_file_without_depths_is_drawn_unit_by_unit(tmp_path):
    file = written(tmp_path / "a.nc", own().drop_vars("depth"))
    found, _ = drawn([file], quantities="R", select={"stage": ["trained"]})
    np.testing.assert_allclose(found.curves[0].series.x, np.arange(1, own().sizes["layer"] + 1))


def test_files_of_the_ring_of_schema_1_and_without_a_name_are_drawn_together(tmp_path):
    nameless = own().assign_attrs(config="{}")
    old = classifier_results.of_schema_1(classifier_results.network("vgg11"))
    files = [
        ROOT / "results/fig4/fig4.nc",
        written(tmp_path / "nameless.nc", nameless),
        written(tmp_path / "old.nc", old),
    ]
    out = tmp_path / "mine.svg"
    figures.main(["depth", *map(str, files), "--style=transform", f"--out={out}"])
    assert out.read_text().startswith("<?xml")
    with (tmp_path / "mine.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["network"] for row in rows} == {
        "simple_cnn, scale1d",
        "nameless",
        "VGG11, CIFAR-10",
    }
    old_rows = [
        float(row["y_se"])
        for row in rows
        if (row["network"], row["curve"], row["panel"])
        == ("VGG11, CIFAR-10", "VGG11, CIFAR-10, trained, channels shuffled", "R_k")
    ]
    assert len(old_rows) == 9
    assert min(old_rows) > 0


def test_the_command_names_the_picture_and_the_flags_that_are_wrong(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path / "a.nc", own())
    figures.main(["depth", str(file), "--label", "a.nc=It", "--relative"])
    assert capsys.readouterr().out == f"drawn: It; {file}\n\nin depth.png\n"
    assert (tmp_path / "depth.png").is_file()
    with pytest.raises(SystemExit):
        figures.main(["depth", str(file), "--label", "Mine"])
    assert "expected NAME=VALUE, got 'Mine'" in capsys.readouterr().err


def test_the_accessor_draws_the_same_curves(tmp_path):
    data = own()
    select = {"transform": "none", "delta": np.float64(1), "cutoff": np.int64(3)}
    figure = data.cnnpool.plot("R", color="stage", select=select)
    file = written(tmp_path / "a.nc", data)
    found, _ = drawn([file], color="stage", quantities="R", select={"transform": ["none"]})
    (axes,) = figure.axes
    assert len(axes.containers) == len(found.curves) == 2
    for container, curve in zip(axes.containers, found.curves, strict=True):
        np.testing.assert_array_equal(container[0].get_ydata(), curve.series.y)
    assert isinstance(data, xr.Dataset)
