"""A classifier's training that was stopped ends bit for bit like one that was not."""

import csv
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from cnnpool.configs import cifar10, scale2d
from cnnpool.training import fit
from cnnpool.training.checkpoints import STEPS_PER_EPOCH, CheckpointStore
from cnnpool.training.classifier_progress import ClassifierProgress
from cnnpool.training.classifier_setup import setup
from tests import tiny_images
from tests.paths import ROOT


def table(workdir):
    """The log, without how fast it went."""
    with (workdir / "metrics.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if k != "images_per_second"}
            for row in csv.DictReader(file)
        ]


def assert_same_run(found, expected, places):
    assert found.progress == expected.progress
    assert found.epoch == expected.epoch
    leaves = [jax.tree.leaves_with_path(state.networks) for state in (found, expected)]
    for (path, a), (_, b) in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
    assert table(places[0]) == table(places[1])


class Stopped(Exception):
    """Stands for whatever ends a process."""


def stop_before_saving(patch, epoch):
    """Raises when an epoch is in the log and not yet in a checkpoint."""
    original = fit._save

    def stopping(store, log, state):
        if (state.epoch, state.step) == (epoch, 0):
            raise Stopped
        original(store, log, state)

    patch.setattr(fit, "_save", stopping)


def test_a_stopped_run_is_bit_identical(tmp_path, monkeypatch):
    """Crops, dropout, batch norm, image noise, momentum and a cosine; two networks."""
    tiny_images.install(monkeypatch)
    config = tiny_images.config(data__image_noise=0.5)
    places = tmp_path / "stopped", tmp_path / "whole"
    whole = fit.train(config, places[1])
    with monkeypatch.context() as patch:
        stop_before_saving(patch, epoch=2)
        with pytest.raises(Stopped):
            fit.train(config, places[0])
    assert complete(places[0]) == [0, 4, 7], "of four steps per epoch, three per call"
    assert table(places[0]) == table(places[1])[:4]
    resumed = fit.train(config, places[0])
    assert_same_run(resumed, whole, places)
    for name in ("current", "optimizer", "best"):
        assert jax.tree.leaves(getattr(whole.networks, name))


def start(arguments, workdir):
    command = [sys.executable, "-m", "cnnpool.train", *arguments, f"--workdir={workdir}"]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(arguments, workdir):
    process = start(arguments, workdir)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-2000:]
    return out


def complete(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit())


def reached(workdir):
    """The epochs that are done in the latest checkpoint."""
    steps = max(complete(workdir), default=0)
    return steps // int((workdir / "checkpoints" / STEPS_PER_EPOCH).read_text()) if steps else 0


def kill_after_epoch(arguments, workdir, epoch):
    process = start(arguments, workdir)
    deadline = time.monotonic() + 600
    while reached(workdir) < epoch:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the moment to kill never came: {process.communicate()[1][-2000:]}")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()


def final_state(workdir, config):
    like = setup(config, n_devices=1).state_shapes()
    with CheckpointStore(
        workdir / "checkpoints", read_only=True, progress_type=ClassifierProgress
    ) as store:
        return store.restore_latest(lambda: like, seeds=config.seeds)


def check_killed_run(tmp_path, file, config, fields, *, epochs):
    """Trains once whole, once with kills after some epochs, and compares all there is."""
    arguments = [f"--config={file}", *(f"--config.{k}={v}" for k, v in fields.items())]
    with config.unlocked():
        for name, value in fields.items():
            *sections, field = name.split(".")
            section = config
            for part in sections:
                section = section[part]
            section[field] = (0, 1) if field == "seeds" else value
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = finish(arguments, whole)
    for epoch in epochs:
        kill_after_epoch(arguments, killed, epoch)
        assert epoch <= reached(killed) < config.training.epochs
    assert finish(arguments, killed) == expected
    states = [final_state(place, config) for place in (killed, whole)]
    assert_same_run(*states, (killed, whole))


FIELDS = {
    "seeds": "(0,1)",
    "model.width_factor": 0.05,
    "training.epochs": 40,
    "training.batch_size": 32,
    "checkpoint.every_seconds": 0.0,
}


@pytest.mark.slow
def test_killed_with_batch_normalization(tmp_path):
    fields = FIELDS | {"model.name": "vgg11_bn", "data.train_size": 64, "data.test_size": 64}
    config = scale2d.get_config()
    check_killed_run(tmp_path, "configs/scale2d.py", config, fields, epochs=(2, 6))


@pytest.mark.slow
def test_killed_with_crops_and_dropout(tmp_path, cifar10_dir):
    fields = FIELDS | {"model.name": "alexnet", "data.train_size": 256, "data.test_size": 100}
    fields["data.data_dir"] = str(cifar10_dir)
    config = cifar10.get_config("paper")
    check_killed_run(tmp_path, "configs/cifar10.py:paper", config, fields, epochs=(2, 6))
