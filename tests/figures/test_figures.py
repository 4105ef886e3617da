"""Figure 4 and Table 1 from a made-up measurement with known answers, and the command."""

import csv
import json
from pathlib import Path
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

from cnnpool.figures import __main__ as figures
from cnnpool.figures import classifier_figures, fig4, item_names, items, style, table1, widths
from cnnpool.figures import networks as measured
from cnnpool.figures.figure_rows import ROWS
from cnnpool.files import results
from cnnpool.models import torchvision
from tests import classifier_results

K, SEEDS = 12, 3


@pytest.fixture
def dataset():
    """Trained networks follow D = A^-2, G = A^(1 + seed/10); initial ones are flat."""
    layers = [f"{kind}{k:02d}" for k in range(1, K + 1) for kind in ("conv", "relu")] + ["linear"]
    depth = np.array([*np.repeat(np.arange(1.0, K + 1), 2), np.nan])
    size = np.sqrt(depth * 2 / 3)
    shape = (SEEDS, 2, 2, len(layers))
    d, g = np.ones(shape), np.ones(shape)
    for seed in range(SEEDS):
        d[seed, 1], g[seed, 1] = size**-2, size ** (1 + seed / 10)
    filters = np.full((*shape, 3), np.nan)
    filters[:, 0, :, 0:24:2], filters[:, 1, :, 0:24:2] = -0.001, 0.004
    filters[2, 1, :, 4, 1] = -0.1
    filters[:, 1, :, 22] = -0.5
    variables = {name: (results.DIMENSIONS, np.ones(shape)) for name in results.SENSITIVITIES}
    variables |= {"D": (results.DIMENSIONS, d), "G": (results.DIMENSIONS, g)}
    variables["A"] = (results.DIMENSIONS, np.broadcast_to(size, shape))
    variables["mean_filter"] = ((*results.DIMENSIONS, "tap"), filters)
    variables |= {
        name: ("layer", value)
        for name, value in {"A_theory": size, "D_theory": size**-1.5, "G_theory": size**0.5}.items()
    }
    coordinates = {
        "seed": range(SEEDS),
        "stage": ["init", "trained"],
        "transform": ["none", "mean_channel_activations"],
        "layer": layers,
        "depth": ("layer", depth),
        "tap": range(3),
    }
    attributes = dict.fromkeys(results.ATTRIBUTES, "{}") | {"schema_version": 1}
    return xr.Dataset(variables, coordinates, attributes)


def test_slopes_with_errors_beside_the_prediction(dataset):
    rows = {
        (r.curve, r.quantity): r for r in fig4.slope_rows(dataset) if (r.first, r.last) == (2, 9)
    }
    assert len(rows) == 6
    trained = rows["trained", "G"]
    assert trained.measured.mean == pytest.approx(1.1)
    assert trained.measured.se == pytest.approx(0.1 / np.sqrt(3))
    assert trained.predicted == pytest.approx(0.5)
    assert rows["trained", "D"].measured == pytest.approx((-2, 0), abs=1e-12)
    assert rows["initialization", "D"].measured.mean == pytest.approx(0, abs=1e-12)
    text = fig4.slopes_markdown(dataset)
    assert "| trained | G_k | 2..9 | +1.100 ± 0.058 | +0.500 | +1 |" in text


