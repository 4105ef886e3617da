"""What a sweep has measured, in one file that figures take; what is missing, by name."""

import json

import numpy as np
import pytest

from cnnpool import results
from cnnpool.figures import __main__ as figures
from configs import scale2d
from launch import collect
from launch.jobs import Job, SweepError, with_fields
from tests import deep_results


def measured(root, job, dataset):
    """Puts the result of a job into its folder."""
    dataset = dataset.copy()
    dataset.attrs["config"] = json.dumps(
        json.loads(dataset.attrs["config"]) | {"seeds": list(job.config.seeds)}
    )
    results.write(root / job.name / job.measurements[0].file, dataset)


def job_of(model, *seeds):
    return Job(with_fields(scale2d.get_config(), model__name=model, seeds=seeds))


def with_run(dataset):
    """Fields that every measurement of a run has."""
    stages = dataset.sizes["stage"]
    epochs = dataset["epoch"] if "epoch" in dataset else ("stage", np.arange(stages))
    return dataset.assign(training_seconds=("stage", np.full(stages, 2.0)), epoch=epochs)


def test_seeds_that_were_trained_apart_are_one_network_again(tmp_path):
    whole = with_run(deep_results.network("lenet", "scale2d"))
    seeds = [int(seed) for seed in whole["seed"].values]
    parts = [job_of("lenet", seed) for seed in seeds]
    for job, seed in reversed(list(zip(parts, seeds, strict=True))):
        measured(tmp_path, job, whole.sel(seed=[seed]))
    missing = job_of("alexnet", 0)
    networks, absent = collect.collected([*reversed(parts), missing], tmp_path)
    assert absent == [missing.name]
    (found,) = networks.values()
    assert json.loads(found.attrs["config"])["seeds"] == seeds
    assert len(json.loads(found.attrs["parts"])) == len(seeds)
    np.testing.assert_array_equal(found["training_seconds"], 2.0 * len(seeds))
    for name in whole.data_vars:
        if name != "training_seconds":
            assert found[name].dims == whole[name].dims
            np.testing.assert_array_equal(found[name], whole[name], err_msg=name)


def test_parts_that_differ_in_more_than_seeds_are_refused(tmp_path):
    whole = with_run(deep_results.network("lenet", "scale2d"))
    parts = [whole.isel(seed=[0]), whole.isel(seed=[1]).isel(layer=slice(1, None))]
    with pytest.raises(SweepError, match="do not fit"):
        collect.one_network(parts, "lenet")


def test_figures_take_the_file(tmp_path, capsys):
    for model in ("alexnet", "vgg11_bn"):
        measured(tmp_path, job_of(model, 0), with_run(deep_results.network(model, "scale2d")))
    out = tmp_path / "fig6.nc"
    networks, _ = collect.collected([job_of("alexnet", 0), job_of("vgg11_bn", 0)], tmp_path)
    results.write(out, networks)
    text = figures.make("fig6", [out], tmp_path / "fig6.png")
    assert text.count("drawn: ") == 2
    assert (tmp_path / "fig6.png").is_file()
