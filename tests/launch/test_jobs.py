"""Jobs of sweeps: names from cnnpool.configs, nothing twice, specs that survive, states."""

import argparse
import json
import os
import pwd
import re

import pytest

from cnnpool.configs import arrays, cifar10, scale1d, scale2d
from cnnpool.launch import items, job_parameters, job_states, sweep_file
from cnnpool.launch.job_states import FAILED, FINISHED, RUNNING, STOPPED, WAITING, Queued
from cnnpool.launch.jobs import Job, SweepError, read_spec, unique, with_fields
from cnnpool.launch.measurement import BOTH, RING, Measurement
from cnnpool.runs import lease, run_status
from cnnpool.runs.run_status import Status

LENET = scale2d.get_config("cpu")


def test_a_name_comes_from_what_defines_the_networks():
    job = Job(LENET)
    assert job.name.startswith("scale2d-lenet-s0-")
    assert Job(scale2d.get_config("cpu")).name == job.name
    same = with_fields(LENET, runtime__tensorboard=False, checkpoint__every_seconds=1.0)
    assert Job(same).name == job.name, "the same networks"
    for field, value in {
        "training__learning_rate": 0.1,
        "seeds": (1,),
        "checkpoint__keep_epochs": (0, 5),
        "data__gap": 4,
    }.items():
        assert Job(with_fields(LENET, **{field: value})).name != job.name, field
    draws = with_fields(scale1d.get_config(), measurement__draws=3)
    assert Job(draws).name != Job(scale1d.get_config()).name, "the config says how it is measured"


@pytest.mark.parametrize(("data_set", "count"), [(arrays, 2), (cifar10, 1)])
def test_own_arrays_in_two_folders_are_two_data_sets(data_set, count):
    """Others are the same wherever they are."""
    base = data_set.get_config()
    jobs = unique(Job(with_fields(base, data__data_dir=folder)) for folder in ("a", "b"))
    assert len(jobs) == count
    places = job_parameters.varied(jobs).places.values()
    assert list(places) == ([{"data_dir": "a"}, {"data_dir": "b"}] if count > 1 else [{}])


def test_no_string_of_a_config_leaves_its_folder():
    nasty = with_fields(LENET, model__name="../../$(x)\n'a' \"b\"")
    assert "/" not in Job(nasty).name
    assert set(Job(nasty).name) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    )


def test_seeds_are_split_and_belong_together():
    job = Job(with_fields(LENET, seeds=(0, 1, 2, 3, 4)))
    parts = job.split(2)
    assert [part.config.seeds for part in parts] == [(0, 1), (2, 3), (4,)]
    assert len({part.name for part in parts}) == 3
    assert {part.group for part in parts} == {job.group}
    assert job.split(None)[0].name == job.name
    with pytest.raises(SweepError, match="at least 1, got 0"):
        job.split(0)


def test_the_same_networks_are_trained_once_and_measured_for_all():
    clean = Measurement("clean", settings=(("image_noise", False),))
    (job,) = unique([Job(LENET), Job(LENET, (clean,)), Job(LENET)])
    assert job.measurements == (BOTH, clean)
    assert len({one.file for one in job.measurements}) == 2
    assert Measurement("clean").file != clean.file, "another measurement, another file"


def test_a_spec_is_read_as_it_was_written(tmp_path):
    settings = (("deltas", (0.1, 1.0)), ("images", 10))
    job = Job(cifar10.get_config("cpu"), (Measurement("x", ("init",), ("none",), settings),))
    path = job.write_spec(tmp_path)
    again = read_spec(path)
    assert again.name == job.name
    assert again.measurements == job.measurements
    assert again.measurements[0].file == job.measurements[0].file
    assert job.write_spec(tmp_path) == path
    for damaged in ("", "[]", "{}", path.read_text().replace('"version": 1', '"version": 2')):
        path.write_text(damaged)
        with pytest.raises(SweepError, match="is not the spec of a job"):
            read_spec(path)


def test_unknown_fields_are_refused():
    with pytest.raises(
        SweepError, match=r"training\.rate: no such field; expected one of .*got 'rate'"
    ):
        with_fields(LENET, training__rate=1)


