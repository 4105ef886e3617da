"""One table and one plot of a sweep: test error, D, G, R against what it varies."""

import csv

import numpy as np
import pytest

from cnnpool.figures import __main__ as figures
from cnnpool.figures import networks, sweep
from cnnpool.files import results, sweep_parameters
from tests import classifier_results


def collected(path, **fields):
    """Four networks of two rates and two sizes, as launch.collect writes them."""
    found = {}
    for number, (rate, size) in enumerate([(0.1, 64), (0.1, 32), (0.02, 64), (0.02, 32)]):
        data = classifier_results.network(
            "lenet", factor=1 + number, test_error=0.1 + number / 100, **fields
        )
        names = {"rate": "training.rate", "size": "training.size"}
        place = {"rate": rate, "size": size}
        found[f"n{number}"] = sweep_parameters.with_parameters(data, place, names)
    results.write(path, found)
    return path


def test_the_table_is_of_the_output_after_training(tmp_path):
    file = collected(tmp_path / "a.nc", deltas=[0.3, 1.0], cutoffs=[10, 3])
    text = sweep.make([file], None, "")
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()]
    assert lines[0] == ["rate", "size", "test error", "D", "G", "R", "networks"]
    assert [line[:2] for line in lines[2:]] == [
        *(["0.02", "32"], ["0.02", "64"], ["0.1", "32"], ["0.1", "64"])
    ]
    # Of factor 1 (rate 0.1, size 64): R = 10^-1.5 at the nominal displacement and cut-off.
    assert lines[-1][2:] == ["10.00% ± 0.58%", *lines[-1][3:5], "0.0316 ± 0.00183", "3"]


def test_curves_are_of_the_other_parameters(tmp_path):
    file = collected(tmp_path / "a.nc")
    figures.main(["sweep", str(file), "--x=size", f"--out={tmp_path / 'b.svg'}"])
    assert (tmp_path / "b.svg").read_text().startswith("<?xml")
    with (tmp_path / "b.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["panel"] == "R"]
    found = {(row["curve"], float(row["x"])): float(row["y"]) for row in rows}
    expected = {
        *(("rate=0.1", 64), ("rate=0.1", 32), ("rate=0.02", 64), ("rate=0.02", 32)),
    }
    assert set(found) == expected
    assert found["rate=0.02", 32] == pytest.approx(4 * 10**-1.5)


def test_dead_networks_are_counted(tmp_path):
    data = classifier_results.network("lenet", seeds=4)
    data["R"].loc[{"seed": [0, 1], "layer": "linear05"}] = np.nan
    for name, rate in (("a.nc", 0.1), ("b.nc", 0.2)):
        results.write(tmp_path / name, data.assign_coords(rate=rate))
    text = sweep.make([tmp_path / "a.nc", tmp_path / "b.nc"], None, "")
    assert text.splitlines()[-1].endswith("| 2 of 4 |")


def test_words_are_drawn_side_by_side(tmp_path):
    data = classifier_results.network("lenet")
    for name in ("sgd", "adam"):
        results.write(tmp_path / f"{name}.nc", data.assign_coords(optimizer=name))
    files = [tmp_path / "sgd.nc", tmp_path / "adam.nc"]
    sweep.make(files, tmp_path / "a.png", "optimizer")
    found = sweep.series(sweep.rows(networks.read(files)), "optimizer")
    assert list(found[0].x) == [0, 1]
    assert found[0].points == ("optimizer=adam", "optimizer=sgd")


def test_a_parameter_that_some_networks_do_not_have_is_shown(tmp_path):
    """As `clip_norm=None` of some jobs, which launch.collect leaves out."""
    found = {}
    for number, place in enumerate([{"rate": 0.1}, {"rate": 0.1, "clip": 1.5}]):
        data = classifier_results.network("lenet", test_error=0.1 * (1 + number))
        names = {name: f"training.{name}" for name in place}
        found[f"n{number}"] = sweep_parameters.with_parameters(data, place, names)
    results.write(tmp_path / "a.nc", found)
    text = sweep.make([tmp_path / "a.nc"], tmp_path / "a.svg", "")
    cells = [line.strip("| ").split(" | ")[:2] for line in text.splitlines()]
    assert cells == [
        ["clip", "test error"],
        ["---"] * 2,
        *(["1.5", "20.00% ± 1.15%"], ["None", "10.00% ± 0.58%"]),
    ]


def test_what_is_no_parameter_is_refused(tmp_path):
    file = collected(tmp_path / "a.nc")
    with pytest.raises(ValueError, match=r"--x is 'sise'; expected one of .*did you mean 'size'"):
        sweep.make([file], None, "sise")
    results.write(tmp_path / "b.nc", classifier_results.network("lenet"))
    with pytest.raises(ValueError, match=r"no parameter that all .*launch\.collect"):
        sweep.make([tmp_path / "b.nc"], None, "")
