"""What `launch.reproduce` trains, measures, takes as it is, and refuses, without doing the work."""

import json

import pytest

from cnnpool.data.images import DataError
from cnnpool.files import results
from cnnpool.runs import run_config
from cnnpool.runs.run_config import ConfigMismatchError
from launch import deep_items, deep_runs
from launch.deep_runs import Run
from tests import deep_results

LENET = Run("scale2d", "lenet")


@pytest.fixture
def places(tmp_path):
    return deep_items.Places(
        tmp_path / "runs", tmp_path / "networks", tmp_path / "packed", data_dir="where"
    )


@pytest.fixture
def work(monkeypatch):
    """Notes trainings and measurements instead of doing them."""
    done = []

    def train(config, workdir):
        done.append(("train", workdir.name, config))

    def evaluate(folder, file, **options):
        done.append(("measure", folder.name, options))

    monkeypatch.setattr(deep_items.fit, "train", train)
    monkeypatch.setattr(deep_items, "evaluate", evaluate)
    return done


BOTH_PROTOCOLS, PAPER = ("paper", "cpu"), ("paper",)


def put_measurement(
    places, run, preset, *, measurement=deep_runs.THREE_SHUFFLES, transforms=None, **changes
):
    config = run.config(preset).unlock()
    for name, value in changes.items():
        config[name] = value
    dataset = deep_results.network(run.model, "scale2d")
    dataset.attrs["config"] = run_config.to_json(config)
    record = measurement.record() | ({"transforms": list(transforms)} if transforms else {})
    dataset.attrs["measurement"] = json.dumps(record)
    name = "-".join([run.name(preset), *([measurement.name] if measurement.name else [])])
    results.write(places.measurements / f"{name}.nc", dataset)


def test_what_is_missing_is_trained_and_measured(places, work):
    file = deep_items.measured(LENET, BOTH_PROTOCOLS, places, overwrite=False)
    assert file == places.measurements / "scale2d-lenet-cpu.nc"
    assert [step[:2] for step in work] == [
        ("train", "scale2d-lenet-cpu"),
        ("measure", "scale2d-lenet-cpu"),
    ]
    assert work[0][2].seeds == (0, 1, 2)
    assert work[1][2]["data_dir"] is None, "2-D scale detection is drawn"


def test_the_data_folder_reaches_training_and_measurement(places, work):
    deep_items.measured(Run("cifar10", "vgg11_bn"), BOTH_PROTOCOLS, places, overwrite=False)
    assert work[0][2].data.data_dir == work[1][2]["data_dir"] == "where"


@pytest.mark.parametrize("there", ["paper", "cpu"])
def test_a_measurement_outlives_its_networks(places, work, there):
    put_measurement(places, LENET, there)
    file = deep_items.measured(LENET, BOTH_PROTOCOLS, places, overwrite=False)
    assert file.stem == LENET.name(there)
    assert work == []


def test_fewer_initializations_do_for_cpu_and_not_for_paper(places, work):
    put_measurement(places, LENET, "paper", seeds=(0,))
    deep_items.measured(LENET, BOTH_PROTOCOLS, places, overwrite=False)
    with pytest.raises(ConfigMismatchError, match=r"seeds: \(0,\) -> "):
        deep_items.measured(LENET, PAPER, places, overwrite=False)
    assert work == []


def test_networks_of_another_config_are_refused(places, work):
    training = LENET.config("paper").training.to_dict() | {"learning_rate": 0.5}
    put_measurement(places, LENET, "paper", training=training)
    with pytest.raises(ConfigMismatchError, match=r"training.learning_rate: 0.5 -> 0.05"):
        deep_items.measured(LENET, BOTH_PROTOCOLS, places, overwrite=False)
    assert work == []


def test_a_measurement_of_something_else_is_not_taken(places, work):
    put_measurement(places, LENET, "paper", transforms=("none",))
    with pytest.raises(FileExistsError, match="with another measurement"):
        deep_items.measured(LENET, BOTH_PROTOCOLS, places, overwrite=False)
    assert work == []


def test_packed_networks_of_the_repository_are_those_of_the_protocol(places, work):
    """The committed LeNets of scale detection need no training."""
    there = deep_items.Places(places.runs, places.measurements)
    deep_items.measured(LENET, PAPER, there, overwrite=False)
    assert [step[:2] for step in work] == [("measure", "scale2d-lenet")]