@pytest.mark.parametrize("item", items.TRAINED)
def test_every_item_is_a_sweep(item):
    path = sweep_file.Path(item)
    for preset in ("cpu", "paper"):
        jobs = sweep_file.load(path, preset, seeds_per_job=None, data_dir=None)
        for job in jobs:
            job.check_names()
        split = sweep_file.load(path, preset, seeds_per_job=1, data_dir="there")
        assert len(split) == sum(len(job.config.seeds) for job in jobs)
        assert len({job.name for job in split}) == len(split)
    chosen = items.ITEMS[item].chosen("paper")
    assert sum(len(job.measurements) for job in jobs) == len(chosen)
    of_cifar = [job for job in split if job.config.data.name == "cifar10"]
    assert all(job.config.data.data_dir.endswith("/there") for job in of_cifar)


@pytest.mark.parametrize(
    ("sweep", "preset", "cure"),
    [
        ("launch/sweeps/fig5.py", "cpu", "use the name of the item, --sweep=fig5"),
        ("fig9", "cpu", "launch.reproduce fig9 --preset=imagenet"),
        ("fig11", "cpu", "or an item of the paper: fig4, fig2, "),
        ("fig5", "quick", "fig5: ValueError: preset is 'quick'; expected paper or cpu"),
    ],
)
def test_a_sweep_that_is_not_there_is_refused_with_the_cure(sweep, preset, cure):
    with pytest.raises(SweepError, match=re.escape(cure)):
        sweep_file.load(sweep_file.Path(sweep), preset, seeds_per_job=None, data_dir=None)


def test_figure_4_measures_all_that_simple_cnns_have():
    """`launch.items` does not import the transforms themselves, and JAX with them."""
    (job,) = items.ITEMS["fig4"].jobs("cpu")
    assert [one.transforms for one in job.measurements] == [RING.transforms]


def test_a_new_value_adds_only_what_is_new(tmp_path):
    path = tmp_path / "mine.py"
    text = """
from cnnpool.configs import scale2d
from cnnpool.launch.jobs import Job, with_fields
def jobs(preset):
    base = scale2d.get_config(preset)
    return [Job(with_fields(base, training__learning_rate=rate)) for rate in RATES]
"""
    names = []
    for rates in ("(0.1,)", "(0.1, 0.2)"):
        path.write_text(f"RATES = {rates}\n{text}")
        found = sweep_file.load(path, "cpu", seeds_per_job=None, data_dir=None)
        names.append({job.name for job in found})
    assert names[0] < names[1]
    path.write_text("x = 1")
    with pytest.raises(SweepError, match=r"no function jobs\(preset\)"):
        sweep_file.load(path, "cpu", seeds_per_job=None, data_dir=None)
    path.write_text("def jobs(preset): return []")
    with pytest.raises(SweepError, match="must return a list"):
        sweep_file.load(path, "cpu", seeds_per_job=None, data_dir=None)
    with pytest.raises(SweepError, match="no sweep"):
        sweep_file.load(tmp_path / "absent.py", "cpu", seeds_per_job=None, data_dir=None)


