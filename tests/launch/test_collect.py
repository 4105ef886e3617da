"""What a sweep has measured, in one file that figures take; what is missing, by name."""

import json
from pathlib import Path
import shlex

import numpy as np
import pytest

from cnnpool.configs import scale2d
from cnnpool.figures import items
from cnnpool.files import results
from cnnpool.launch import collect, collected, job_parameters, status, sweep
from cnnpool.launch.jobs import Job, SweepError, read_spec, with_fields
from cnnpool.launch.measurement import BOTH, Measurement
from tests import classifier_results


def measured(root, job, dataset):
    """Puts the results of a job into its folder."""
    dataset = dataset.copy()
    dataset.attrs["config"] = json.dumps(
        json.loads(dataset.attrs["config"]) | {"seeds": list(job.config.seeds)}
    )
    for one in job.measurements:
        results.write(root / job.name / one.file, dataset)


def job_of(model, *seeds, measurements=(BOTH,)):
    return Job(with_fields(scale2d.get_config(), model__name=model, seeds=seeds), measurements)


def with_run(dataset):
    """Fields that every measurement of a run has."""
    stages = dataset.sizes["stage"]
    epochs = dataset["epoch"] if "epoch" in dataset else ("stage", np.arange(stages))
    return dataset.assign(training_seconds=("stage", np.full(stages, 2.0)), epoch=epochs)


def test_seeds_that_were_trained_apart_are_one_network_again(tmp_path):
    whole = with_run(classifier_results.network("lenet", "scale2d"))
    seeds = [int(seed) for seed in whole["seed"].values]
    parts = [job_of("lenet", seed) for seed in seeds]
    for job, seed in reversed(list(zip(parts, seeds, strict=True))):
        measured(tmp_path, job, whole.sel(seed=[seed]))
    missing = job_of("alexnet", 0)
    networks, absent, damaged = collected.collected([*reversed(parts), missing], tmp_path)
    assert (absent, damaged) == ([missing.name], [])
    (found,) = networks.values()
    assert json.loads(found.attrs["config"])["seeds"] == seeds
    assert len(json.loads(found.attrs["parts"])) == len(seeds)
    np.testing.assert_array_equal(found["training_seconds"], 2.0 * len(seeds))
    for name in whole.data_vars:
        if name != "training_seconds":
            assert found[name].dims == whole[name].dims
            np.testing.assert_array_equal(found[name], whole[name], err_msg=name)


def test_parts_that_differ_in_more_than_seeds_are_refused(tmp_path):
    whole = with_run(classifier_results.network("lenet", "scale2d"))
    parts = [whole.isel(seed=[0]), whole.isel(seed=[1]).isel(layer=slice(1, None))]
    with pytest.raises(SweepError, match="do not match"):
        collected.one_network(parts, "lenet")


def test_a_seed_of_two_jobs_is_refused(tmp_path):
    whole = with_run(classifier_results.network("lenet", "scale2d"))
    jobs = [job_of("lenet", 0, 1), job_of("lenet", 1, 2)]
    for job in jobs:
        measured(tmp_path, job, whole.isel(seed=[0, 1]).assign_coords(seed=list(job.config.seeds)))
    with pytest.raises(SweepError, match=r"scale2d-lenet-\w+: .* seeds \[1\]; .*in only one job"):
        collected.collected(jobs, tmp_path)


def test_measurements_with_other_settings_are_apart(tmp_path):
    """Of the same name or none; each in a job of its own, and both of another seed."""
    whole = with_run(classifier_results.network("lenet", "scale2d"))
    few = Measurement(settings=(("images", 100),))
    jobs = [
        job_of("lenet", 0),
        job_of("lenet", 0, measurements=(few,)),
        job_of("lenet", 1, measurements=(BOTH, few)),
    ]
    for job in jobs:
        measured(tmp_path, job, whole.sel(seed=list(job.config.seeds)))
    networks = collected.collected(jobs, tmp_path).networks
    assert set(networks) == {f"{jobs[0].group}-{one.digest}" for one in (BOTH, few)}
    assert [dataset.sizes["seed"] for dataset in networks.values()] == [2, 2]


def test_the_rest_is_written_where_a_file_is_damaged(tmp_path, capsys):
    whole = with_run(classifier_results.network("lenet", "scale2d"))
    text = """
from tests.launch.test_collect import job_of
def jobs(preset): return [job_of("lenet", seed) for seed in range(3)]
"""
    (tmp_path / "sweep.py").write_text(text)
    jobs = [job_of("lenet", seed) for seed in range(3)]
    for job in jobs[:2]:
        measured(tmp_path, job, whole.sel(seed=list(job.config.seeds)))
    damaged = tmp_path / jobs[0].name / jobs[0].measurements[0].file
    damaged.write_bytes(damaged.read_bytes()[:100])
    flags = [f"--sweep={tmp_path / 'sweep.py'}", f"--root={tmp_path}", f"--out={tmp_path / 'a.nc'}"]
    with pytest.raises(SweepError, match=rf"delete these and run .*\n  {damaged} cannot be read"):
        collect.main(flags)
    assert list(results.read(tmp_path / "a.nc")["seed"]) == [1]
    assert f"not finished: {jobs[2].name}" in capsys.readouterr().out


