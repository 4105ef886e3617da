"""What `launch.reproduce` trains, measures, takes as it is, and refuses, without doing the work."""

import json

import pytest

from cnnpool.data.images import DataError
from cnnpool.files import results
from cnnpool.launch import fig4_item, items, job_states, trained_items
from cnnpool.launch.engines.engine import EngineError, JobsFailedError
from cnnpool.launch.items import Run
from cnnpool.launch.measurement import THREE_SHUFFLES
from cnnpool.runs import run_config, run_status
from cnnpool.runs.run_config import ConfigMismatchError
from cnnpool.runs.run_status import Status
from tests import classifier_results

LENET = Run("scale2d", "lenet")


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(trained_items, "OLD_RUNS", tmp_path / "runs")
    return trained_items.Places(
        tmp_path / "jobs", tmp_path / "networks", tmp_path / "packed", data_dir="where"
    )


@pytest.fixture
def work(monkeypatch):
    """Notes measurements of packed networks instead of doing them."""
    done = []

    def evaluate(folder, file, **options):
        done.append((folder.name, options))

    monkeypatch.setattr(trained_items, "evaluate", evaluate)
    return done


class Engine:
    """Leaves made-up results of jobs, or their errors."""

    def __init__(self, errors=()):
        self.errors, self.done = dict(errors), []

    def start(self, states, root, noted):
        noted()
        failed = []
        for one in states:
            self.done.append(one.job)
            data, model = one.job.config.data.name, one.job.config.model.name
            if data in self.errors:
                run_status.write(one.folder, Status("failed", error=self.errors[data]))
                failed.append(one.job.name)
                continue
            for measurement in one.job.measurements:
                dataset = classifier_results.network(model, data)
                dataset.attrs["config"] = run_config.to_json(one.job.config)
                dataset.attrs["measurement"] = json.dumps(measurement.record())
                results.write(one.folder / measurement.file, dataset)
        if failed:
            raise JobsFailedError(f"failed: {failed}")


def source(places, run, presets, *, measurement=THREE_SHUFFLES, overwrite=False):
    return trained_items.source_of(
        run, presets, places, measurement=measurement, overwrite=overwrite
    )


BOTH_PROTOCOLS, PAPER = ("paper", "cpu"), ("paper",)


def put_measurement(places, run, preset, *, measurement=THREE_SHUFFLES, transforms=None, **changes):
    config = run.config(preset).unlock()
    for name, value in changes.items():
        config[name] = value
    dataset = classifier_results.network(run.model, "scale2d")
    dataset.attrs["config"] = run_config.to_json(config)
    record = measurement.record() | ({"transforms": list(transforms)} if transforms else {})
    dataset.attrs["measurement"] = json.dumps(record)
    name = "-".join([run.name(preset), *([measurement.name] if measurement.name else [])])
    results.write(places.measurements / f"{name}.nc", dataset)


def test_what_is_missing_is_a_job_of_the_sweep(places, work):
    """The same folder as with launch.sweep, whoever gives it first."""
    engine = Engine()
    files, left_out = trained_items.files_of("fig7", "cpu", places, engine, overwrite=False)
    names = ["cifar10-lenet-cpu", "cifar10-alexnet-cpu"]
    assert ([file.stem for file in files], left_out) == (names, [])
    assert [job.name for job in engine.done] == [
        job.name for job in items.ITEMS["fig7"].jobs("cpu")
    ]
    assert all(job.config.data.data_dir.endswith("/where") for job in engine.done)
    again, _ = trained_items.files_of("fig7", "cpu", places, engine, overwrite=False)
    assert again == files
    for file in files:
        file.unlink()
    assert trained_items.files_of("fig7", "cpu", places, engine, overwrite=False)[0] == files
    assert len(engine.done) == 2
    assert work == []


