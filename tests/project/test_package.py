"""What is installed: one top-level package with configs and launch in it, and what it needs."""

from importlib import metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from cnnpool import config_files, extras
from tests.paths import ROOT

# What `pip install cnnpool` brings, with what JAX, xarray and NumPy need themselves.
CORE = {
    *("jax", "jaxlib", "numpy", "xarray", "tqdm", "ml_dtypes", "opt_einsum", "scipy", "pandas"),
    *("packaging", "dateutil", "pytz", "tzdata", "six", "cnnpool"),
}
MEASURING = """
import sys

class OnlyCore:
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top in OTHERS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

OTHERS = set(sys.argv[1].split(","))
sys.meta_path.insert(0, OnlyCore())
import jax.numpy as jnp
import numpy as np
import cnnpool as cp

images = np.random.default_rng(0).normal(size=(100, 16, 16, 3)).astype(np.float32)
data = cp.measure(lambda x: {"layer": jnp.tanh(x)}, images)
assert np.isfinite(data["R"].values).all()
print(cp.sensitivity.__name__)
for use in (
    lambda: cp.save(data, "a.nc"),
    lambda: data.cnnpool.plot(),
    lambda: cp.open("a"),
    lambda: cp.flax,
    lambda: cp.torch,
):
    try:
        use()
    except ImportError as error:
        print(error)
"""


def declared():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_measuring_needs_jax_numpy_xarray_and_tqdm_alone(tmp_path):
    others = ",".join({*extras._EXTRAS} - CORE)
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURING, others],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [
        "sensitivity",
        "h5netcdf is not installed: pip install 'cnnpool[netcdf]'",
        "matplotlib is not installed: pip install 'cnnpool[figures]'",
        "ml_collections is not installed: pip install 'cnnpool[train]'",
        "flax is not installed: pip install 'cnnpool[flax]'",
        "torch is not installed: pip install 'cnnpool[torch]'",
    ]


def test_every_extra_that_a_message_names_is_declared():
    assert {*extras._EXTRAS.values()} <= {*declared()["optional-dependencies"]}
    core = {word.partition(">")[0] for word in declared()["dependencies"]}
    assert core == {"jax", "numpy", "tqdm", "xarray"}


def test_nothing_is_imported_by_the_name_of_a_checkout():
    """A class of `launch.jobs` would be another one than that of `cnnpool.launch.jobs`."""
    wrong = [
        f"{path.relative_to(ROOT)}: {line}"
        for folder in ("cnnpool", "configs", "launch", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if line.startswith(("from launch", "from configs", "import launch", "import configs"))
    ]
    assert wrong == []


def test_sweeps_may_name_jobs_as_a_checkout_does():
    program = (
        "from launch.jobs import Job; from launch.measurement import Measurement;"
        "import cnnpool.launch.jobs as jobs, cnnpool.launch.measurement as measurement;"
        "print(Job is jobs.Job, Measurement is measurement.Measurement)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert found.stdout.split() == ["True", "True"]


def test_a_wheel_has_one_top_level_package_with_all_files(tmp_path):
    try:
        newest = int(metadata.version("setuptools").partition(".")[0])
    except metadata.PackageNotFoundError:
        newest = 0
    if newest < 77:
        pytest.skip("setuptools is older than 77: pip install 'cnnpool[test]'")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "cnnpool", "configs", "launch"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy)
    program = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=copy, timeout=100
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(copy / done.stdout.split()[-1]) as wheel:
        files = set(wheel.namelist())
        (scripts,) = (name for name in files if name.endswith("entry_points.txt"))
        assert "cnnpool = cnnpool.__main__:main" in wheel.read(scripts).decode()
    tops = {name.partition("/")[0] for name in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cnnpool"}
    expected = {
        f"cnnpool/{path.relative_to(copy / 'cnnpool')}" for path in (copy / "cnnpool").rglob("*.py")
    }
    for folder in ("configs", "launch"):
        beside = (copy / folder).rglob("*.py")
        expected |= {f"cnnpool/{path.relative_to(copy)}" for path in beside}
    assert expected | {"cnnpool/py.typed", "cnnpool/launch/local_slurm.sh"} <= files


def test_configs_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {"arrays", "cifar10", "scale1d", "scale2d", "tfds"} <= set(config_files.names())
    ours = f"{config_files.FOLDER}/cifar10.py"
    assert config_files.located("cifar10:cpu") == f"{ours}:cpu"
    assert config_files.located("cifar10") == ours
    assert config_files.located("configs/cifar10.py:cpu") == f"{ours}:cpu"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/cifar10.py").write_text("")
    assert config_files.located("configs/cifar10.py:cpu") == "configs/cifar10.py:cpu"
    assert config_files.located("mine.py:a") == "mine.py:a"
    with pytest.raises(ValueError, match=r"--config is 'cifar11'.*tfds.*did you mean 'cifar10'"):
        config_files.located("cifar11:cpu")
    os.mkfifo(tmp_path / "pipe.py")  # the loader would wait for a writer
    (tmp_path / "configs/folder.py").mkdir()
    for place in ("pipe.py:cpu", "configs/folder.py"):
        with pytest.raises(ValueError, match="expected a Python file"):
            config_files.located(place)
