"""One page of anyone's networks: what pools, what is dead, what to be careful of."""

from html.parser import HTMLParser
import json

import numpy as np
import pytest

from cnnpool.figures import __main__ as figures
from cnnpool.figures import network_findings, network_report
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.files import results
from tests import classifier_results
from tests.figures.test_depth import own, written
from tests.paths import ROOT


class Page(HTMLParser):
    """Rows of tables, addresses of pictures, and open tags."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.images, self.open, self.texts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & set(self.open) and self.rows:
            self.rows[-1][-1] += data


def layers_of(dataset):
    one = network_report._reported(MeasuredNetwork(dataset, "a.nc"), "it")
    return {layer.name: layer for layer in one.layers}, one


def with_r(dataset, transform, values):
    """The networks' R at the layers that are plotted, after training; exact in every seed."""
    units = dataset["layer"].values[dataset["depth"].notnull()]
    for unit, value in zip(units, values, strict=True):
        place = {"stage": "trained", "transform": transform, "layer": unit}
        shuffles = dataset["R"].loc[place].notnull()
        dataset["R"].loc[place] = np.where(shuffles, value, np.nan)
    return dataset


def test_which_layer_pools_what():
    data = with_r(own(), "none", [1, 0.5, 0.25, 0.25, 0.5])
    data = with_r(data, "channel_shuffle", [1, 0.5, 0.5, 0.5, 0.5])
    found, _ = layers_of(data)
    assert {name: one.verdict for name, one in found.items()} == {
        "pool01": "first layer",
        "pool02": "spatial pooling",
        "relu03": "channel pooling",
        "relu04": "no change",
        "linear05": "raises R",
    }
    assert found["relu03"].fall == pytest.approx(np.log10(2))
    assert found["relu03"].spatial == pytest.approx(0)
    half = with_r(own(), "none", [1, 0.25, 0.25, 0.25, 0.25])
    half = with_r(half, "channel_shuffle", [1, 0.5, 0.5, 0.5, 0.5])
    assert layers_of(half)[0]["pool02"].verdict == "spatial and channel pooling"
    alone = with_r(own(transforms=("none",)), "none", [1, 0.25, 0.25, 0.25, 0.25])
    assert layers_of(alone)[0]["pool02"].verdict == "pools"


def test_a_fall_within_its_error_is_no_change():
    data = with_r(own(seeds=1), "none", [1, 0.8, 0.8, 0.8, 0.8])
    for error, verdict in ((0.01, "spatial pooling"), (0.2, "no change")):
        data["R_se"][:] = error
        shuffled = with_r(data, "channel_shuffle", [1, 0.8, 0.8, 0.8, 0.8])
        assert layers_of(shuffled)[0]["pool02"].verdict == verdict


def test_dead_layers_few_images_and_unnatural_diffeomorphisms_are_warned_of():
    data = own(deltas=[0.1, 1.0], seeds=4)
    for name in "DGR":
        data[name].loc[{"seed": [1, 3], "layer": "relu03"}] = np.nan
    data["R"].loc[{"layer": "linear05"}] = np.nan
    data["R"].loc[{"transform": "channel_shuffle", "stage": "init"}] = np.nan
    data.attrs["measurement"] = json.dumps({"settings": {"images": 50}})
    found, one = layers_of(data)
    assert found["relu03"].alive == 2
    text = "\n".join(one.warnings)
    assert "Only 50 images" in text
    assert "1.020 times" in text  # 50 / 49
    assert "or not finite: relu03 (2 of 4)." in text
    assert "G = 0: linear05 (4 of 4)." in text
    assert found["linear05"].verdict == "R undefined"
    assert "NaN in D, G or R at init, channel_shuffle (everywhere)" in text
    assert "delta 0.1, cut-off 3" in text
    data = own().assign_attrs(measurement=json.dumps({"settings": {"images": 100}}))
    assert layers_of(data)[1].warnings == []
    assert network_findings.FEW_IMAGES == 100


def test_the_page_stands_alone_and_has_a_section_a_network(tmp_path, capsys):
    mine = own("a <b>&", seeds=2)
    mine["R"].loc[{"seed": 0, "layer": "relu03", "stage": "trained"}] = np.nan
    mine.attrs["measurement"] = json.dumps({"settings": {"images": 50}})
    files = [
        written(tmp_path / "mine.nc", mine),
        ROOT / "results/networks/cifar10-lenet.nc",
        ROOT / "results/networks/imagenet-vgg16.nc",
        ROOT / "results/fig4/fig4.nc",
    ]
    out = tmp_path / "a.html"
    figures.main(["report", *map(str, files), "--label", "cifar10-lenet.nc=L", f"--out={out}"])
    printed = capsys.readouterr().out
    assert "Only 50 images" in printed
    assert printed.endswith(f"\n\nin {out}\n")
    page = Page(out.read_text("utf-8"))
    assert page.open == []
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.images)
    first = [row[0] for row in page.rows[:5]]
    assert first == ["network", "a <b>&, own images", "L", "VGG16, pictures", "simple_cnn, scale1d"]
    assert "84% ± 5%" in page.rows[3], "the spatial share as the file has it"
    (_row,) = (row for row in page.rows if row[:2] == ["3", "relu03"] and row[-1] == "1 of 2")
    assert "Filter spectra" in page.texts
    assert "e125ad9bb817" in [row[1] for row in page.rows if row[0] == "commit"]
    assert [path.name for path in tmp_path.iterdir()] in (
        ["mine.nc", "a.html"],
        ["a.html", "mine.nc"],
    )


def test_both_reports_are_told_apart(tmp_path, capsys, monkeypatch):
    file = str(written(tmp_path / "a.nc", classifier_results.network("lenet")))
    for flags, message in (
        ([], "give result files"),
        ([file, "results/items.toml"], "or one items.toml"),
        (["results/items.toml", "--label", "a=b"], "--label is of networks"),
        ([file, "--out=a.csv"], "ends in .html"),
    ):
        with pytest.raises(SystemExit):
            figures.main(["report", *flags])
        assert message in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    figures.main(["report", file])
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_what_is_no_result_file_is_refused(tmp_path):
    (tmp_path / "a.nc").write_text("hello")
    with pytest.raises(results.ResultsError, match="cannot be read as netCDF"):
        network_report.write([tmp_path / "a.nc"], tmp_path / "a.html")