def test_figure_is_drawn_and_replaced_whole(dataset, tmp_path):
    for _ in range(2):
        style.save(lambda: fig4.draw(dataset), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_user_s_matplotlibrc_changes_no_figure(dataset, tmp_path):
    style.save(lambda: fig4.draw(dataset), tmp_path / "plain.png")
    theirs = {"text.usetex": True, "lines.linewidth": 6, "font.size": 20, "savefig.dpi": 30}
    with mpl.rc_context(theirs):
        style.save(lambda: fig4.draw(dataset), tmp_path / "theirs.png")
        assert {name: mpl.rcParams[name] for name in theirs} == theirs
    assert (tmp_path / "theirs.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_figure_shows_curves_prediction_and_measured_sizes(dataset):
    figure = fig4.draw(dataset)
    d_axes, _, a_axes = figure.axes
    labels = d_axes.get_legend_handles_labels()[1]
    assert [c.label for c in fig4.CURVES] == labels[:3]
    assert "constant filters, exact" in labels
    trained = d_axes.get_lines()[1]
    np.testing.assert_allclose(trained.get_ydata(), trained.get_xdata() ** -2)
    assert len(trained.get_xdata()) == K
    assert len(a_axes.get_lines()) == 3


def test_table_has_every_seed_and_counts_positive_networks(dataset):
    text = table1.markdown(dataset)
    assert [f"### Seed {seed}" in text for seed in range(SEEDS)] == [True] * SEEDS
    assert "| 1 | [-0.0010, -0.0010, -0.0010] | [0.0040, 0.0040, 0.0040] |" in text
    assert "[0.2928, 0.2605, 0.2928]" in text
    # One network has a negative tap in layer 3; layer 12 is negative and does not count.
    assert "Positive at every tap of layers 1 to 9: 2 of 3 networks." in text


def test_command_reads_files_and_writes(dataset, tmp_path):
    for stage in ("init", "trained"):
        results.write(tmp_path / f"{stage}.nc", dataset.sel(stage=[stage]))
    files = [tmp_path / "init.nc", tmp_path / "trained.nc"]
    assert "+1.100 ± 0.058" in items.make("fig4", files, tmp_path / "fig4.png")
    assert items.make("table1", files, tmp_path / "t.md") == (tmp_path / "t.md").read_text()
    assert (tmp_path / "fig4.png").exists()


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_numbers_of_figure_4_lie_beside_it(dataset, tmp_path):
    results.write(tmp_path / "a.nc", dataset)
    items.make("fig4", [tmp_path / "a.nc"], tmp_path / "fig4.svg")
    rows = rows_of(tmp_path / "fig4.csv")
    assert {row["panel"] for row in rows} == {"D", "G", "A"}
    trained = [row for row in rows if (row["panel"], row["curve"]) == ("G", "trained")]
    assert [row["point"] for row in trained] == [f"relu{k:02d}" for k in range(1, K + 1)]
    size = np.sqrt(12 * 2 / 3)
    values = [size ** (1 + seed / 10) for seed in range(SEEDS)]
    assert float(trained[-1]["x"]) == pytest.approx(size)
    assert float(trained[-1]["y"]) == pytest.approx(np.mean(values))
    assert float(trained[-1]["y_se"]) == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))
    exact = [row for row in rows if (row["panel"], row["curve"]) == ("D", fig4.EXACT)]
    assert float(exact[0]["y"]) == pytest.approx((2 / 3) ** -0.75)


def of_width(dataset, channels, *, filters=1.0, **training):
    """The made-up measurement at a width, with mean filters times a factor."""
    config = {"data": {}, "measurement": {}, "model": {"width": channels}, "training": training}
    other = dataset.assign(mean_filter=dataset["mean_filter"] * filters)
    return other.assign_attrs(config=json.dumps(config))


def test_slopes_and_filters_against_the_width(dataset, tmp_path):
    dataset["G"].loc[{"transform": "mean_channel_activations"}] **= 2
    wide, narrow = tmp_path / "wide.nc", tmp_path / "narrow.nc"
    results.write(wide, of_width(dataset, 1000))
    results.write(narrow, of_width(dataset.isel(seed=[0, 2]), 64, filters=10.0))
    text = items.make("widths", [wide, narrow], tmp_path / "widths.png")
    # Networks 0 to 2 have slopes 1, 1.1, 1.2; one of network 2's 24 taps is -0.1 in place of 0.004.
    d = "-2.00 ± 0.00"
    assert [line.strip("| ").split(" | ") for line in text.splitlines()[2:]] == [
        ["64", "2", d, d, "+1.10 ± 0.10", "+2.20 ± 0.20", "0.01833 ± 0.02167"],
        ["1000", "3", d, d, "+1.10 ± 0.06", "+2.20 ± 0.12", "0.00256 ± 0.00144"],
    ]
    assert (tmp_path / "widths.png").read_bytes().startswith(b"\x89PNG")
    rows = rows_of(tmp_path / "widths.csv")
    exact = [row for row in rows if (row["panel"], row["curve"]) == ("G", fig4.EXACT)]
    assert [(float(row["x"]), float(row["y"])) for row in exact] == [(64, 0.5), (1000, 0.5)]
    single = [row for row in rows if (row["panel"], row["curve"]) == ("G", widths.SINGLE)]
    assert [float(row["x"]) for row in single] == [64] * 2 + [1000] * 3
    assert [float(row["y"]) for row in single] == pytest.approx([1, 1.2, 1, 1.1, 1.2])