HEAD = """
import dataclasses, pickle
from cnnpool.configs import cifar10, scale1d, scale2d
from cnnpool.launch.jobs import Job, with_fields
from cnnpool.launch.measurement import Measurement
base = scale2d.get_config()
"""
SETTING = "def jobs(preset): return [Job({config}, (Measurement(settings=({setting},)),))]"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def jobs(preset) return 3", r"sweep.py, line 7: SyntaxError: expected ':'"),
        ("1 / 0", r"sweep.py, line 7: ZeroDivisionError: division by zero"),
        ("def jobs(): pass", r"sweep.py: TypeError: jobs\(\) takes 0 positional"),
        ("def jobs(preset):\n    return len(3)", r"sweep.py, line 8: TypeError: object of type"),
        ("def jobs(preset): yield with_fields(base, x=1)", r"line 7: x: no such field"),
        ("def jobs(preset): return [Job(scale2d)]", r"line 7: a job's config must be returned by"),
        (
            "def jobs(preset): return [Job(with_fields(base, seeds=()))]",
            r"one seed or more",
        ),
        ("def jobs(preset): return [Job(base, Measurement())]", r"\(BOTH,\), got Measurement\("),
        (SETTING.format(config="base", setting="('imgs', 3)"), r"line 7: .*did you mean 'images'"),
        (SETTING.format(config="base", setting="('images', 1)"), r"--images must be at least 2"),
        (
            SETTING.format(config="base", setting="('images', 10**6)"),
            r"at most \d+, the number of test im",
        ),
        (SETTING.format(config="base", setting="('deltas', (2.0,))"), r"leave out --deltas"),
        (
            SETTING.format(config="cifar10.get_config()", setting="('deltas', [2.0])"),
            r"expected t",
        ),
        (SETTING.format(config="scale1d.get_config()", setting="('images', 9)"), r"\['draws'\]"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said_in_one_line(tmp_path, code, message):
    path = tmp_path / "sweep.py"
    path.write_text(HEAD + code)
    with pytest.raises(SweepError, match=message) as raised:
        sweep_file.load(path, "cpu", seeds_per_job=None, data_dir=None)
    assert "\n" not in str(raised.value)


def test_a_sweep_is_a_module_like_others(tmp_path):
    """It may yield jobs, and hold classes that are pickled."""
    path = tmp_path / "sweep.py"
    code = """
@dataclasses.dataclass
class Rate:
    value: float
def jobs(preset):
    for rate in (Rate(0.1), Rate(0.2)):
        same = pickle.loads(pickle.dumps(rate))
        yield Job(with_fields(base, training__learning_rate=same.value))
"""
    path.write_text(f"from __future__ import annotations{HEAD}{code}")
    found = sweep_file.load(path, "cpu", seeds_per_job=None, data_dir=None)
    assert [job.config.training.learning_rate for job in found] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("stages", ("trainde",), "stage 'trainde': expected init"),
        ("transforms", ("chanel_shuffle",), "did you mean 'channel_shuffle'"),
        ("transforms", ("channel_shuffle:conv2",), "'conv2'; .* did you mean 'conv02'"),
        ("settings", (("interpolation", "cubic"),), "interpolation is 'cubic'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(field, value, message):
    config = cifar10.get_config()
    Job(config, (Measurement(transforms=("channel_shuffle:conv02",)),)).check_names()
    with pytest.raises(SweepError, match=f"cifar10-.*: measurement 'x': .*{message}"):
        Job(config, (Measurement("x", **{field: value}),)).check_names()


def test_a_folder_that_no_job_reads_is_refused():
    parser = argparse.ArgumentParser()
    sweep_file.add_arguments(parser)
    with pytest.raises(
        SweepError, match=r"no --data_dir for scale2d, whose images are generated; .* Omit"
    ):
        sweep_file.of_arguments(parser.parse_args(["--sweep=fig5", "--data_dir=/data"]))


@pytest.mark.parametrize(
    ("status", "queued", "expected", "given"),
    [
        (None, None, WAITING, True),
        (None, Queued(WAITING, "Priority"), WAITING, False),
        (None, Queued(RUNNING), RUNNING, False),
        (None, Queued(STOPPED, "FAILED"), FAILED, False),
        (None, Queued(STOPPED, "CANCELLED"), WAITING, True),
        ("preempted", Queued(WAITING, "BeginTime"), WAITING, False),
        ("preempted", None, STOPPED, True),
        ("running", None, STOPPED, True),
        ("running", Queued(STOPPED, "FAILED"), STOPPED, True),
        ("running", Queued(STOPPED, "OUT_OF_MEMORY", fatal=True), FAILED, False),
        ("failed", None, FAILED, False),
        ("failed", Queued(WAITING), WAITING, False),
        ("finished", None, WAITING, True),  # a measurement has been added
    ],
)
def test_states(tmp_path, status, queued, expected, given):
    job = Job(LENET)
    folder = tmp_path / job.name
    folder.mkdir()
    if status is not None:
        run_status.write(folder, Status(status, error="it broke" if status == "failed" else None))
    found = job_states.of(job, tmp_path, {} if queued is None else {job.name: queued})
    assert (found.state, found.is_to_be_given) == (expected, given)
    if (status, queued) == ("failed", None):
        assert found.detail == "it broke"
    with lease.hold(folder):
        held = job_states.of(job, tmp_path, {})
        assert (held.state, held.is_to_be_given) == (RUNNING, False), "whatever the queue says"
    (folder / BOTH.file).touch()
    assert job_states.of(job, tmp_path, {}).state == FINISHED


def test_a_damaged_submission_is_none(tmp_path):
    job_states.write_submission(tmp_path, {"engine": "slurm", "id": "1_0"})
    assert job_states.read_submission(tmp_path) == {"engine": "slurm", "id": "1_0"}
    for text in ("", "[1]", json.dumps("x")):
        (tmp_path / "submission.json").write_text(text)
        assert job_states.read_submission(tmp_path) == {}


def test_a_user_without_a_name_has_a_number(monkeypatch):
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert sweep_file.user_name() == str(os.getuid())