def rates_and_batches():
    """Jobs of two learning rates and two batch sizes."""
    base = with_fields(scale2d.get_config(), model__name="lenet", seeds=(0, 1))
    return [
        Job(with_fields(base, training__learning_rate=rate, **more))
        for rate in (0.1, 0.02)
        for more in ({}, {"training__batch_size": 64})
    ]


def test_what_a_sweep_varies_names_its_networks_and_is_a_coordinate(tmp_path):
    jobs = rates_and_batches()
    whole = with_run(classifier_results.network("lenet", "scale2d", seeds=2))
    for job in jobs:
        measured(tmp_path, job, whole)
    found = collected.collected(jobs, tmp_path).networks
    default = jobs[0].config.training.batch_size
    assert list(found) == [
        f"scale2d-lenet-lr={rate},batch={batch}" for rate in (0.1, 0.02) for batch in (default, 64)
    ]
    last = found["scale2d-lenet-lr=0.02,batch=64"]
    assert (float(last["learning_rate"]), int(last["batch_size"])) == (0.02, 64)
    assert last["learning_rate"].attrs["parameter"] == "training.learning_rate"
    results.write(tmp_path / "a.nc", found)
    again = results.read_networks(tmp_path / "a.nc")["scale2d-lenet-lr=0.02,batch=64"]
    assert int(again["batch_size"]) == 64


def test_one_network_has_no_parameters():
    jobs = [job_of("lenet", 0), job_of("lenet", 1)]
    assert job_parameters.varied(jobs).fields == {}
    assert job_parameters.table(jobs, jobs) == ""


def test_names_of_data_and_models_are_parameters_too():
    varied = job_parameters.varied([job_of("lenet", 0), job_of("alexnet", 0)])
    assert varied.fields == {"model": "model.name"}
    assert [place["model"] for place in varied.places.values()] == ["lenet", "alexnet"]


def test_status_and_a_dry_run_show_the_parameters(tmp_path, capsys):
    (tmp_path / "sweep.py").write_text(
        "from tests.launch.test_collect import rates_and_batches\n"
        "def jobs(preset): return rates_and_batches()\n"
    )
    root = tmp_path / "a root"
    flags = [f"--sweep={tmp_path / 'sweep.py'}", f"--root={root}"]
    status.main(flags)
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["job", "learning_rate", "batch_size", *status.HEAD]
    assert first.split()[1] == "0.1"
    sweep.main([*flags, "--dry_run", "--parallel=1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "parameters of the jobs:"
    assert lines[5].split() == ["lr=0.02,batch=64", rates_and_batches()[3].name]
    commands = [shlex.split(line) for line in lines if "launch.run_job" in line]
    assert len(commands) == 4
    for command, job in zip(commands, rates_and_batches(), strict=True):
        assert read_spec(Path(command[-1])).name == job.name, "it can be run as it stands"
        assert "--parent" not in command, "the process that printed it is gone"


def test_finished_jobs_are_drawn_against_what_the_sweep_varies(tmp_path, capsys):
    (tmp_path / "sweep.py").write_text(
        "from tests.launch.test_collect import rates_and_batches\n"
        "def jobs(preset): return rates_and_batches()\n"
    )
    root, out = tmp_path / "root", tmp_path / "a.png"
    flags = [f"--sweep={tmp_path / 'sweep.py'}", f"--root={root}", f"--plot={out}"]
    with pytest.raises(SweepError, match=r"none of 4 jobs .* is finished: nothing to draw"):
        status.main(flags)
    whole = with_run(classifier_results.network("lenet", "scale2d", seeds=2))
    for job in rates_and_batches()[:3]:
        measured(root, job, whole)
    capsys.readouterr()
    status.main(flags)
    printed = capsys.readouterr().out
    assert printed.count("| 10.00% ± 0.50% | 0.") == 3
    assert out.read_bytes().startswith(b"\x89PNG")


def test_figures_take_the_file(tmp_path, capsys):
    for model in ("alexnet", "vgg11_bn"):
        measured(tmp_path, job_of(model, 0), with_run(classifier_results.network(model, "scale2d")))
    out = tmp_path / "fig6.nc"
    found = collected.collected([job_of("alexnet", 0), job_of("vgg11_bn", 0)], tmp_path)
    results.write(out, found.networks)
    text = items.make("fig6", [out], tmp_path / "fig6.png")
    assert text.count("drawn: ") == 2
    assert (tmp_path / "fig6.png").is_file()
