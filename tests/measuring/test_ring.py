"""Measurements of a trained run, and the commands that make and export them."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import jax
import numpy as np
import pandas as pd
import pytest

from cnnpool import eval as eval_command
from cnnpool import export
from cnnpool.devices import distributed
from cnnpool.errors import PreemptedError
from cnnpool.files import results
from cnnpool.launch.measurement import RING
from cnnpool.measuring import evaluation, measure, network, runs, tables, transforms
from cnnpool.measuring.names import parse_stages
from cnnpool.runs.running import running
from cnnpool.training import fit
from cnnpool.training.checkpoints import CheckpointError, CheckpointStore
from tests.oracles import receptive_field as oracle
from tests.oracles import sensitivity as sensitivity_oracle
from tests.paths import ROOT

TRANSFORMS = RING.transforms
LAYERS = ["conv01", "relu01", "conv02", "relu02", "conv03", "relu03", "pool", "linear"]


@pytest.fixture(scope="module")
def measured(trained_once, tmp_path_factory):
    """All transforms at init and trained, in a file."""
    out = tmp_path_factory.mktemp("measured") / "a.nc"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = evaluation.evaluate(
            trained_once[0], out, stages=("init", "trained"), transforms=TRANSFORMS
        )
    return out, dataset


def test_coordinates_are_named_and_in_forward_order(measured):
    dataset = results.read(measured[0])
    assert list(dataset["layer"].values) == LAYERS
    assert list(dataset["transform"].values) == list(TRANSFORMS)
    assert list(dataset["stage"].values) == ["init", "trained"]
    assert list(dataset["seed"].values) == [0, 1]
    assert dataset["D"].dims == results.DIMENSIONS
    np.testing.assert_array_equal(dataset["depth"], [1, 1, 2, 2, 3, 3, np.nan, np.nan])


def test_provenance_travels_with_the_numbers(measured, trained_once):
    attributes = results.read(measured[0]).attrs
    assert json.loads(attributes["config"])["model"]["width"] == 16
    assert json.loads(attributes["versions"])["jax"] == jax.__version__
    assert json.loads(attributes["trained_by"])[0]["commit"] == attributes["commit"]
    assert attributes["host_platform"]
    record = json.loads(attributes["measurement"])
    assert (record["version"], record["settings"]["draws"]) == (measure.VERSION, 2)
    assert attributes["data_source"].startswith("all 54 images of the task 'distance'")


def test_test_errors_are_those_of_the_trainer(measured, trained_once):
    error = measured[1]["test_error"].sel(transform="none")
    assert (error.sel(stage="init") > 0.1).all()
    expected = [seed.validation_error for seed in trained_once[1].progress]
    np.testing.assert_allclose(error.sel(stage="trained"), expected)


def test_sensitivities_agree_with_all_pairs_on_the_run(measured, trained_once):
    workdir, state = trained_once
    opened = runs.open(workdir)
    [(_, inputs)] = opened.perturbations()
    params = jax.tree.map(lambda leaf: leaf[1], state.networks)

    def run(x):
        return np.asarray(opened.model.apply({"params": params}, x)[1]["relu02"], np.float64)

    expected = sensitivity_oracle.all_pairs_sensitivity(
        run(inputs.clean),
        np.stack([run(d) for d in inputs.deformed]),
        np.stack([run(n) for n in inputs.noisy]),
    )
    cell = measured[1].sel(seed=1, stage="trained", transform="none", layer="relu02")
    np.testing.assert_allclose([float(cell[n]) for n in "DGR"], expected, rtol=1e-5)


def test_mean_filters_are_those_of_the_checkpoint(measured, trained_once):
    params = jax.tree.map(lambda leaf: np.asarray(leaf[0], np.float64), trained_once[1].networks)
    cell = measured[1]["mean_filter"].sel(
        seed=0, stage="trained", transform="none", layer=["conv01", "conv02", "conv03"]
    )
    np.testing.assert_allclose(cell, oracle.mean_filters(params), atol=1e-7)


def test_transforms_change_what_they_should(measured):
    dataset = measured[1].sel(stage="trained")
    plain, shuffled = dataset.sel(transform="none"), dataset.sel(transform="channel_shuffle")
    np.testing.assert_array_equal(plain["D"].sel(layer="relu01"), shuffled["D"].sel(layer="relu01"))
    assert (plain["D"].sel(layer="relu03") != shuffled["D"].sel(layer="relu03")).all()
    averaged = dataset.sel(transform="mean_channel_activations")
    found, expected = (one["D"].sel(layer="linear") for one in (averaged, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # two programs: float32's rounding
    assert (plain["D"].sel(layer="relu01") != averaged["D"].sel(layer="relu01")).all()


def test_theory_stands_beside_the_layers_that_have_a_depth(measured):
    dataset = measured[1]
    for name in ("A_theory", "D_theory", "G_theory"):
        assert dataset[name].sel(layer=LAYERS[:6]).notnull().all()
        assert dataset[name].sel(layer=LAYERS[6:]).isnull().all()
    assert float(dataset["A_theory"].sel(layer="relu02")) == pytest.approx(np.sqrt(2 * 8 / 12))


def test_the_same_measurement_is_taken_and_another_refused(measured, trained_once):
    out, before = measured[0], measured[0].stat().st_mtime_ns
    again = evaluation.evaluate(
        trained_once[0], out, stages=("init", "trained"), transforms=TRANSFORMS
    )
    assert out.stat().st_mtime_ns == before
    np.testing.assert_array_equal(again["D"], measured[1]["D"])
    with pytest.raises(FileExistsError, match="with another measurement; use --overwrite"):
        evaluation.evaluate(trained_once[0], out, stages=("init",), transforms=("none",))
    with pytest.raises(FileExistsError, match="with another measurement"):
        evaluation.evaluate(
            trained_once[0],
            out,
            stages=("init", "trained"),
            transforms=TRANSFORMS,
            settings={"draws": 3},
        )
    assert out.stat().st_mtime_ns == before


# cnnpool.eval, killed from outside when it has begun the third of its sixteen parts.
KILLED = """
import os, signal, sys
from cnnpool import eval as command
from cnnpool.measuring import network

