"""The training loop with classifiers: what it leaves behind, and what it refuses."""

import csv
import json
import struct

import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from cnnpool.configs import arrays as arrays_config
from cnnpool.devices import progress_bar
from cnnpool.runs import run_config
from cnnpool.runs.lease import WorkdirBusyError, hold
from cnnpool.runs.running import Running
from cnnpool.training import classifier_setup, fit, optimizer
from cnnpool.training.checkpoints import CheckpointStore
from cnnpool.training.classifier_progress import ClassifierProgress
from cnnpool.training.classifier_recipe import ClassifierRecipe
from cnnpool.training.classifier_step import Evaluation
from cnnpool.training.fit import TrainingDivergedError
from tests import tiny_images

EPOCHS, STEPS = 3, 4


@pytest.fixture(autouse=True)
def tiny_world(monkeypatch):
    tiny_images.install(monkeypatch)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two networks."""
    workdir = tmp_path_factory.mktemp("loop") / "run"
    with pytest.MonkeyPatch.context() as patch:
        tiny_images.install(patch)
        state = fit.train(tiny_images.config(checkpoint__keep_epochs=(0, 1)), workdir)
    return workdir, state


def rows(workdir):
    with (workdir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def checkpoints(workdir):
    places = (workdir / "checkpoints").iterdir()
    return sorted(int(place.name) for place in places if place.name.isdigit())


def scalars(workdir):
    """{(tag, step): value} of all TensorBoard events; a record is length, crc, bytes, crc."""
    found = {}
    for path in (workdir / "tensorboard").iterdir():
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + size])
            found |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
            at += 16 + size
    return found


def test_one_row_per_network_and_epoch(run):
    table = rows(run[0])
    assert list(table[0]) == ["epoch", "seed", *ClassifierRecipe.COLUMNS]
    assert [(int(r["epoch"]), int(r["seed"])) for r in table] == [
        (epoch, seed) for epoch in (1, 2, 3) for seed in (0, 1)
    ]
    for row in table:
        assert 0 <= float(row["train_error"]) <= 1
        assert float(row["train_loss"]) > 0
        assert float(row["images_per_second"]) > 0
    assert table[0]["train_loss"] != table[1]["train_loss"]


def test_the_rate_in_the_log_is_the_one_of_the_epochs_steps(run):
    training = tiny_images.config().training
    for row in rows(run[0]):
        step = (int(row["epoch"]) - 1) * STEPS
        expected = float(optimizer.learning_rate(training, step, steps_per_epoch=STEPS))
        assert float(row["learning_rate"]) == expected


def test_networks_learn_and_the_log_is_of_the_networks_that_are_left(run):
    state = run[1]
    training = classifier_setup.setup(tiny_images.config())
    evaluate = training.compile(
        lambda one, keys, test: (
            training.recipe.evaluate(one.current, keys.test, test),
            training.recipe.evaluate(one.best, keys.test, test),
        ),
        stacked=2,
        shared=1,
    )
    last, best = jax.device_get(evaluate(state.networks, training.keys, training.test))
    for row, progress in enumerate(state.progress):
        # The same network in another program: rounding of outputs of about one.
        np.testing.assert_allclose(last.loss[row], progress.test_loss, rtol=1e-5)
        assert last.error[row] == np.float32(progress.test_error)
        assert best.error[row] == np.float32(progress.best_error)
        assert progress.best_error < 0.5 < 2 / 3  # brightness tells; a guess is wrong for 2 of 3


def test_rows_are_on_disk_before_a_save_within_an_epoch(tmp_path, monkeypatch):
    """Else a process that is killed then goes on behind rows that nobody has."""
    found = []
    write, save_it = CheckpointStore.save, fit._save

    def watched(self, state):
        if state.step:
            epochs = {int(row["epoch"]) for row in rows(tmp_path / "run")}
            events = {step for _, step in scalars(tmp_path / "run")}
            found.append((state.epoch, epochs, events))
        return write(self, state)

    def within(store, log, state):
        """Saves at the end of no epoch, so that no other save writes the rows."""
        if state.step:
            save_it(store, log, state)

    monkeypatch.setattr(CheckpointStore, "save", watched)
    monkeypatch.setattr(fit, "_save", within)
    config = tiny_images.config(checkpoint__every_seconds=0.0, runtime__steps_per_call=1)
    fit.train(config, tmp_path / "run")
    assert {epoch for epoch, *_ in found} == set(range(EPOCHS))
    for epoch, in_table, in_events in found:
        assert in_table == in_events == set(range(1, epoch + 1))


def test_bar_and_status_tell_of_the_epoch_that_they_name(tmp_path, monkeypatch, capsys):
    told = []
    report = Running.report

    def watched(self, task, epoch=None, epochs=None):
        told.append(epoch)
        report(self, task, epoch, epochs)

    monkeypatch.setattr(Running, "report", watched)
    monkeypatch.setattr(progress_bar, "LOG_SECONDS", 0.0)
    state = fit.train(tiny_images.config(), tmp_path / "run")
    assert [epoch for epoch in dict.fromkeys(told) if epoch is not None] == [0, 1, 2, 3]
    error = np.mean([one.test_error for one in state.progress])
    last = capsys.readouterr().err.split("\r")[-1]
    assert f"test error {error:.2%} after epoch {EPOCHS}" in last


def test_progress_agrees_with_the_log(run):
    workdir, state = run
    assert state.finished
    for progress in state.progress:
        mine = [row for row in rows(workdir) if int(row["seed"]) == progress.seed]
        errors = [float(row["test_error"]) for row in mine]
        assert progress.best_error == min(errors)
        assert progress.best_epoch == 1 + errors.index(min(errors))
        assert progress.stopped_epoch == EPOCHS
        assert (progress.test_error, progress.test_loss) == (
            errors[-1],
            float(mine[-1]["test_loss"]),
        )
        assert progress.dead_epoch is None
    np.testing.assert_array_equal(
        state.networks.best_error, np.float32([p.best_error for p in state.progress])
    )


def test_the_config_and_the_checkpoints_that_are_to_be_kept(run):
    workdir, state = run
    stored = json.loads((workdir / "config.json").read_text())
    assert stored["training"]["learning_rate"] == tiny_images.config().training.learning_rate
    assert checkpoints(workdir) == [0, STEPS, 3 * STEPS - 1, 3 * STEPS]
    assert state.seconds > 0


def test_tensorboard_holds_the_log(run):
    found = scalars(run[0])
    expected = {
        (f"{name}/seed{row['seed']}", int(row["epoch"])): np.float32(row[name])
        for row in rows(run[0])
        for name in ClassifierRecipe.COLUMNS
    }
    assert found == expected


def test_a_finished_run_is_taken_as_it_is(run, monkeypatch):
    workdir, state = run
    before = (workdir / "metrics.csv").read_bytes()
    monkeypatch.setattr(fit, "_run", None)
    again = fit.train(tiny_images.config(checkpoint__keep_epochs=(0, 1)), workdir)
    assert (again.progress, again.seconds) == (state.progress, state.seconds)
    assert (workdir / "metrics.csv").read_bytes() == before


TOO_LARGE = {"model__name": "flat", "training__learning_rate": 1e38}


def test_a_rate_that_is_far_too_large_names_step_epoch_and_last_good_checkpoint(tmp_path):
    config = tiny_images.config(runtime__tensorboard=False, **TOO_LARGE)
    message = (
        r"seed 0 diverged: the loss is not finite at step 1 \(epoch 0\); last good checkpoint: "
        rf"epoch 0 in {tmp_path}/checkpoints\..*smaller training\.learning_rate"
    )
    with pytest.raises(TrainingDivergedError, match=message):
        fit.train(config, tmp_path)
    assert checkpoints(tmp_path) == [0]
    assert rows(tmp_path) == []
    assert not (tmp_path / "tensorboard").exists()


def test_a_network_that_diverges_in_the_last_step_of_an_epoch_is_not_kept(tmp_path):
    config = tiny_images.config(training__batch_size=tiny_images.TRAIN, **TOO_LARGE)
    message = r"seed 0 diverged: .*after step 0 \(epoch 0\); last good checkpoint: epoch 0"
    with pytest.raises(TrainingDivergedError, match=message):
        fit.train(config, tmp_path)
    assert checkpoints(tmp_path) == [0]
    assert rows(tmp_path) == []


def test_only_the_network_that_diverged_is_named(monkeypatch, tmp_path):
    """Network 7's first loss of epoch 1 is made to be not finite."""
    original = classifier_setup.ClassifierTraining.compile

    def compiled(self, function, *, stacked, shared):
        steps = original(self, function, stacked=stacked, shared=shared)
        if getattr(function, "__name__", "") != "steps":
            return steps

        def broken(state, keys, train, epoch, start, stop):
            state, metrics = steps(state, keys, train, epoch, start, stop)
            if epoch == 1:
                metrics = metrics._replace(first_bad_step=metrics.first_bad_step.at[1].set(2))
            return state, metrics

        return broken

    monkeypatch.setattr(classifier_setup.ClassifierTraining, "compile", compiled)
    config = tiny_images.config(seeds=(5, 7), model__name="blind")
    with pytest.raises(
        TrainingDivergedError,
        match=r"seed 7 diverged: .* at step 6 \(epoch 1\); last good checkpoint: epoch 1 ",
    ):
        fit.train(config, tmp_path)
    assert checkpoints(tmp_path) == [0, STEPS - 1, STEPS]