@pytest.mark.parametrize("there", ["paper", "cpu"])
def test_a_measurement_outlives_its_networks(places, there):
    put_measurement(places, LENET, there)
    assert source(places, LENET, BOTH_PROTOCOLS)().stem == LENET.name(there)


def test_fewer_initializations_do_for_cpu_and_not_for_paper(places):
    put_measurement(places, LENET, "paper", seeds=(0,))
    assert source(places, LENET, BOTH_PROTOCOLS) is not None
    with pytest.raises(ConfigMismatchError, match=r"seeds: \(0,\) -> "):
        source(places, LENET, PAPER)


def test_networks_of_another_config_are_refused(places):
    training = LENET.config("paper").training.to_dict() | {"learning_rate": 0.5}
    put_measurement(places, LENET, "paper", training=training)
    with pytest.raises(ConfigMismatchError, match=r"training.learning_rate: 0.5 -> 0.05"):
        source(places, LENET, BOTH_PROTOCOLS)


def test_a_measurement_of_something_else_is_not_taken(places):
    put_measurement(places, LENET, "paper", transforms=("none",))
    with pytest.raises(FileExistsError, match="with another measurement"):
        source(places, LENET, BOTH_PROTOCOLS)
    assert source(places, LENET, BOTH_PROTOCOLS, overwrite=True) is None, "to be trained"


def test_packed_networks_of_the_repository_are_those_of_the_protocol(places, work):
    """The committed LeNets of scale detection need no training."""
    there = trained_items.Places(places.jobs, places.measurements)
    file = source(there, LENET, PAPER)()
    assert file == places.measurements / "scale2d-lenet.nc"
    ((folder, options),) = work
    assert folder == "scale2d-lenet"
    assert options["data_dir"] is None, "2-D scale detection is drawn"


def test_networks_without_data_are_left_out_by_name(places, tmp_path):
    put_measurement(places, Run("scale2d", "alexnet"), "paper")
    engine = Engine({"cifar10": "no CIFAR-10"})
    picture = tmp_path / "out" / "fig10.png"
    files = trained_items.reproduce(
        "fig10", "cpu", places, engine, picture=picture, overwrite=False
    )
    assert [file.stem for file in files] == ["scale2d-alexnet"]
    assert "skipped cifar10-alexnet-cpu: no CIFAR-10" in picture.with_suffix(".md").read_text()
    assert picture.is_file()
    with pytest.raises(DataError, match="skipped cifar10-lenet-cpu: no CIFAR-10"):
        trained_items.reproduce("fig7", "cpu", places, engine, picture=picture, overwrite=False)
    engine.errors.clear()
    files, left_out = trained_items.files_of("fig7", "cpu", places, engine, overwrite=False)
    assert (len(files), left_out) == (2, []), "failed jobs are tried again"


def test_a_job_of_another_launcher_is_left_to_it(places, monkeypatch):
    engine = Engine()

    def waiting(jobs, root):
        queued = {job.name: job_states.Queued("waiting", "Priority") for job in jobs}
        return [job_states.of(job, root, queued) for job in jobs]

    monkeypatch.setattr(trained_items.engine_choice, "states", waiting)
    files, left_out = trained_items.files_of("fig7", "cpu", places, engine, overwrite=False)
    assert (files, engine.done) == ([], [])
    assert left_out[0] == "skipped cifar10-lenet-cpu: Priority"


def test_noise_is_compared_within_one_protocol_and_measured_twice(places):
    item = items.ITEMS["noise"]
    assert item.presets("cpu") == ["cpu"]
    chosen = item.chosen("cpu")
    assert len({run.image_noise for run, _ in chosen}) >= 4
    noisy = [run for run, _ in chosen if run.image_noise]
    assert all(noisy.count(run) == 2 for run in noisy)
    put_measurement(places, Run("cifar10", "lenet"), "paper")
    engine = Engine()
    files, _ = trained_items.files_of("noise", "cpu", places, engine, overwrite=False)
    names = [file.stem for file in files]
    assert {"cifar10-lenet-noise10-cpu", "cifar10-lenet-noise10-cpu-clean"} <= set(names)
    assert len(set(names)) == len(chosen)
    assert len(engine.done) == len({run for run, _ in chosen}), "trained once"
    clean = [job.measurements[1].settings for job in engine.done if len(job.measurements) == 2]
    assert clean == [(("image_noise", False),)] * 3


