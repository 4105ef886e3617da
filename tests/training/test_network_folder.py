"""Folders of finished networks: damage is seen, and packed ones are rounded, and small."""

import json
import shutil
import zipfile

import jax
import numpy as np
import pytest

from cnnpool import eval as eval_command
from cnnpool import export
from cnnpool.files import results
from cnnpool.measuring import evaluation, exporting, packing, runs
from cnnpool.runs import run_config
from cnnpool.training import network_folder
from cnnpool.training.network_folder import NetworkFolderError
from cnnpool.training.variables import Variables
from tests import classifier_runs


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    return classifier_runs.vgg(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def packed_once(vgg, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "vgg"
    packing.pack(vgg[0], out, data_dir=classifier_runs.moved_data(vgg[0]))
    return out


@pytest.fixture
def folder(packed_once, tmp_path):
    """A packed folder of one's own."""
    return shutil.copytree(packed_once, tmp_path / "vgg")


def rewrite(folder, **changed):
    """Replaces arrays of networks.npz; None deletes."""
    with np.load(folder / network_folder.NETWORKS) as file:
        arrays = dict(file) | {name.replace("__", "/"): a for name, a in changed.items()}
    np.savez(folder / network_folder.NETWORKS, **{k: a for k, a in arrays.items() if a is not None})


def load(folder):
    return runs.open(folder).state("trained")


def test_a_folder_holds_the_best_networks_rounded(packed_once, vgg):
    names = ["config.json", "networks.npz", "provenance.json", "summary.json"]
    assert sorted(path.name for path in packed_once.iterdir()) == names
    state, best = load(packed_once), vgg[1].networks.best
    assert state.progress == vgg[1].progress
    expected = jax.tree.map(lambda a: np.asarray(a).astype(np.float16).astype(np.float32), best)
    for a, b in zip(jax.tree.leaves(state.networks), jax.tree.leaves(expected), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)
    assert jax.tree.structure(state.networks) == jax.tree.structure(best)
    with np.load(packed_once / "networks.npz", allow_pickle=False) as file:
        assert {file[name].dtype for name in file.files} == {np.dtype(np.float16)}
        assert file["seed3/bn08/var"].shape == best.batch_stats["bn08"]["var"].shape[1:]


def test_the_summary_tells_errors_and_size(packed_once, vgg):
    summary = json.loads((packed_once / "summary.json").read_text())
    rows, progress = summary["seeds"], vgg[1].progress
    assert [row["seed"] for row in rows] == [0, 3]
    assert [row["best_epoch"] for row in rows] == [1, 1]
    assert [row["best_test_error"] for row in rows] == [one.best_error for one in progress]
    assert [row["last_test_error"] for row in rows] == [one.test_error for one in progress]
    assert [row["dead_epoch"] for row in rows] == [None, None]
    # Rounding moves at most a few of 64 images over the boundary.
    for row in rows:
        assert abs(row["packed_test_error"] - row["best_test_error"]) <= 4 / 64
    assert summary["networks_bytes"] == (packed_once / "networks.npz").stat().st_size
    assert summary["data_source"].startswith("arrays")


def test_nothing_names_the_machine_it_was_made_on(packed_once, vgg):
    config = json.loads((packed_once / "config.json").read_text())
    assert config["data"]["data_dir"] is None
    for path in packed_once.iterdir():
        assert str(vgg[0].parent).encode() not in path.read_bytes()


def test_a_folder_is_evaluated_like_a_run(packed_once, vgg, tmp_path):
    out, data = tmp_path / "a.nc", f"--data_dir={classifier_runs.moved_data(vgg[0])}"
    eval_command.main([f"--workdir={packed_once}", f"--out={out}", data, "--images=24"])
    dataset = results.read(out)
    rows = json.loads((packed_once / "summary.json").read_text())["seeds"]
    expected = [np.float32(row["packed_test_error"]) for row in rows]
    np.testing.assert_array_equal(dataset["test_error"].sel(stage="trained"), expected)
    np.testing.assert_array_equal(dataset["best_epoch"].sel(stage="trained"), [1, 1])
    assert json.loads(dataset.attrs["trained_by"])
    before = out.stat().st_mtime_ns
    eval_command.main([f"--workdir={packed_once}", f"--out={out}", "--images=24"])
    assert out.stat().st_mtime_ns == before


def test_a_folder_is_exported_without_data(packed_once, tmp_path):
    export.main([f"--workdir={packed_once}", "--to=npz", f"--out={tmp_path / 'p.npz'}"])
    arrays, stored = np.load(tmp_path / "p.npz"), np.load(packed_once / "networks.npz")
    assert set(arrays.files) == set(stored.files)
    name = "seed3/conv05/kernel"
    np.testing.assert_array_equal(arrays[name], stored[name].astype(np.float32))


def test_other_stages_are_not_there(packed_once, tmp_path):
    message = "holds finished networks alone: .* got last"
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(
            packed_once, tmp_path / "a.nc", stages=("trained", "last"), transforms=("none",)
        )
    with pytest.raises(ValueError, match=message):
        exporting.parameter_arrays(packed_once, "last")


def test_initial_networks_are_made_anew_from_their_seeds(packed_once, vgg):
    data = classifier_runs.moved_data(vgg[0])
    ours = exporting.parameter_arrays(packed_once, "init", data_dir=data)
    of_run = exporting.parameter_arrays(vgg[0], "init", data_dir=data)
    assert ours.keys() == of_run.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, of_run[name], err_msg=name)


def writer(folder):
    """Writes the networks of a folder into it again; keyword arguments replace what is written."""
    config, half = run_config.load(folder), packing.rounded(load(folder).networks, (0, 3))
    summary = json.loads((folder / network_folder.SUMMARY).read_text())
    named = {name: summary[name] for name in ("epoch", "training_seconds", "data_source")}
    provenance = (folder / network_folder.PROVENANCE).read_text()
    content = {
        "networks": half,
        "image_shape": summary["image_shape"],
        "seeds": summary["seeds"],
        "made_by": provenance,
    }
    return lambda **changed: network_folder.write(folder, config, **content | named | changed)


def test_writing_again_changes_nothing_and_others_are_not_replaced(packed_once, folder):
    write = writer(folder)
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    write(overwrite=False)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps
    for name in stamps:
        (folder / name).write_text("other")
        with pytest.raises(FileExistsError, match="holds something else; give --overwrite"):
            write(overwrite=False)
        assert (folder / name).read_text() == "other"
        write(overwrite=True)
    original = {path.name: path.read_bytes() for path in packed_once.iterdir()}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == original


def test_half_a_write_is_seen_and_mended(packed_once, folder, monkeypatch):
    write, whole = writer(folder), network_folder.write_atomically

    def stopped(path, content):
        if path.name == network_folder.PROVENANCE:
            raise KeyboardInterrupt
        whole(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(network_folder, "write_atomically", stopped)
        with pytest.raises(KeyboardInterrupt):
            write(made_by="[]", overwrite=True)
    with pytest.raises(NetworkFolderError, match=r"summary\.json cannot be read"):
        load(folder)
    write(overwrite=True)
    original = {path.name: path.read_bytes() for path in packed_once.iterdir()}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == original


def test_a_run_is_not_written_into(vgg):
    with pytest.raises(FileExistsError, match="holds a run; write the networks into another"):
        packing.pack(vgg[0], vgg[0], data_dir=classifier_runs.moved_data(vgg[0]), overwrite=True)


def test_a_1d_run_is_refused(tiny_run, tmp_path):
    with pytest.raises(ValueError, match="is a run on scale1d; expected classifiers of pictures"):
        packing.pack(tiny_run, tmp_path / "out")


@pytest.mark.parametrize("value", [65536.0, -1e9, np.inf, np.nan])
def test_a_value_that_does_not_fit_is_refused_by_name(value):
    kernel = np.zeros((2, 3), np.float32)
    kernel[1, 2] = value
    with pytest.raises(NetworkFolderError, match="seed7/conv01/kernel has a value of size"):
        packing.rounded(Variables({"conv01": {"kernel": kernel}}, {}), (0, 7))
    kernel[1, 2] = 65504.0
    half = packing.rounded(Variables({"conv01": {"kernel": kernel}}, {}), (0, 7))
    assert half.params["conv01"]["kernel"][1, 2] == 65504.0


def flip_a_byte(folder):
    path = folder / network_folder.NETWORKS
    with zipfile.ZipFile(path) as file:
        place = file.getinfo("seed0/conv05/kernel.npy").header_offset + 300
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def truncate(folder):
    path = folder / network_folder.NETWORKS
    path.write_bytes(path.read_bytes()[:-100])


def change_a_value(folder):
    with np.load(folder / network_folder.NETWORKS) as file:
        rewrite(folder, seed0__linear09__bias=file["seed0/linear09/bias"] + 1)


def pickled(folder):
    rewrite(folder, seed0__linear09__bias=np.array([{}, {}], object))


def edit_summary(folder, **fields):
    path = folder / network_folder.SUMMARY
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, r"networks.npz is damaged at seed0/conv05/kernel \(BadZipFile"),
        (truncate, "networks.npz is damaged at its list of arrays"),
        (pickled, "networks.npz is damaged at seed0/linear09/bias"),
        (lambda f: (f / network_folder.NETWORKS).write_bytes(b""), "networks.npz is damaged"),
        (lambda f: (f / network_folder.NETWORKS).unlink(), "networks.npz does not exist"),
        (
            lambda f: rewrite(f, seed3__bn02__var=None),
            "networks.npz lacks 1 of .* arrays .*: seed3/bn02/var",
        ),
        (
            lambda f: rewrite(f, seed3__bn02__var=np.zeros(5, np.float16)),
            r"seed3/bn02/var is float16 of shape \(5,\); expected float16 or .* of shape \(6,\)",
        ),
        (
            lambda f: rewrite(f, seed3__bn02__var=np.zeros(6, np.float64)),
            r"seed3/bn02/var is float64 of shape \(6,\); expected float16 or float32",
        ),
        (change_a_value, "networks.npz is not the file that summary.json describes"),
        (lambda f: (f / network_folder.SUMMARY).unlink(), "summary.json cannot be read"),
        (lambda f: (f / network_folder.SUMMARY).write_text("{"), "summary.json cannot be read"),
        (lambda f: edit_summary(f, seeds=[{}, {}]), "summary.json cannot be read"),
        (
            lambda f: edit_summary(f, seeds=[{"seed": 0}, {"seed": 3}]),
            r"summary.json cannot be read \(KeyError: 'stopped_epoch'\)",
        ),
        (lambda f: edit_summary(f, seeds=[]), r"is of seeds \(\), config.json of \(0, 3\)"),
    ],
)
def test_damage_is_an_error_that_names_file_and_array(folder, damage, message):
    damage(folder)
    with pytest.raises(NetworkFolderError, match=message):
        load(folder)


def test_training_among_finished_networks_is_refused(tmp_path):
    (tmp_path / network_folder.NETWORKS).touch()
    with pytest.raises(FileExistsError, match="holds packed or imported networks"):
        network_folder.check_holds_no_networks(tmp_path)