calls, moments = [], network.moments

def killed(*arguments, **options):
    calls.append(None)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return moments(*arguments, **options)

network.moments = killed
command.main(sys.argv[1:])
"""


def test_a_measurement_killed_in_the_middle_goes_on_and_is_identical(
    measured, trained_once, tmp_path, monkeypatch
):
    """What is there is not measured again."""
    out, parts = tmp_path / "a.nc", tmp_path / ".a.nc.parts"
    flags = [f"--workdir={trained_once[0]}", "--stage=init,trained", f"--out={out}"]
    flags.append(f"--transforms={','.join(TRANSFORMS)}")
    done = subprocess.run([sys.executable, "-c", KILLED, *flags], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list(parts.glob("[!.]*.npz"))) == 2
    calls = count_calls(monkeypatch)
    found = evaluation.evaluate(
        trained_once[0], out, stages=("init", "trained"), transforms=TRANSFORMS
    )
    assert len(calls) == 14, "of two seeds, two stages and four transforms"
    assert found.drop_attrs().identical(measured[1].drop_attrs())
    assert not parts.exists()


def count_calls(monkeypatch):
    calls, moments = [], network.moments
    monkeypatch.setattr(network, "moments", lambda *a, **k: calls.append(a[2]) or moments(*a, **k))
    return calls


def test_a_measurement_asked_to_end_stops_after_a_network_and_goes_on(
    measured, trained_once, tmp_path, monkeypatch
):
    """As one of several joined processes, which ask one another after every call."""
    asked = {"stages": ("init", "trained"), "transforms": TRANSFORMS}
    with monkeypatch.context() as patch:
        answers = iter([False, False, True])
        patch.setattr(distributed, "preempted", lambda: next(answers))
        with pytest.raises(PreemptedError, match="stopped after 162 of 864 images"):
            evaluation.evaluate(trained_once[0], tmp_path / "a.nc", **asked)
    assert len(list((tmp_path / ".a.nc.parts").glob("*.npz"))) == 2
    calls = count_calls(monkeypatch)
    found = evaluation.evaluate(trained_once[0], tmp_path / "a.nc", **asked)
    assert len(calls) == 14
    assert found.drop_attrs().identical(measured[1].drop_attrs())


def test_sigterm_ends_a_job_s_measurement_and_the_same_command_goes_on(
    measured, trained_once, tmp_path, monkeypatch
):
    asked = {"stages": ("init", "trained"), "transforms": TRANSFORMS}
    calls, moments = [], network.moments

    def interrupted(*args, **options):
        calls.append(args[2])
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
            raise RuntimeError("the thread ends, as it would with its process")
        return moments(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(network, "moments", interrupted)
        with pytest.raises(PreemptedError, match="SIGTERM"), running(tmp_path) as process:
            process.call(lambda: evaluation.evaluate(trained_once[0], tmp_path / "a.nc", **asked))
    again = count_calls(monkeypatch)
    found = evaluation.evaluate(trained_once[0], tmp_path / "a.nc", **asked)
    assert len(again) == 14, "two of sixteen were kept"
    assert found.drop_attrs().identical(measured[1].drop_attrs())


def test_overwrite_replaces(trained_once, tmp_path):
    (tmp_path / "a.nc").write_text("something else")
    evaluation.evaluate(
        trained_once[0], tmp_path / "a.nc", stages=("init",), transforms=("none",), overwrite=True
    )
    assert list(results.read(tmp_path / "a.nc")["stage"].values) == ["init"]


def test_a_stage_may_be_an_epoch(trained_once, tmp_path):
    epoch = trained_once[1].epoch
    by_epoch = evaluation.evaluate(
        trained_once[0], tmp_path / "e.nc", stages=(str(epoch),), transforms=("none",)
    )
    trained = evaluation.evaluate(
        trained_once[0], tmp_path / "t.nc", stages=("trained",), transforms=("none",)
    )
    np.testing.assert_array_equal(by_epoch["D"], trained["D"])
    with pytest.raises(CheckpointError, match=r"stage '7' is epoch 7, and .* has \[0, "):
        evaluation.evaluate(trained_once[0], tmp_path / "x.nc", stages=("7",), transforms=("none",))


def test_an_unfinished_run_is_not_called_trained(tiny_config, tmp_path, monkeypatch):
    with tiny_config.unlocked():
        tiny_config.training.multiple = 10**6
        tiny_config.training.max_epochs = 10**7

    class Stopped(Exception):
        pass

    original = CheckpointStore.save

    def save(self, state):
        original(self, state)
        if state.epoch:
            raise Stopped

    monkeypatch.setattr(CheckpointStore, "save", save)
    with pytest.raises(Stopped):
        fit.train(tiny_config, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"seeds \[0, 1\] are not trained to the end yet"):
        evaluation.evaluate(
            tmp_path / "run", tmp_path / "a.nc", stages=("trained",), transforms=("none",)
        )


def test_a_workdir_without_a_run_says_what_makes_one(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"expected config.json, as written by `python -m cnnpool.train"
    ):
        evaluation.evaluate(tmp_path, tmp_path / "a.nc", stages=("init",), transforms=("none",))


def test_the_printed_table_has_a_line_a_layer(measured):
    lines = tables.layer_table(measured[1]).splitlines()
    assert [sum(line.startswith(layer) for line in lines) for layer in LAYERS] == [8] * len(LAYERS)


def test_the_mean_is_of_the_networks_that_are_not_dead(measured):
    dead = measured[1].sel(transform=["none"]).copy(deep=True)
    layer = LAYERS[-1]
    where = {"stage": dead["stage"][-1], "transform": "none", "layer": layer}
    dead["R"].loc[where | {"seed": dead["seed"][0]}] = np.nan
    seeds, alive = dead.sizes["seed"], dead["R"].loc[where].values[1:]
    text = tables.layer_table(dead)
    assert f"{alive.mean():12.4g} ± " in text
    assert text.count(f"({seeds - 1} of {seeds})") == 1
    dead["R"].loc[where] = np.nan
    text = tables.layer_table(dead)
    assert text.count("undefined") == 1
    assert "nan" not in text


@pytest.mark.parametrize("name", ["a.csv", "a.npz", "a.png"])
def test_a_result_file_is_not_called_what_it_is_not(name, capsys):
    with pytest.raises(SystemExit):
        eval_command.main(["--workdir=run", f"--out={name}"])
    said = capsys.readouterr().err
    assert "expected a netCDF file, with the suffix .nc" in said


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_stages, "init,tained", "stage 'tained': expected init, trained, last, all or an"),
        (transforms.check_known, "shuffle", "a transform is 'shuffle'; expected one of "),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(parse, text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize("ending", ["npz", "csv", "parquet"])
def test_exports_hold_the_same_numbers(measured, tmp_path, ending):
    out = tmp_path / f"a.{ending}"
    export.main([str(measured[0]), f"--to={ending}", f"--out={out}"])
    expected = measured[1]["D"].sel(seed=1, stage="trained", transform="none", layer="relu02")
    if ending == "npz":
        arrays = np.load(out)
        at = {name: list(arrays[name]) for name in results.DIMENSIONS}
        cell = tuple(
            at[name].index(value)
            for name, value in zip(
                results.DIMENSIONS, (1, "trained", "none", "relu02"), strict=True
            )
        )
        assert arrays["D"][cell] == float(expected)
        return
    table = pd.read_csv(out) if ending == "csv" else pd.read_parquet(out)
    rows = table[
        (table.seed == 1)
        & (table.stage == "trained")
        & (table["transform"] == "none")
        & (table.layer == "relu02")
    ]
    assert len(rows) == 1
    np.testing.assert_allclose(rows["D"], [float(expected)], rtol=1e-12)
    assert rows[[f"mean_filter_{tap}" for tap in range(3)]].isna().all(axis=None)
    with pytest.raises(FileExistsError, match="use --overwrite"):
        export.main([str(measured[0]), f"--to={ending}", f"--out={out}"])


def test_parameters_are_exported_by_path(trained_once, tmp_path):
    out = tmp_path / "p.npz"
    export.main([f"--workdir={trained_once[0]}", "--stage=trained", "--to=npz", f"--out={out}"])
    arrays = np.load(out)
    assert arrays["seed1/conv02/kernel"].shape == (3, 16, 16)
    np.testing.assert_array_equal(
        arrays["seed1/conv02/kernel"], trained_once[1].networks["conv02"]["kernel"][1]
    )
    assert len(arrays.files) == 2 * len(jax.tree.leaves(trained_once[1].networks))
