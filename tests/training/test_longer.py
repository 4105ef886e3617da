"""Runs that are given more epochs than they were started with."""

import jax
import numpy as np
import pytest

from cnnpool.runs import run_status
from cnnpool.runs.run_config import ConfigMismatchError
from cnnpool.training import fit
from tests import tiny_images


def networks(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.networks)]


def test_without_a_schedule_a_longer_run_is_the_one_of_as_many_epochs(
    tmp_path, monkeypatch, capsys
):
    tiny_images.install(monkeypatch)
    fields = {"training__schedule": "constant", "data__image_noise": 0.5}
    short = fit.train(tiny_images.config(**fields, training__epochs=2), tmp_path / "grown")
    assert short.finished
    capsys.readouterr()
    longer = tiny_images.config(**fields, training__epochs=5)
    grown = fit.train(longer, tmp_path / "grown")
    said = capsys.readouterr().err
    assert "2 of 2 epochs are done; 3 of 5 are left" in said
    assert "schedule" not in said
    whole = fit.train(longer, tmp_path / "whole")
    assert grown.epoch == 5
    assert grown.finished
    for a, b in zip(networks(grown), networks(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    tables = [(tmp_path / n / "metrics.csv").read_text().splitlines() for n in ("grown", "whole")]
    rows = [[line.rpartition(",")[0] for line in table] for table in tables]  # but for the speed
    assert rows[0] == rows[1]
    fit.train(longer, tmp_path / "grown")
    assert run_status.read(tmp_path / "grown").epoch == 5, "of a run that was finished already"


def test_what_a_longer_run_does_to_a_schedule_is_said(tmp_path, monkeypatch, capsys):
    tiny_images.install(monkeypatch)
    fit.train(tiny_images.config(training__epochs=2), tmp_path / "run")
    capsys.readouterr()
    state = fit.train(tiny_images.config(training__epochs=3), tmp_path / "run")
    assert state.epoch == 3
    assert "follows the cosine schedule of 3 epochs" in capsys.readouterr().err


def test_fewer_epochs_or_other_fields_too_are_another_run(tmp_path, monkeypatch):
    tiny_images.install(monkeypatch)
    fit.train(tiny_images.config(training__epochs=2), tmp_path / "run")
    for fields in ({"training__epochs": 1}, {"training__epochs": 3, "training__momentum": 0.5}):
        with pytest.raises(ConfigMismatchError, match=r"training\.epochs: 2 ->"):
            fit.train(tiny_images.config(**fields), tmp_path / "run")
