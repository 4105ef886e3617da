"""Trainings that begin with networks which were trained before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool.measuring import while_training
from cnnpool.training.checkpoints import CheckpointStore, checkpoint_directory
from cnnpool.training.classifier_progress import ClassifierProgress
from cnnpool.training.classifier_setup import setup
from cnnpool.training.fine_tuning import transplanted
from cnnpool.training.variables import Variables
from tests import tiny_images


def variables(outputs=3, *, channels=4, fill=0.0):
    def full(*shape):
        return jnp.full(shape, fill)

    params = {
        "conv01": {"kernel": full(3, 3, 3, channels), "bias": full(channels)},
        "linear02": {"kernel": full(channels, outputs), "bias": full(outputs)},
    }
    return Variables(params, {"bn01": {"mean": full(channels)}})


def test_all_is_taken_where_all_fits():
    made, fresh = transplanted(variables(), variables(fill=1.0))
    assert fresh == []
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(made))


def test_a_readout_for_other_classes_stays_fresh():
    made, fresh = transplanted(variables(outputs=5), variables(fill=1.0))
    assert fresh == ["linear02"]
    assert made.params["linear02"]["kernel"].shape == (4, 5)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(made.params["linear02"]))
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(made.params["conv01"]))
    assert (made.batch_stats["bn01"]["mean"] == 1).all()


def test_another_architecture_is_refused_by_its_layers():
    with pytest.raises(ValueError, match=r"conv01 is \(3, 3, 3, 4\) and \(4,\), expected .*8"):
        transplanted(variables(channels=8), variables())
    alone = Variables({"linear09": {"kernel": jnp.ones((2, 2))}}, {})
    with pytest.raises(ValueError, match="another architecture: bn01 is nothing"):
        transplanted(variables(), alone)


def first(config, workdir):
    """The networks before the first step."""
    training = setup(config)
    with CheckpointStore(
        checkpoint_directory(workdir), read_only=True, progress_type=ClassifierProgress
    ) as store:
        state = store.restore(0, training.state_shapes(), seeds=config.seeds)
    return jax.device_get(state.networks)


def test_a_run_begins_with_the_best_networks_of_another(tmp_path, monkeypatch, capsys):
    tiny_images.install(monkeypatch)
    before = while_training.train(tiny_images.config(), tmp_path / "before")
    config = tiny_images.config(training__init_from=str(tmp_path / "before"))
    config.seeds = (7, 8)
    while_training.train(config, tmp_path / "after")
    assert f"beginning with the networks of {tmp_path / 'before'}\n" in capsys.readouterr().err
    best = jax.device_get(before.networks.best)
    begun = first(config, tmp_path / "after")
    for a, b in zip(jax.tree.leaves(begun.current), jax.tree.leaves(best), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isinf(begun.best_error).all()


@pytest.mark.slow
def test_one_network_for_all_seeds_and_no_other_number(tmp_path, monkeypatch):
    tiny_images.install(monkeypatch)
    one = tiny_images.config()
    one.seeds = (0,)
    while_training.train(one, tmp_path / "one")
    for seeds in ((1, 2), (1, 2, 3)):
        config = tiny_images.config(training__init_from=str(tmp_path / "one"))
        config.seeds = seeds
        while_training.train(config, tmp_path / f"{len(seeds)}")
        kernels = first(config, tmp_path / f"{len(seeds)}").current.params["conv01"]["kernel"]
        assert (kernels == kernels[:1]).all()
    config = tiny_images.config(training__init_from=str(tmp_path / "3"))
    with pytest.raises(ValueError, match="holds 3 networks; expected one for each of the 2 seeds"):
        while_training.train(config, tmp_path / "bad")


def test_a_folder_without_networks_is_named(tmp_path, monkeypatch):
    tiny_images.install(monkeypatch)
    config = tiny_images.config(training__init_from=str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="nothing holds no run"):
        while_training.train(config, tmp_path / "run")