def test_a_measurement_of_another_kind_has_its_own_file(places):
    run = Run("cifar10", "lenet")
    put_measurement(places, run, "cpu", measurement=items.DELTAS)
    file = source(places, run, BOTH_PROTOCOLS, measurement=items.DELTAS)()
    assert file.stem == "cifar10-lenet-cpu-deltas"
    assert source(places, run, BOTH_PROTOCOLS) is None


def test_dynamics_are_not_asked_of_packed_networks(places):
    """The best networks alone are packed."""
    there = trained_items.Places(places.jobs, places.measurements)
    vgg = Run("scale2d", "vgg11_bn")
    assert source(there, vgg, PAPER, measurement=items.DYNAMICS) is None
    assert len(vgg.config("paper").checkpoint.keep_epochs) > 5
    assert LENET.config("paper").checkpoint.keep_epochs == (0,), "no dynamics of it"


@pytest.mark.parametrize("where", ["runs", "jobs"])
def test_a_working_directory_by_its_earlier_name_is_named_with_the_cure(places, tmp_path, where):
    old = tmp_path / where / "scale2d-lenet-cpu"
    old.mkdir(parents=True)
    run_config.config_path(old).write_text(run_config.to_json(LENET.config("cpu")))
    folder = places.jobs / trained_items.job_of(LENET, "cpu", THREE_SHUFFLES, places).name
    with pytest.raises(ConfigMismatchError, match=f"mv {old} {folder}"):
        source(places, LENET, BOTH_PROTOCOLS)
    places.jobs.mkdir(exist_ok=True)
    old.rename(folder)
    assert source(places, LENET, BOTH_PROTOCOLS) is None, "the job goes on in it"


def test_a_failed_job_of_figure_4_says_why(places, tmp_path):
    with pytest.raises(EngineError, match=r"scale1d-simple_cnn-s0_3-\w+ is failed: diverged"):
        fig4_item.reproduce("quick", places, Engine({"scale1d": "diverged"}), out=tmp_path / "out")


def test_figure_5_on_a_cpu_has_all_networks_narrow_and_four_wide():
    chosen = [run for run, _ in items.ITEMS["fig5"].chosen("cpu")]
    assert {run.model for run in chosen} == set(items.SCALE2D_NETWORKS)
    wide = [run.model for run in chosen if run.width_factor == 1]
    assert wide == ["lenet", "alexnet", "vgg11", "vgg11_bn", "efficientnet_b0"]
    assert len(chosen) == 14
    assert items.ITEMS["fig5"].presets("cpu") == ["cpu"], "300 epochs beside 60"
    assert items.ITEMS["fig6"].presets("cpu") == ["paper", "cpu"]
    narrow = next(run for run in chosen if run.width_factor < 1)
    assert narrow.name("cpu") == "scale2d-alexnet-width0.25-cpu"
    assert len(narrow.config("cpu").seeds) == 3


def test_every_item_is_a_figure_and_every_run_has_a_config():
    from cnnpool.figures import classifier_figures

    assert items.ITEMS.keys() <= {"fig4", *classifier_figures.FIGURES}
    runs = {run for item in items.ITEMS.values() for run, _ in item.chosen("paper")}
    assert "cifar10-lenet-noise0.1" in {run.name("paper") for run in runs}
    runs |= {run for item in items.ITEMS.values() for run, _ in item.chosen("cpu")}
    for run in runs:
        for preset in ("paper", "cpu"):
            assert run.config(preset).model.name == run.model
