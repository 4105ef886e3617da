"""Measurements of classifiers' runs, and the commands that measure and export them."""

import json
import shutil

import jax
import numpy as np
import pytest

from cnnpool import eval as eval_command
from cnnpool import export
from cnnpool.data.images import DataError, standardize
from cnnpool.files import results
from cnnpool.measuring import classifier_run, evaluation, runs
from cnnpool.runs import run_config
from cnnpool.training.checkpoints import CheckpointError, RunState
from cnnpool.training.classifier_progress import ClassifierProgress
from tests import classifier_runs


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    return classifier_runs.lenet(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    return classifier_runs.vgg(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def measured(vgg, tmp_path_factory):
    """All stages of the VGGs, in a file."""
    out = tmp_path_factory.mktemp("measured") / "a.nc"
    evaluation.evaluate(
        vgg[0],
        out,
        stages=("init", "1", "trained", "last"),
        transforms=("none",),
        settings=classifier_runs.MEASUREMENT,
        data_dir=classifier_runs.moved_data(vgg[0]),
    )
    return out, results.read(out)


def test_errors_are_those_of_the_training_under_its_own_noise(measured, vgg):
    dataset, progress = measured[1], vgg[1].progress
    assert [one.best_epoch for one in progress] == [1, 1]
    assert progress[0].best_error != progress[0].test_error
    for stage, field in (("trained", "best_error"), ("1", "best_error"), ("last", "test_error")):
        expected = [np.float32(getattr(one, field)) for one in progress]
        np.testing.assert_array_equal(dataset["test_error"].sel(stage=stage), expected)
    # Another program than the training's: other fusions, so other rounding.
    losses = [one.test_loss for one in progress]
    np.testing.assert_allclose(dataset["test_loss"].sel(stage="last"), losses, rtol=1e-5)


def test_without_image_noise_errors_too_are_of_clean_images(measured, vgg, tmp_path):
    clean = evaluation.evaluate(
        vgg[0],
        tmp_path / "clean.nc",
        stages=("last",),
        transforms=("none",),
        settings=classifier_runs.MEASUREMENT | {"image_noise": False},
        data_dir=classifier_runs.moved_data(vgg[0]),
    )
    config = run_config.load(vgg[0], data_dir=classifier_runs.moved_data(vgg[0]))
    training = classifier_run.open_training(config)
    test, mean, std = training.data.test, training.data.mean, training.data.std
    images = standardize(test.images, mean, std)

    @jax.jit
    def error(network):
        logits, _ = training.recipe.model.apply(network._asdict(), images, train=False)
        return (logits.argmax(-1) != test.labels).mean()

    networks = vgg[1].networks.current
    expected = [error(jax.tree.map(lambda leaf, n=row: leaf[n], networks)) for row in range(2)]
    np.testing.assert_allclose(clean["test_error"].sel(stage="last"), expected)
    noisy = measured[1]["test_loss"].sel(stage="last")
    assert (abs(clean["test_loss"].sel(stage="last") / noisy - 1) > 1e-3).all()


def test_another_epoch_s_noise_gives_other_losses(vgg):
    config = run_config.load(vgg[0], data_dir=classifier_runs.moved_data(vgg[0]))
    training = classifier_run.open_training(config)
    evaluate, current = classifier_run.evaluator(training), vgg[1].networks.current
    losses = [[float(one.loss) for one in evaluate(current, [n, 2])] for n in (0, 1, 2)]
    assert losses[0] == losses[1]  # before the first epoch: the first test's noise
    assert abs(losses[1][0] / losses[2][0] - 1) > 1e-3
    assert losses[1][1] == losses[2][1]


def test_coordinates_and_what_travels_with_the_numbers(measured, vgg):
    dataset = measured[1]
    assert dataset["test_error"].dims == dataset["test_loss"].dims == ("seed", "stage")
    assert list(dataset["seed"].values) == [0, 3]
    assert list(dataset["stage"].values) == ["init", "1", "trained", "last"]
    np.testing.assert_array_equal(dataset["epoch"], [0, 1, 2, 2])
    np.testing.assert_array_equal(dataset["best_epoch"], [[np.nan, 1, 1, 1]] * 2)
    assert dataset["dead_epoch"].isnull().all()
    assert float(dataset["training_seconds"].sel(stage="last")) == vgg[1].seconds
    assert json.loads(dataset.attrs["config"])["model"]["width_factor"] == 0.05
    assert json.loads(dataset.attrs["trained_by"])[0]["commit"]
    assert str(vgg[0].parent) not in str(dataset.attrs)  # no place of this machine


def test_the_same_measurement_is_taken_and_another_refused(measured, vgg):
    out, before = measured[0], measured[0].stat().st_mtime_ns
    asked = {
        "stages": ("init", "1", "trained", "last"),
        "transforms": ("none",),
        "settings": classifier_runs.MEASUREMENT,
    }
    # The data is not read again: this run's stored data_dir is gone.
    again = evaluation.evaluate(vgg[0], out, **asked)
    assert again.identical(measured[1])
    with pytest.raises(FileExistsError, match="with another measurement"):
        evaluation.evaluate(vgg[0], out, stages=("last",), transforms=("none",))
    assert out.stat().st_mtime_ns == before


def test_data_that_is_gone_is_an_error_that_names_the_flag(vgg, tmp_path):
    with pytest.raises(DataError, match=r"data\.data_dir is .*; --data_dir names another"):
        evaluation.evaluate(vgg[0], tmp_path / "a.nc", stages=("trained",), transforms=("none",))
    assert list(tmp_path.iterdir()) == []


def test_impossible_settings_are_refused(lenet, tmp_path):
    for settings, message in (
        ({"images": 1}, "--images must be at least 2, got 1"),
        ({"shuffles": 0}, "--shuffles must be at least 1"),
        ({"deltas": (1.0, 1.0)}, "--deltas must be different numbers"),
        ({"deltas": (0.0, 1.0)}, "--deltas must be displacements over 0 pixels"),
        ({"deltas": (float("nan"),)}, "--deltas must be displacements over 0 pixels"),
        ({"cutoffs": (1,)}, "--cutoffs must be 2 or more"),
        ({"images": 65}, r"--images=65 \(P\) is more than the 64 test images"),
        ({"images": 24, "deltas": (2.0,)}, "moves of its active pixels: leave out --deltas"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation.evaluate(
                lenet[0],
                tmp_path / "a.nc",
                stages=("trained",),
                transforms=("none",),
                settings=settings,
            )


def test_networks_are_measured_on_their_own_data_alone(vgg, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    classifier_runs.save_arrays(other)
    np.save(other / "images.npy", 255 - np.load(other / "images.npy"))
    with pytest.raises(run_config.ConfigMismatchError, match="was started on other data"):
        evaluation.evaluate(
            vgg[0],
            tmp_path / "a.nc",
            stages=("trained",),
            transforms=("none",),
            settings=classifier_runs.MEASUREMENT,
            data_dir=str(other),
        )


def test_an_unknown_transform_is_refused_with_the_known_ones(lenet, tmp_path):
    with pytest.raises(ValueError, match=r"did you mean 'channel_shuffle'"):
        evaluation.evaluate(
            lenet[0],
            tmp_path / "a.nc",
            stages=("trained",),
            transforms=("chanel_shuffle",),
            settings=classifier_runs.MEASUREMENT,
        )


def test_without_shuffled_networks_there_is_no_budget(measured):
    assert "spatial_share" not in measured[1]


def test_dead_is_what_was_dead_at_the_stage():
    progress = [
        ClassifierProgress(0, 9, best_epoch=3, best_error=0.1, dead_epoch=5),
        ClassifierProgress(1, 9, best_epoch=6, best_error=0.1, dead_epoch=5),
        ClassifierProgress(2, 9, best_epoch=6, best_error=0.1),
    ]
    state = RunState(9, None, tuple(progress), 0.0)
    assert classifier_run.network_dead_epochs(state, "trained") == [None, 5, None]
    assert classifier_run.network_dead_epochs(state, "last") == [5, 5, None]


def test_drawn_data_has_no_folder(lenet, tmp_path):
    with pytest.raises(ValueError, match="scale2d, whose images are generated"):
        evaluation.evaluate(
            lenet[0], tmp_path / "a", stages=("last",), transforms=("none",), data_dir="x"
        )


def test_the_command_prints_layers_errors_and_budget(lenet, tmp_path, capsys):
    out = tmp_path / "a.nc"
    eval_command.main(
        [
            f"--workdir={lenet[0]}",
            "--stage=init,trained",
            "--transforms=none,channel_shuffle",
            "--shuffles=2",
            "--images=24",
            f"--out={out}",
        ]
    )
    text = capsys.readouterr().out
    assert text.count("linear05") == 4, "a table a stage and transform"
    assert "conv01" not in text, "one unit a layer"
    assert f"{lenet[1].progress[1].best_error:.2%}" in text
    rows = [line.split()[:2] for line in text.splitlines()]
    assert rows.count(["trained", "1"]) == 2, "a line of errors and one of the budget"
    dataset = results.read(out)
    assert "delta" not in dataset.dims, "the data's own diffeomorphism has no delta"
    assert dataset["R"].dims == ("seed", "stage", "transform", "shuffle", "layer")
    plain, shuffled = (dataset["R"].sel(transform=t) for t in ("none", "channel_shuffle"))
    assert plain.sel(shuffle=1).isnull().all(), "there is one network without a shuffle"
    np.testing.assert_array_equal(*(shuffled.sel(layer="relu01", shuffle=n) for n in (0, 1)))
    assert (shuffled.sel(layer="conv02").diff("shuffle") != 0).all()
    np.testing.assert_array_equal(
        plain.sel(layer="relu01", shuffle=0), shuffled.sel(layer="relu01", shuffle=0)
    )
    export.main([str(out), "--to=npz"])
    assert np.load(tmp_path / "a.npz")["D"].shape == dataset["D"].shape


def test_an_unfinished_run_is_neither_trained_nor_last(lenet, tmp_path):
    workdir = shutil.copytree(lenet[0], tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "4")  # of two steps per epoch
    run = runs.open(workdir)
    for stage in ("trained", "last"):
        with pytest.raises(CheckpointError, match=r"seeds \[0, 1\] are not trained to the end"):
            run.networks(stage)
    with pytest.raises(CheckpointError, match=r"stage '7' is epoch 7, and .* has \[0, 1\]"):
        run.networks("7")


def test_networks_are_exported_with_batch_statistics(vgg, tmp_path):
    out = tmp_path / "p.npz"
    data_dir = f"--data_dir={classifier_runs.moved_data(vgg[0])}"
    export.main([f"--workdir={vgg[0]}", "--to=npz", f"--out={out}", data_dir])
    arrays, best = np.load(out), vgg[1].networks.best
    np.testing.assert_array_equal(arrays["seed3/conv02/kernel"], best.params["conv02"]["kernel"][1])
    np.testing.assert_array_equal(arrays["seed0/bn01/mean"], best.batch_stats["bn01"]["mean"][0])
    assert not np.array_equal(
        arrays["seed0/bn01/mean"], vgg[1].networks.current.batch_stats["bn01"]["mean"][0]
    )
    assert len(arrays.files) == 2 * len(jax.tree.leaves(best))


def test_where_data_lies_defines_no_run(vgg, tmp_path):
    stored = run_config.load(vgg[0])
    elsewhere = run_config.with_data_dir(stored, "elsewhere")
    assert run_config.defining_fields(stored) == run_config.defining_fields(elsewhere)
    assert "image_noise" in run_config.defining_fields(stored)["data"]
    assert stored.data.data_dir != "elsewhere"
    run_config.claim(tmp_path, stored, has_checkpoints=False)
    run_config.claim(tmp_path, elsewhere, has_checkpoints=True)


def test_last_of_a_1d_run_is_trained(trained_once):
    run = runs.open(trained_once[0])
    assert run.state("last").epoch == run.state("trained").epoch == trained_once[1].epoch
