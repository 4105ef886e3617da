"""Signals that stop a run: saved in seconds, gone on with bit for bit, and said in its status."""

import os
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from cnnpool.errors import EXIT_PREEMPTED, CnnpoolError, PreemptedError
from cnnpool.runs import run_status
from cnnpool.runs.running import running
from cnnpool.training import fit
from cnnpool.training.classifier_recipe import ClassifierRecipe
from tests import tiny_images
from tests.paths import ROOT
from tests.training.test_classifier_resume import assert_same_run


def stop_at_call(monkeypatch, number, kind=signal.SIGTERM):
    """Sends this process a signal during the call of that number; earlier ones are counted."""
    from cnnpool.runs.running import Running

    original, seen = Running.call, []

    def call(self, function, *arguments):
        seen.append(function)
        if len(seen) != number:
            return original(self, function, *arguments)

        def interrupted(*arguments):
            os.kill(os.getpid(), kind)
            time.sleep(0.2)
            return function(*arguments)

        return original(self, interrupted, *arguments)

    monkeypatch.setattr(Running, "call", call)
    return seen


def checkpoints(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit())


def test_a_signal_inside_of_an_epoch_is_bit_identical(tmp_path, monkeypatch):
    """Four steps an epoch, three a call: calls are state, 3 steps, 1, evaluation, ..."""
    tiny_images.install(monkeypatch)
    config = tiny_images.config(data__image_noise=0.5, checkpoint__every_seconds=1e9)
    places = tmp_path / "stopped", tmp_path / "whole"
    whole = fit.train(config, places[1])
    stopped_at = []
    # the second call of an epoch; its evaluation, when that call is made again; the second call of
    # the next epoch
    for number in (3, 3, 5):
        with monkeypatch.context() as patch:
            stop_at_call(patch, number)
            with pytest.raises(PreemptedError, match="SIGTERM"):
                fit.train(config, places[0])
        stopped_at.append(max(checkpoints(places[0])))
        assert run_status.read(places[0]).state == run_status.PREEMPTED
    assert stopped_at == [3, 3, 7]
    resumed = fit.train(config, places[0])
    assert_same_run(resumed, whole, places)
    assert run_status.read(places[0]).state == run_status.FINISHED


def test_ctrl_c_saves_and_the_same_command_goes_on_from_there(tmp_path, monkeypatch, capsys):
    tiny_images.install(monkeypatch)
    config = tiny_images.config(checkpoint__every_seconds=1e9)
    whole = fit.train(config, tmp_path / "whole")
    stopped = tmp_path / "stopped"
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        stop_at_call(patch, 4, signal.SIGINT)  # the evaluation: three steps and one are done
        with pytest.raises(PreemptedError, match="stopped by Ctrl-C; run the same command again"):
            fit.train(config, stopped)
    assert signal.getsignal(signal.SIGINT) is before
    assert run_status.read(stopped).state == run_status.PREEMPTED
    capsys.readouterr()
    resumed = fit.train(config, stopped)
    assert "going on from epoch 0, step 3 of the next" in capsys.readouterr().err
    assert_same_run(resumed, whole, (stopped, tmp_path / "whole"))


def test_parts_of_an_epoch_are_saved_when_that_is_due(tmp_path, monkeypatch):
    """What SIGKILL loses is one interval of checkpoints, however long an epoch is."""
    tiny_images.install(monkeypatch)
    config = tiny_images.config(checkpoint__every_seconds=0.0, checkpoint__keep_epochs=())
    whole = fit.train(config, tmp_path / "whole")
    stopped = tmp_path / "stopped"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierRecipe, "observe", stop)
        with pytest.raises(KeyboardInterrupt):
            fit.train(config, stopped)
    assert checkpoints(stopped) == [0, 3]
    resumed = fit.train(config, stopped)
    assert_same_run(resumed, whole, (stopped, tmp_path / "whole"))


