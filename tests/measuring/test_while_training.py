"""D, G, R of networks while they are trained."""

import csv

import numpy as np
import pytest

from cnnpool.errors import PreemptedError
from cnnpool.files import results
from cnnpool.measuring import while_training
from cnnpool.measuring.evaluation import evaluate
from cnnpool.training.classifier_recipe import ClassifierRecipe
from tests import tiny_images

QUANTITIES = list("DGR")
# Eight pixels a side are too few for natural diffeomorphisms; here it is only which numbers agree.
pytestmark = pytest.mark.filterwarnings("ignore:outside T_min")


def config(**fields):
    return tiny_images.config(
        measurement__every_epochs=2,
        measurement__images=20,
        training__epochs=5,
        checkpoint__keep_epochs=(0, 2, 4),
        **fields,
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    tiny_images.install(monkeypatch)
    while_training.train(config(), tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_the_file_holds_what_eval_measures_of_kept_checkpoints(run):
    watched = results.read(run / while_training.FILE)
    assert list(watched["stage"].values) == ["2", "4", "5"]
    evaluate(
        run,
        run / "eval.nc",
        stages=("2", "4", "last"),
        transforms=("none",),
        settings={"images": 20},
    )
    expected = results.read(run / "eval.nc")
    for name in (*QUANTITIES, "D_se", "G_se", "R_se", "test_error"):
        np.testing.assert_array_equal(watched[name].values, expected[name].values)


def test_metrics_have_a_column_for_each_unit_and_quantity(run):
    watched = results.read(run / while_training.FILE).squeeze(drop=True)
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    for row in rows:
        for unit in watched["layer"].values:
            found = row[f"R/{unit}"]
            if row["epoch"] in ("2", "4", "5"):
                one = watched["R"].sel(stage=row["epoch"], seed=int(row["seed"]), layer=unit)
                assert float(found) == one.item()
            else:
                assert found == ""


def test_killed_and_given_again_it_leaves_the_same(run, tmp_path, monkeypatch):
    stopped = tmp_path / "stopped"

    def stop(self, before, after, sums):
        if after.epoch == 4:
            raise PreemptedError("as if killed after the measurement, before the save")
        return rows(self, before, after, sums)

    rows = ClassifierRecipe.rows
    with monkeypatch.context() as patch:
        patch.setattr(ClassifierRecipe, "rows", stop)
        with pytest.raises(PreemptedError):
            while_training.train(config(), stopped)
    assert "4" in results.read(stopped / while_training.FILE)["stage"].values
    while_training.train(config(), stopped)
    found, expected = (results.read(one / while_training.FILE) for one in (stopped, run))
    assert list(found["stage"].values) == ["2", "4", "5"]
    for name in QUANTITIES:
        np.testing.assert_array_equal(found[name].values, expected[name].values)


def test_nothing_is_measured_where_nothing_is_asked_for(tmp_path, monkeypatch):
    tiny_images.install(monkeypatch)
    while_training.train(tiny_images.config(), tmp_path / "run")
    assert not (tmp_path / "run" / while_training.FILE).exists()
    with pytest.raises(ValueError, match=r"measurement\.every_epochs must be 0, for never"):
        while_training.train(tiny_images.config(measurement__every_epochs=-1), tmp_path / "bad")