def test_a_dead_network_is_reported(tmp_path, capsys):
    config = tiny_images.config(
        data__name="tiny_signs", model__name="blind", model__outputs=1, training__loss="hinge"
    )
    state = fit.train(config, tmp_path)
    for progress in state.progress:
        assert progress.dead_epoch == 1
        assert progress.summary().endswith("; dead since epoch 1 (one output for all images)")
    assert len(rows(tmp_path)) == 2 * EPOCHS


def test_two_writers_are_refused(tmp_path):
    with hold(tmp_path), pytest.raises(WorkdirBusyError, match="another process is using"):
        fit.train(tiny_images.config(), tmp_path)


def evaluation(error, *, dead=False):
    return Evaluation(np.float32(2.5), np.float32(error), np.bool_(dead))


def observed(*evaluations):
    progress = ClassifierProgress(seed=3)
    for epoch, one in enumerate(evaluations, start=1):
        progress = progress.observe(epoch, one, last_epoch=4)
    return progress


def test_the_first_of_equally_good_networks_is_the_best():
    found = observed(*map(evaluation, (0.5, 0.25, 0.25, 0.75)))
    assert found == ClassifierProgress(3, 4, 2, 0.25, 0.75, 2.5, None)
    assert found.summary() == (
        "seed 3: test error 25.00% (best, epoch 2), 75.00% at the end, test loss 2.5"
    )
    assert observed(evaluation(0.5)).stopped_epoch is None


