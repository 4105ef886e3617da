"""The results schema: written whole, read back by anyone, foreign files refused."""

import fcntl
from pathlib import Path
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import xarray as xr

from cnnpool.files import content_checksum, results, schema, trial_reading


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


def labelled():
    return schema.labelled(dataset())


def test_what_is_read_is_what_was_written(tmp_path):
    results.write(tmp_path / "new" / "a.nc", dataset())
    xr.testing.assert_identical(results.read(tmp_path / "new" / "a.nc"), labelled())


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
        xr.testing.assert_identical(found[name], schema.labelled(network))
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
    xr.testing.assert_identical(results.read(tmp_path / "a.nc"), labelled())
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_no_lock_of_a_file_is_needed(tmp_path):
    """HDF5 asks for one; a network file system without them answers as one that is held."""
    results.write(tmp_path / "a.nc", dataset())
    with (tmp_path / "a.nc").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="lock"):
            xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf")
        xr.testing.assert_identical(results.read(tmp_path / "a.nc"), labelled())


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


def damaged(content, rng):
    """A few bits, a few bytes or a sector changed, or the end lost."""
    changed, where = bytearray(content), int(rng.integers(len(content)))
    kind = rng.integers(4)
    if kind == 0:
        changed[where] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        for place in rng.integers(len(content), size=4):
            changed[place] = int(rng.integers(256))
    elif kind == 2:
        changed[where : where + 512] = bytes(len(changed[where : where + 512]))
    return bytes(changed[:where] if kind == 3 else changed)


def test_of_200_damaged_files_none_is_read_otherwise(tmp_path):
    """HDF5's own checksums let many pass: they are of arrays in pieces, and 0 is 65535 to them."""
    path, rng = tmp_path / "a.nc", np.random.default_rng(0)
    results.write(path, dataset())
    content = path.read_bytes()
    refused = 0
    for _ in range(200):
        path.write_bytes(damaged(content, rng))
        outlines = results.read_outlines(path)
        try:
            xr.testing.assert_identical(results.read(path), labelled())
        except results.ResultsError:
            assert outlines is None
            refused += 1
    assert refused > 150, "of the others a sector was of zeros before"


def without_checksum(path):
    return path.read_bytes()[: -content_checksum.LENGTH]


def test_a_file_without_a_checksum_is_read_as_before(tmp_path):
    """Of an earlier version, or written by another program."""
    path = tmp_path / "a.nc"
    results.write(path, dataset())
    path.write_bytes(without_checksum(path))
    xr.testing.assert_identical(results.read(path), labelled())
    with xr.open_dataset(path, engine="h5netcdf") as opened:
        opened.assign(D=opened.D + 1).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    changed = results.read(tmp_path / "b.nc")
    np.testing.assert_array_equal(changed.D, dataset().D + 1)


def test_a_file_that_another_program_changes_loses_its_checksum(tmp_path):
    path = tmp_path / "a.nc"
    results.write(path, dataset())
    with h5py.File(path, "r+") as file:
        file["D"][...] = 7.0
    assert (results.read(path).D == 7).all()


def test_a_file_that_hdf5_reads_for_ever_is_refused_in_seconds(tmp_path):
    """A free object of no bytes in its heap of strings; the next file is read by a new process."""
    path = tmp_path / "a.nc"
    results.write(path, dataset())
    content = bytearray(without_checksum(path))
    first = content.index(b"GCOL") + 16
    content[first : first + 16] = bytes(16)
    path.write_bytes(content)
    began = time.monotonic()
    with pytest.raises(results.ResultsError, match=r"a\.nc cannot be read .* does not terminate"):
        results.read(path)
    assert results.read_outlines(path) is None
    assert time.monotonic() - began < 20 * trial_reading.CPU_SECONDS, "cores may be shared"
    results.write(path, dataset())
    path.write_bytes(without_checksum(path))
    xr.testing.assert_identical(results.read(path), labelled())


def test_a_file_that_declares_more_than_it_holds_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file.create_dataset("D", shape=(1 << 40,), chunks=(1 << 20,), dtype="f8")
    with pytest.raises(results.ResultsError, match=r"larger, .*than the file can hold"):
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
