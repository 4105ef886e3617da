"""What a sweep varies and no training reads is refused before anything is submitted."""

import re

import pytest

from cnnpool.configs import cifar10, scale1d, scale2d
from cnnpool.launch import items, sweep, sweep_file, unread_parameters
from cnnpool.launch.jobs import Job, SweepError, with_fields

BASE = cifar10.get_config()
SWEEP = """
from cnnpool.configs import cifar10, scale1d
from cnnpool.launch.jobs import Job, with_fields

def jobs(preset):
    if preset == "logs":
        base = scale1d.get_config("quick")
        return [Job(with_fields(base, runtime__log_every=every)) for every in (10, 20, 30)]
    base = with_fields(cifar10.get_config("cpu"), training__optimizer="adam")
    return [Job(with_fields(base, training__momentum=m)) for m in (0.5, 0.9)]
"""


def _jobs(*fields):
    return [Job(with_fields(BASE, **one)) for one in fields]


@pytest.mark.parametrize(
    ("fields", "varied"),
    [
        ([{"model__alexnet_dropout": rate} for rate in (0.1, 0.5)], "model.alexnet_dropout"),
        (  # beside others that do read it
            [
                {"model__name": name, "model__alexnet_dropout": rate}
                for name in ("vgg11", "alexnet")
                for rate in (0.1, 0.5)
            ],
            "model.alexnet_dropout",
        ),
        (  # beside a field that is read
            [
                {"training__schedule": "constant", "training__cosine_period": x}
                | {"training__learning_rate": x}
                for x in (0.1, 0.5)
            ],
            "training.cosine_period",
        ),
    ],
)
def test_what_jobs_differ_in_and_do_not_read_is_refused_with_the_jobs(fields, varied):
    jobs = _jobs(*fields)
    with pytest.raises(SweepError) as refused:
        unread_parameters.check(jobs)
    text = str(refused.value)
    assert text.startswith(f"the sweep varies {varied} (0.1, 0.5), but it has no effect with ")
    blamed = {job.name for job in jobs if job.config.model.name != "alexnet"}
    assert {job.name for job in jobs if job.name in text} == blamed


def test_many_jobs_are_not_all_named():
    jobs = _jobs(*({"model__alexnet_dropout": 0.1 * n} for n in range(9)))
    with pytest.raises(SweepError, match=r", 6 more$"):
        unread_parameters.check(jobs)


@pytest.mark.parametrize(
    "fields",
    [
        [{"training__momentum": m} for m in (0.5, 0.9)],
        [{"training__optimizer": "adam", "training__momentum": 0.0}, {}],
        [{"model__name": name} for name in ("alexnet", "vgg11", "efficientnet_b0")],
    ],
)
def test_what_is_read_or_alike_is_not_refused(fields):
    unread_parameters.check(_jobs(*fields))


@pytest.mark.parametrize("preset", ["cpu", "paper"])
def test_no_item_of_the_paper_is_refused(preset):
    jobs = [job for item in items.TRAINED.values() for job in item.jobs(preset)]
    unread_parameters.check(jobs)
    assert unread_parameters.merged(jobs) is None


def test_data_sets_have_configs_of_their_own():
    fields = {"model__name": "lenet", "training__schedule": "constant"}
    periods = ((cifar10.get_config("paper"), 0.8), (scale2d.get_config("cpu"), 1.0))
    unread_parameters.check(
        [Job(with_fields(one, training__cosine_period=p, **fields)) for one, p in periods]
    )


@pytest.mark.parametrize("flags", [[], ["--dry_run"]])
def test_a_sweep_of_it_writes_nothing(tmp_path, flags):
    (tmp_path / "sweep.py").write_text(SWEEP)
    words = [f"--sweep={tmp_path}/sweep.py", f"--root={tmp_path}/jobs", *flags]
    with pytest.raises(SweepError, match=re.escape("varies training.momentum (0.5, 0.9)")):
        sweep.main(words)
    assert not (tmp_path / "jobs").exists()


def test_jobs_that_differ_in_what_changes_no_network_are_one_and_it_is_said(tmp_path, capsys):
    (tmp_path / "sweep.py").write_text(SWEEP)
    file = sweep_file.Path(tmp_path / "sweep.py")
    (job,) = sweep_file.load(file, "logs", seeds_per_job=None, data_dir=None)
    told = capsys.readouterr().err
    assert "differ only in runtime.log_every, which has no effect on networks" in told
    assert job.name in told
    assert job.config.runtime.log_every == 10, "the first value"
    assert unread_parameters.merged([Job(scale1d.get_config())] * 2) is None