def test_networks_without_data_are_left_out_by_name(places, work, monkeypatch, tmp_path):
    put_measurement(places, Run("scale2d", "alexnet"), "paper")

    def train(config, workdir):
        raise DataError("no CIFAR-10")

    monkeypatch.setattr(deep_items.fit, "train", train)
    picture = tmp_path / "out" / "fig10.png"
    files = deep_items.reproduce("fig10", "cpu", places, picture=picture, overwrite=False)
    assert [file.stem for file in files] == ["scale2d-alexnet"]
    assert "left out cifar10-alexnet-cpu: no CIFAR-10" in picture.with_suffix(".md").read_text()
    assert picture.is_file()
    with pytest.raises(DataError, match="left out cifar10-lenet-cpu"):
        deep_items.reproduce("fig7", "cpu", places, picture=picture, overwrite=False)


def test_noise_is_compared_within_one_protocol_and_measured_twice(places, work):
    item = deep_runs.ITEMS["noise"]
    assert item.presets("cpu") == ["cpu"]
    chosen = item.chosen("cpu")
    assert len({run.image_noise for run, _ in chosen}) >= 4
    noisy = [run for run, _ in chosen if run.image_noise]
    assert all(noisy.count(run) == 2 for run in noisy)
    put_measurement(places, Run("cifar10", "lenet"), "paper")
    for run, measurement in chosen:
        presets = item.presets("cpu")
        deep_items.measured(run, presets, places, measurement=measurement, overwrite=False)
    steps = [step for step in work if step[0] == "measure"]
    assert [step[1] for step in steps].count("cifar10-lenet-noise10-cpu") == 2
    assert [step[2]["settings"] for step in steps if step[1] == "cifar10-lenet-cpu"] == [{}]
    assert {"image_noise": False} in [step[2]["settings"] for step in steps]


def test_a_measurement_of_another_kind_has_its_own_file(places, work):
    run = Run("cifar10", "lenet")
    put_measurement(places, run, "cpu", measurement=deep_runs.DELTAS)
    file = deep_items.measured(
        run, BOTH_PROTOCOLS, places, measurement=deep_runs.DELTAS, overwrite=False
    )
    assert (file.stem, work) == ("cifar10-lenet-cpu-deltas", [])
    deep_items.measured(run, BOTH_PROTOCOLS, places, overwrite=False)
    assert [step[0] for step in work] == ["train", "measure"]


def test_dynamics_are_not_asked_of_packed_networks(places, work):
    """The best networks alone are packed."""
    there = deep_items.Places(places.runs, places.measurements)
    vgg = Run("scale2d", "vgg11_bn")
    deep_items.measured(vgg, PAPER, there, measurement=deep_runs.DYNAMICS, overwrite=False)
    assert [step[0] for step in work] == ["train", "measure"]
    kept = work[0][2].checkpoint.keep_epochs
    assert len(kept) >= deep_items.LEAST_EPOCHS
    assert LENET.config("paper").checkpoint.keep_epochs == (0,), "no dynamics of it"


def test_figure_5_on_a_cpu_has_all_networks_narrow_and_four_wide():
    chosen = [run for run, _ in deep_runs.ITEMS["fig5"].chosen("cpu")]
    assert {run.model for run in chosen} == set(deep_runs.SCALE2D_NETWORKS)
    wide = [run.model for run in chosen if run.width_factor == 1]
    assert wide == ["lenet", "alexnet", "vgg11", "vgg11_bn", "efficientnet_b0"]
    assert len(chosen) == 14
    assert deep_runs.ITEMS["fig5"].presets("cpu") == ["cpu"], "300 epochs beside 60"
    assert deep_runs.ITEMS["fig6"].presets("cpu") == ["paper", "cpu"]
    narrow = next(run for run in chosen if run.width_factor < 1)
    assert narrow.name("cpu") == "scale2d-alexnet-width0.25-cpu"
    assert len(narrow.config("cpu").seeds) == 3


def test_every_item_is_a_figure_and_every_run_has_a_config():
    from cnnpool.figures import deep_figures

    assert deep_runs.ITEMS.keys() <= deep_figures.FIGURES.keys()
    runs = {run for item in deep_runs.ITEMS.values() for run, _ in item.chosen("paper")}
    assert "cifar10-lenet-noise0.1" in {run.name("paper") for run in runs}
    runs |= {run for item in deep_runs.ITEMS.values() for run, _ in item.chosen("cpu")}
    for run in runs:
        for preset in ("paper", "cpu"):
            assert run.config(preset).model.name == run.model