def test_death_counts_from_its_first_epoch_and_only_while_it_lasts():
    dead, alive = evaluation(0.5, dead=True), evaluation(0.5)
    assert observed(alive, dead, dead, dead).dead_epoch == 2
    assert observed(dead, alive, dead).dead_epoch == 3
    assert observed(dead, alive).dead_epoch is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model__name": "vgg11bn"}, "config.model.name is 'vgg11bn'.*did you mean 'vgg11_bn'"),
        ({"data__name": "cifar"}, "config.data.name is 'cifar'.*did you mean 'cifar10'"),
        ({"model__outputs": 10}, "model.outputs must be 3 for the labels of tiny_images, got 10"),
        (
            {"data__name": "tiny_signs", "training__loss": "hinge"},
            "model.outputs must be 1 .*got 3",
        ),
        ({"training__loss": "hinge"}, "'hinge' does not fit .*tiny_images; take 'cross_entropy'"),
        ({"data__name": "tiny_signs"}, "'cross_entropy' does not fit .*; take 'hinge'"),
        ({"training__loss": "mse"}, "training.loss is 'mse'; expected one of .*'hinge'"),
        ({"training__batch_size": 65}, "training.batch_size 65 must be .*training images, 64"),
        ({"training__batch_size": 0}, "training.batch_size 0 must be at least 1"),
        ({"training__epochs": 0}, "training.epochs must be at least 1, got 0"),
        ({"training__learning_rate": float("nan")}, "training.learning_rate must be .* got nan"),
        ({"training__optimizer": "adamw"}, "training.optimizer is 'adamw'; expected"),
        (
            {"training__compute_dtype": "float16"},
            r"training.compute_dtype is 'float16'; expected one of \['bfloat16', 'float32'\]",
        ),
        ({"runtime__mesh__seed": 3}, "runtime.mesh.seed 3 must divide the number of seeds, 2"),
        ({"runtime__mesh__data": 3}, "runtime.mesh.data 3 must divide training.batch_size 16"),
        ({"runtime__mesh__data": 16}, "seed 1 times runtime.mesh.data 16 needs 16 .* there are 8"),
        ({"runtime__steps_per_call": 0}, "runtime.steps_per_call must be at least 1, got 0"),
        ({"runtime__test_batch_size": 0}, "runtime.test_batch_size must be at least 1, got 0"),
        ({"data__image_noise": -1.0}, "data.image_noise must be 0 or positive, got -1"),
        ({"seeds": (1, 1)}, "config.seeds must name at least one seed, each once"),
        ({"seeds": ("",)}, r"whole numbers; got \(''"),
    ],
)
def test_impossible_fields_are_refused_before_anything_is_written(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fit.train(tiny_images.config(**fields), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_images_that_a_network_cannot_take_are_refused_before_anything_is_written(tmp_path):
    config = tiny_images.config(model__name="lenet")
    with pytest.raises(ValueError, match="lenet expects images of 16 or more pixels a side, got 8"):
        fit.train(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_fewer_devices_can_be_asked_for():
    made = classifier_setup.setup(tiny_images.config(seeds=(0, 1, 2, 3)), n_devices=2)
    assert made.mesh.devices.shape == (2, 1)


@pytest.mark.parametrize(
    ("given", "stored"), [("images", "{here}/images"), ("~/images", "~/images"), (None, None)]
)
def test_the_folder_of_the_data_is_stored_so_that_it_is_found_from_anywhere(
    given, stored, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = arrays_config.get_config().unlock()
    config.data.data_dir = given
    run_config.claim(tmp_path, config, has_checkpoints=False)
    found = run_config.load(tmp_path).data.data_dir
    assert found == (stored and stored.format(here=tmp_path))
    assert config.data.data_dir == given, "the caller's config is unchanged"


def test_a_run_goes_on_with_its_own_data_alone(tmp_path):
    run_config.claim_data(tmp_path, "arrays (sha256 1)")
    run_config.claim_data(tmp_path, "arrays (sha256 1)")
    with pytest.raises(
        run_config.ConfigMismatchError, match="started on other data: expected arrays"
    ):
        run_config.claim_data(tmp_path, "arrays (sha256 2)")


def test_a_record_of_own_arrays_by_an_earlier_version_names_the_training_images_alone(tmp_path):
    run_config.claim_data(tmp_path, "arrays (images.npy, sha256 1)")
    other = "arrays (images.npy, sha256 2; with labels and test images 3)"
    with pytest.raises(run_config.ConfigMismatchError, match="on other data"):
        run_config.claim_data(tmp_path, other)
    run_config.claim_data(tmp_path, other.replace("sha256 2", "sha256 1"))
    with pytest.raises(run_config.ConfigMismatchError, match="on other data"):
        run_config.claim_data(tmp_path, other.replace("images 3", "images 4"))
