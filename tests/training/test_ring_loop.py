"""The training loop: resuming, refusing, and what it leaves behind."""

import csv
import itertools

import jax
import numpy as np
import pytest

from cnnpool.measuring import runs
from cnnpool.runs import lease, run_config
from cnnpool.training import fit
from cnnpool.training.checkpoints import (
    CheckpointError,
    CheckpointStore,
    RunState,
    checkpoint_directory,
)
from cnnpool.training.ring_recipe import RingRecipe
from cnnpool.training.stopping import RingProgress


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.networks)]


def rows(workdir):
    with (workdir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Stopped(Exception):
    """Stands for whatever ends a process."""


def stop_after_saves(monkeypatch, count):
    """Lets `count` checkpoints be written, then raises in the loop."""
    saves = itertools.count(1)
    original = CheckpointStore.save

    def save(self, state):
        original(self, state)
        if next(saves) == count:
            self.wait()
            raise Stopped

    monkeypatch.setattr(CheckpointStore, "save", save)


def test_a_run_trains_to_zero_loss_and_its_multiple(reference, tiny_config):
    for seed in reference.progress:
        assert seed.train_hinge == 0
        assert seed.stopped_epoch >= tiny_config.training.multiple * seed.interpolation_epoch
        assert seed.stopped_epoch < tiny_config.training.max_epochs
    assert reference.finished


def test_a_stopped_run_goes_on_bit_for_bit(reference, tiny_config, tmp_path, monkeypatch):
    for count in (2, 4):
        with monkeypatch.context() as patch:
            stop_after_saves(patch, count)
            with pytest.raises(Stopped):
                fit.train(tiny_config, tmp_path / "stopped")
    state = fit.train(tiny_config, tmp_path / "stopped")
    assert state.progress == reference.progress
    for a, b in zip(leaves(state), leaves(reference), strict=True):
        np.testing.assert_array_equal(a, b)
    assert rows(tmp_path / "stopped") == rows(tmp_path / "reference")


def test_a_finished_run_is_taken_as_it_is(reference, tiny_config, tmp_path):
    again = fit.train(tiny_config, tmp_path / "reference")
    assert again.progress == reference.progress
    assert again.seconds == reference.seconds


def test_another_config_is_refused_and_the_fields_named(reference, tiny_config, tmp_path):
    with tiny_config.unlocked():
        tiny_config.training.ridge = 0.02
        tiny_config.runtime.log_every = 7
    with pytest.raises(run_config.ConfigMismatchError, match=r"training.ridge: 0.01 -> 0.02\n"):
        fit.train(tiny_config, tmp_path / "reference")


def test_sections_that_change_no_parameter_may_differ(reference, tiny_config, tmp_path):
    with tiny_config.unlocked():
        tiny_config.runtime.log_every = 7
    fit.train(tiny_config, tmp_path / "reference")
    assert run_config.load(tmp_path / "reference").runtime.log_every == 7


def test_divergence_names_the_step_and_the_last_good_checkpoint(tiny_config, tmp_path):
    with tiny_config.unlocked():
        tiny_config.training.learning_rate_per_channel = 1e20
    with pytest.raises(
        fit.TrainingDivergedError,
        match=r"seed 0 diverged.*at step \d+.*last good checkpoint: epoch 0",
    ):
        fit.train(tiny_config, tmp_path)


def test_a_finite_loss_above_the_threshold_is_divergence_too(tiny_config, tmp_path):
    with tiny_config.unlocked():
        tiny_config.training.divergence = 1e-6
    with pytest.raises(fit.TrainingDivergedError, match="seed 0 diverged"):
        fit.train(tiny_config, tmp_path)


def test_two_writers_are_refused(tiny_config, tmp_path):
    with (
        lease.hold(tmp_path),
        pytest.raises(lease.WorkdirBusyError, match="another process is using"),
    ):
        fit.train(tiny_config, tmp_path)


@pytest.mark.usefixtures("failing_restores")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_latest_checkpoint_stops_the_resume_and_loses_nothing(
    reference, tiny_config, tmp_path
):
    folder = checkpoint_directory(tmp_path / "reference")
    latest = max(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    file = max(
        (p for p in (folder / str(latest)).rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_size,
    )
    file.write_bytes(file.read_bytes()[:10])
    before = sorted(folder.iterdir())
    with pytest.raises(CheckpointError, match=rf"{latest} is damaged.*latest good one is epoch"):
        fit.train(tiny_config, tmp_path / "reference")
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("training", "batch_size", 0, r"training\.batch_size"),
        ("training", "multiple", 0, r"training\.multiple"),
        ("runtime", "log_every", 0, r"runtime\.log_every"),
        ("model", "stride", 5, "multiple of the stride 5"),
    ],
)
def test_impossible_fields_are_refused_before_anything_is_written(
    tiny_config, tmp_path, section, field, value, message
):
    with tiny_config.unlocked():
        tiny_config[section][field] = value
    with pytest.raises(ValueError, match=message):
        fit.train(tiny_config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_checkpoints_without_their_config_are_not_taken_over(reference, tiny_config, tmp_path):
    run_config.config_path(tmp_path / "reference").unlink()
    with pytest.raises(run_config.ConfigMismatchError, match=r"checkpoints but no config\.json"):
        fit.train(tiny_config, tmp_path / "reference")


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_must_be_there_and_differ(tiny_config, tmp_path, seeds):
    with tiny_config.unlocked():
        tiny_config.seeds = seeds
    with pytest.raises(ValueError, match=r"config\.seeds must name at least one seed, each once"):
        fit.train(tiny_config, tmp_path / "new")


def test_blocks_end_at_checks_rows_and_kept_checkpoints(tiny_config):
    with tiny_config.unlocked():
        tiny_config.checkpoint.keep_epochs = (0, 137)
        tiny_config.runtime.log_every = 50
    recipe = RingRecipe(tiny_config)

    def stop(epoch, *progress):
        return recipe.next_stop(RunState(epoch, None, progress, 0.0)) / recipe.steps_per_epoch

    interpolated = RingProgress(0, interpolation_epoch=60)
    fresh = RingProgress(1)
    stopped = RingProgress(2, 30, 60)
    assert stop(40, interpolated, fresh) == 50
    assert stop(60, interpolated, stopped) == 100
    assert stop(110, interpolated) == 120
    assert stop(130, interpolated) == 137


def name_checkpoints_by_epochs(workdir):
    """Makes a working directory one of an earlier version."""
    folder = checkpoint_directory(workdir)
    note = folder / "steps_per_epoch"
    steps = int(note.read_text())
    for number in sorted(int(path.name) for path in folder.glob("[0-9]*")):
        (folder / str(number)).rename(folder / str(number // steps))
    note.unlink()


def test_a_finished_run_of_an_earlier_version_is_read(reference, tiny_config, tmp_path):
    workdir = tmp_path / "reference"
    before = {stage: runs.open(workdir).state(stage) for stage in ("init", "trained")}
    name_checkpoints_by_epochs(workdir)
    after = {stage: runs.open(workdir).state(stage) for stage in ("init", "trained")}
    again = fit.train(tiny_config, workdir)
    assert (again.epoch, again.progress) == (reference.epoch, reference.progress)
    for stage, state in before.items():
        assert (after[stage].epoch, after[stage].step) == (state.epoch, 0)
        for a, b in zip(leaves(after[stage]), leaves(state), strict=True):
            np.testing.assert_array_equal(a, b)
    with CheckpointStore(checkpoint_directory(workdir)) as store:
        store.delete_all_but([0, reference.epoch])
        assert store.epochs == [0, reference.epoch]


def test_training_does_not_go_on_from_checkpoints_of_an_earlier_version(
    tiny_config, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_after_saves(patch, 3)
        with pytest.raises(Stopped):
            fit.train(tiny_config, tmp_path)
    name_checkpoints_by_epochs(tmp_path)
    before = sorted(checkpoint_directory(tmp_path).iterdir())
    with pytest.raises(CheckpointError, match=r"named by epochs.*version in provenance\.json"):
        fit.train(tiny_config, tmp_path)
    assert sorted(checkpoint_directory(tmp_path).iterdir()) == before


@pytest.mark.parametrize("field", ["learning_rate_per_channel", "multiple"])
def test_a_config_without_a_field_is_refused_by_its_name(field, tiny_config, tmp_path):
    config = tiny_config.copy_and_resolve_references().unlock()
    del config.training[field]
    with pytest.raises(ValueError, match=f"needs a field that the config lacks: '{field}'"):
        fit.train(config.lock(), tmp_path / "run")


def test_an_error_of_the_program_is_not_taken_for_one_of_the_config(
    tiny_config, tmp_path, monkeypatch
):
    monkeypatch.setattr(fit, "_claim", lambda *_: object().field)
    with pytest.raises(AttributeError, match="no attribute 'field'"):
        fit.train(tiny_config, tmp_path / "run")
