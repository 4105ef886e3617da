"""The results schema: written whole, read back by anyone, foreign files refused."""

import fcntl
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from cnnpool.files import results


def dataset(stages=("init", "trained"), config='{"a": 1}', offset=0.0):
    shape = (2, len(stages), 2, 3)
    rng = np.random.default_rng(0)
    variables = {
        name: (results.DIMENSIONS, rng.random(shape) + offset) for name in results.SENSITIVITIES
    }
    variables["A_theory"] = ("layer", np.arange(3.0))
    coordinates = {
        "seed": [0, 7],
        "stage": list(stages),
        "transform": ["none", "channel_shuffle"],
        "layer": ["relu01", "conv02", "linear"],
    }
    attributes = dict.fromkeys(results.ATTRIBUTES, "x") | {"schema_version": 1, "config": config}
    return xr.Dataset(variables, coordinates, attributes)


def test_what_is_read_is_what_was_written(tmp_path):
    results.write(tmp_path / "new" / "a.nc", dataset())
    xr.testing.assert_identical(results.read(tmp_path / "new" / "a.nc"), dataset())


def test_shuffles_are_averaged_as_logarithms():
    """Of R = 1, 4 in two shuffles; a transform that is not random has one number."""
    values = np.array([[2.0, np.nan], [1.0, 4.0]])[None, None, ..., None]
    dims = ("seed", "stage", "transform", "shuffle", "layer")
    variables = {name: (dims, values) for name in "DGR"}
    variables |= {f"{name}_se": (dims, values / 10) for name in "DGR"}
    found = results.over_shuffles(xr.Dataset(variables, {"shuffle": [0, 1]}))
    np.testing.assert_allclose(found["R"].squeeze(), [2, 2])
    np.testing.assert_allclose(found["R_se"].squeeze(), [0.2, 0.2])
    spread = 2 * np.std(np.log([1, 4]), ddof=1)
    np.testing.assert_allclose(found["R_shuffle_sd"].squeeze(), [np.nan, spread])
    assert "shuffle" not in found.dims
    assert results.over_shuffles(found) is found


def test_shares_of_schema_1_are_of_its_one_kind_of_shuffle(tmp_path):
    old = dataset().assign(spatial_share=(("seed", "stage"), np.full((2, 2), 0.5)))
    results.write(tmp_path / "a.nc", old)
    share = results.read(tmp_path / "a.nc")["spatial_share"]
    assert share.sel(transform="none").isnull().all()
    assert (share.sel(transform="channel_shuffle") == 0.5).all()


def test_several_networks_are_groups(tmp_path):
    networks = {"vgg": dataset(), "lenet": dataset(offset=1.0)}
    results.write(tmp_path / "a.nc", networks)
    found = results.read_networks(tmp_path / "a.nc")
    assert set(found) == {"vgg", "lenet"}
    for name, network in networks.items():
        xr.testing.assert_identical(found[name], network)
    with pytest.raises(results.ResultsError, match="several networks: "):
        results.read(tmp_path / "a.nc")


def test_plain_xarray_reads_it_without_cnnpool(tmp_path):
    results.write(tmp_path / "a.nc", dataset())
    script = (
        "import sys, xarray\n"
        f"d = xarray.open_dataset({str(tmp_path / 'a.nc')!r}, engine='h5netcdf')\n"
        "print(float(d.D.sel(seed=7, stage='trained', transform='none', layer='relu01')))\n"
        "assert not any(name.startswith(('cnnpool', 'jax')) for name in sys.modules)\n"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stderr
    expected = dataset().D.sel(seed=7, stage="trained", transform="none", layer="relu01")
    assert float(found.stdout) == float(expected)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    results.write(tmp_path / "a.nc", dataset())

    def half(self, content):
        self.write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="no space left"):
        results.write(tmp_path / "a.nc", dataset(offset=5.0))
    xr.testing.assert_identical(results.read(tmp_path / "a.nc"), dataset())
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_no_lock_of_a_file_is_needed(tmp_path):
    """HDF5 asks for one; a network file system without them answers as one that is held."""
    results.write(tmp_path / "a.nc", dataset())
    with (tmp_path / "a.nc").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="lock"):
            xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf")
        xr.testing.assert_identical(results.read(tmp_path / "a.nc"), dataset())


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    results.write(tmp_path / "a.nc", dataset())

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: .*a\.nc"):
        results.read(tmp_path / "a.nc")


def test_an_incomplete_dataset_is_not_written(tmp_path):
    with pytest.raises(results.ResultsError, match="lacks R_se, attribute commit"):
        results.write(
            tmp_path / "a.nc",
            dataset()
            .drop_vars("R_se")
            .drop_attrs()
            .assign_attrs({k: v for k, v in dataset().attrs.items() if k != "commit"}),
        )
    assert not (tmp_path / "a.nc").exists()


def foreign(path):
    xr.Dataset({"temperature": ("time", [1.0])}).to_netcdf(path, engine="h5netcdf")


def truncated(path):
    results.write(path, dataset())
    path.write_bytes(path.read_bytes()[:1000])


def newer(path):
    changed = dataset().assign_attrs(schema_version=99)
    changed.to_netcdf(path, engine="h5netcdf")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (foreign, "no cnnpool result: it has no attribute schema_version"),
        (truncated, "cannot be read as netCDF"),
        (lambda path: path.write_text("hello"), "cannot be read as netCDF"),
        (newer, f"schema version 99, newer than {results.SCHEMA_VERSION}: update cnnpool"),
    ],
)
def test_malformed_and_foreign_files_are_refused(tmp_path, make, message):
    make(tmp_path / "a.nc")
    with pytest.raises(results.ResultsError, match=message):
        results.read(tmp_path / "a.nc")


def test_an_absent_file_says_what_makes_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cnnpool\.eval"):
        results.read(tmp_path / "a.nc")


def test_stages_in_different_files_are_merged():
    whole = dataset()
    parts = [whole.sel(stage=["trained"]), whole.sel(stage=["init"])]
    merged = results.merge_stages(parts)
    assert list(merged["stage"].values) == ["trained", "init"]
    xr.testing.assert_allclose(merged.sel(stage=["init", "trained"]), whole)
    assert merged.attrs["config"] == whole.attrs["config"]


def test_files_of_different_runs_are_not_merged():
    with pytest.raises(results.ResultsError, match="different configs"):
        results.merge_stages([dataset(("init",)), dataset(("trained",), config='{"a": 2}')])


def test_a_stage_given_twice_is_refused_not_dropped():
    once = dataset(("trained",), config="{}")
    with pytest.raises(results.ResultsError, match="stage trained is in more than one file"):
        results.merge_stages([once, once])


def test_files_may_differ_in_fields_that_change_no_number():
    parts = [
        dataset((stage,), config=f'{{"seeds": [0], "runtime": {{"log_every": {n}}}}}')
        for stage, n in (("init", 10), ("trained", 20))
    ]
    assert list(results.merge_stages(parts)["stage"].values) == ["init", "trained"]