def test_runs_that_differ_in_more_than_the_width_are_refused(dataset):
    with pytest.raises(ValueError, match=r"one file per width; got widths \[64, 64\]"):
        widths.series([of_width(dataset, 64), of_width(dataset, 64)])
    with pytest.raises(
        ValueError, match=r"of widths 64 and 100 have training \{\} and \{'ridge': 1\}"
    ):
        widths.series([of_width(dataset, 64), of_width(dataset, 100, ridge=1)])
    one = of_width(dataset, 64).sel(transform=["none"])
    with pytest.raises(
        ValueError, match="trained with transforms none and mean_channel_activations"
    ):
        widths.series([one])


SHOWN = {
    "fig2": ["vgg11-cifar10"],
    "fig3": ["vgg11-cifar10", "vgg11-scale2d"],
    "fig5": ["vgg11-scale2d", "lenet-scale2d"],
    "fig6": ["vgg11-scale2d", "lenet-scale2d"],
    "fig7": ["lenet-cifar10"],
    "fig8": ["vgg11-cifar10", "lenet-scale2d", "lenet-cifar10", "vgg11-scale2d"],
    "fig10": ["lenet-cifar10", "lenet-scale2d"],
    "noise": ["vgg11-cifar10", "vgg11, noise 10-cifar10", "lenet-cifar10"],
    "delta_cutoff": ["vgg11-cifar10"],
    "dynamics": ["vgg11-cifar10"],
    "shuffles": ["vgg11-cifar10", "lenet-scale2d", "lenet-cifar10", "vgg11-scale2d"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file a run."""
    sweep = {"deltas": [0.3, 1.0], "stages": ["init", "10", "trained"]}
    runs = [
        classifier_results.network("vgg11", "cifar10", **sweep),
        classifier_results.network("vgg11", "cifar10", image_noise=10.0, test_error=0.2),
        classifier_results.network("lenet", "cifar10"),
        classifier_results.network("vgg11", "scale2d"),
        classifier_results.network("lenet", "scale2d"),
    ]
    folder = tmp_path_factory.mktemp("classifiers")
    paths = [folder / f"{number}.nc" for number in range(len(runs))]
    for path, run in zip(paths, runs, strict=True):
        results.write(path, run)
    return paths


@pytest.mark.parametrize("item", SHOWN)
def test_every_figure_of_classifiers_is_made_from_all_files(item, files, tmp_path):
    text = items.make(item, files, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    rows = rows_of(tmp_path / "a.csv")
    assert {row["figure"] for row in rows} == {item}
    assert {f"{row['network']}-{row['data']}" for row in rows} == set(SHOWN[item])
    assert text.count("drawn: ") == len(SHOWN[item])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.png"]


@pytest.mark.parametrize("stages", [["trained"], ["init", "trained"]])
def test_figure_9_shows_imported_deep_networks_and_an_initialization_if_measured(stages, tmp_path):
    """Figures import no models, so that the names' beginning is written twice."""
    assert measured.IMPORTED == torchvision.PREFIX
    run = classifier_results.network("vgg13_bn", "image_folder", stages=stages)
    config = json.loads(run.attrs["config"])
    config["model"]["name"] = "torchvision_vgg13_bn"
    del config["training"]
    run.attrs["config"] = json.dumps(config)
    results.write(tmp_path / "vgg13_bn.nc", run)
    drawn = {"initialization", "trained"} if "init" in stages else {"trained"}
    for item, curves in (("fig9", {*drawn, "random filters"}), ("fig8", drawn)):
        text = items.make(item, [tmp_path / "vgg13_bn.nc"], tmp_path / f"{item}.png")
        assert text.startswith("drawn: VGG13-bn, pictures, 3 networks, imported; data: made-up")
        rows = rows_of(tmp_path / f"{item}.csv")
        assert {row["curve"] for row in rows} == curves
        assert {row["epochs"] for row in rows} == {""}


def test_every_row_says_what_the_paper_shows_and_what_we_do():
    for row in ROWS.values():
        assert row.item.startswith("Figure ")
        assert "The paper's: " in row.prose
        assert "Ours: " in row.prose


def test_every_figure_of_classifiers_is_tried():
    assert {*SHOWN, "fig9"} == set(classifier_figures.FIGURES)


def test_what_was_drawn_is_said_with_epochs_and_data(files, tmp_path):
    text = items.make("fig7", files, tmp_path / "a.png")
    assert text.splitlines() == [
        f"drawn: LeNet, CIFAR-10, 3 networks, 100 epochs; data: made-up cifar10; {files[2]}",
        "not drawn:",
        f"  VGG11, CIFAR-10: {files[0]}",
        f"  VGG11, noise 10, CIFAR-10: {files[1]}",
        f"  LeNet, scale detection: {files[4]}",
        f"  VGG11, scale detection: {files[3]}",
    ]
    assert "| all, scale detection | R_f | 2 |" in items.make("fig5", files, tmp_path / "a.png")


@pytest.mark.parametrize("item", ["dynamics", "delta_cutoff"])
def test_another_measurement_of_a_network_that_is_drawn_is_not_said_to_be(item, files, tmp_path):
    other = tmp_path / "other.nc"
    results.write(other, classifier_results.network("vgg11", "cifar10"))
    lines = items.make(item, [files[0], other], tmp_path / "a.png").splitlines()
    assert lines[0].startswith("drawn: VGG11, CIFAR-10, ")
    assert lines[0].endswith(f"; {files[0]}")
    assert lines[1:] == ["not drawn:", f"  VGG11, CIFAR-10: {other}"]


def test_the_format_comes_from_the_flag_or_the_ending():
    def path(name, picture_format=None):
        return item_names.picture_path("fig2", Path(name), picture_format).name

    assert path("a/fig2") == "fig2.png"
    assert path("a/fig2", "svg") == "fig2.svg"
    assert path("a/fig2.pdf") == path("a/fig2.pdf", "pdf") == "fig2.pdf"
    with pytest.raises(ValueError, match=r"one of the endings \.svg; got a/fig2\.png"):
        path("a/fig2.png", "svg")
    with pytest.raises(ValueError, match=r"endings \.png, \.pdf, \.svg; got None"):
        item_names.picture_path("fig2", None, None)


def test_a_folder_holds_the_picture_under_the_name_of_the_item(tmp_path):
    assert item_names.picture_path("fig2", tmp_path, None) == tmp_path / "fig2.png"
    assert item_names.picture_path("depth", tmp_path, "svg") == tmp_path / "depth.svg"
    looks_like_a_picture = tmp_path / "a.png"
    looks_like_a_picture.mkdir()
    found = item_names.picture_path("fig2", looks_like_a_picture, None)
    assert found == looks_like_a_picture, "which cannot be written, as is said"


def test_the_command_writes_the_format(files, tmp_path, capsys):
    out = tmp_path / "fig7"
    arguments = ["fig7", "--results", *map(str, files), f"--out={out}", "--format=svg"]
    figures.main(arguments)
    assert (tmp_path / "fig7.svg").read_text().startswith("<?xml")
    printed = capsys.readouterr().out
    assert printed.startswith("drawn: LeNet, CIFAR-10")
    assert printed.endswith(f"\nin {out}.svg\n")
    with pytest.raises(SystemExit):
        figures.main(["table1", "--results=a.nc", "--format=svg"])
    assert "table1 is no picture; leave out --format=svg" in capsys.readouterr().err


def test_what_is_missing_is_said(dataset, tmp_path):
    results.write(
        tmp_path / "a.nc", dataset.sel(stage=["init"], transform=["mean_channel_activations"])
    )
    with pytest.raises(ValueError, match="Figure 4 needs stages init and trained"):
        items.make("fig4", [tmp_path / "a.nc"], tmp_path / "a.png")
    with pytest.raises(ValueError, match="Table 1 needs stages init and trained"):
        items.make("table1", [tmp_path / "a.nc"], None)
    with pytest.raises(ValueError, match=r"fig4 needs --out with one of the endings \.png"):
        items.make("fig4", [tmp_path / "a.nc"], tmp_path / "a.jpgg")


def test_figures_import_neither_jax_nor_models():
    script = (
        "import sys, cnnpool.figures.__main__\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('jax', 'flax') "
        "or m.startswith(('cnnpool.models', 'cnnpool.training'))]\n"
        "assert not bad, bad\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_results_of_classifiers_are_refused(tmp_path):
    path = tmp_path / "vgg.nc"
    results.write(path, classifier_results.network("vgg11"))
    for item in ("fig4", "table1", "widths"):
        with pytest.raises(ValueError, match=r"of simple CNNs on a ring.* got .*vgg\.nc"):
            items.make(item, [path], tmp_path / "a.png")