def test_a_signal_to_a_simple_cnn_is_bit_identical(reference, tiny_config, tmp_path, monkeypatch):
    tiny_config = tiny_config.copy_and_resolve_references()
    tiny_config.checkpoint.every_seconds = 1e9
    stopped = tmp_path / "stopped"
    for number in (1, 4, 2):
        with monkeypatch.context() as patch:
            stop_at_call(patch, number, signal.SIGUSR1)
            with pytest.raises(PreemptedError, match="SIGUSR1"):
                fit.train(tiny_config, stopped)
    state = fit.train(tiny_config, stopped)
    assert state.progress == reference.progress
    leaves = [jax.tree.leaves(one.networks) for one in (state, reference)]
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)
    tables = [(tmp_path / name / "metrics.csv").read_text() for name in ("stopped", "reference")]
    assert tables[0] == tables[1]


def test_what_computes_is_left_at_once(tmp_path):
    began = time.monotonic()
    alarm = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    with running(tmp_path) as process:
        alarm.start()
        with pytest.raises(PreemptedError):
            process.call(time.sleep, 30)
    assert time.monotonic() - began < 5


def test_errors_of_a_call_arrive_where_it_was_made_and_in_the_status(tmp_path):
    def fail():
        raise CnnpoolError("the disk is full\nfree some")

    with pytest.raises(CnnpoolError, match="disk is full"), running(tmp_path) as process:
        process.call(fail)
    status = run_status.read(tmp_path)
    assert (status.state, status.error) == (run_status.FAILED, "the disk is full")
    with pytest.raises(KeyError), running(tmp_path) as process:
        process.call({}.__getitem__, "x")
    assert run_status.read(tmp_path).error == "KeyError: 'x'"


def test_the_status_tells_how_long_it_will_take(tmp_path, monkeypatch):
    monkeypatch.setattr(run_status, "LEAST_SECONDS", 0.0)
    with running(tmp_path) as process:
        for epoch in (9, 10):
            process.report("training", epoch, 100)
            assert run_status.read(tmp_path).eta_seconds is None, "it may have compiled"
        time.sleep(0.1)
        process.report("training", 20, 100)
        status = run_status.read(tmp_path)
        assert (status.epoch, status.epochs, status.pid) == (20, 100, os.getpid())
        assert 0.8 <= status.eta_seconds < 8, "eight times the 0.1 s that a tenth took"


def test_the_last_status_has_the_last_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(run_status, "LEAST_SECONDS", 1e9)
    with running(tmp_path) as process:
        for epoch in (1, 2, 3):
            process.report("training", epoch, 3)
        assert run_status.read(tmp_path).epoch is None, "written too short a time ago"
        process.report("measuring")
        assert (run_status.read(tmp_path).epoch, run_status.read(tmp_path).epochs) == (3, 3)
    assert run_status.read(tmp_path).epoch == 3


def test_a_damaged_status_is_none(tmp_path):
    for text in ("", "{", "[]", '{"state": "running", "more": 1}', '{"state": "sleeping"}'):
        run_status.path_of(tmp_path).write_text(text)
        assert run_status.read(tmp_path) is None


@pytest.mark.slow
def test_the_command_saves_in_seconds_and_says_75(tmp_path):
    """VGG11-bn, whose step takes a good part of a second, is stopped inside of an epoch."""
    command = [
        sys.executable,
        "-m",
        "cnnpool.train",
        "--config=configs/scale2d.py",
        "--config.model.name=vgg11_bn",
        "--config.data.test_size=64",
        "--config.runtime.steps_per_call=1",
        "--config.runtime.tensorboard=False",
        f"--workdir={tmp_path}",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (tmp_path / "checkpoints" / "0").exists():
        assert process.poll() is None, process.stderr.read()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(3.0)  # it compiles or steps
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_PREEMPTED
    assert "stopped by SIGTERM; run the same command again" in err
    assert time.monotonic() - began < 5
    assert checkpoints(tmp_path)
    assert run_status.read(tmp_path).state == run_status.PREEMPTED
