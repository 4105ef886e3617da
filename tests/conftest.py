"""Strict settings for all tests: eight fake devices, checked shapes, no rank promotion.

Compiling is most of what the suite does: programs are compiled without optimization, with code
generation that takes half the time, and kept in a folder that workers, subprocesses and the next
run share.
"""

import gc
import os
from pathlib import Path
import shutil
import sys

from tests.paths import ROOT
from tests.xla_flags import fast_compiling

os.environ["XLA_FLAGS"] = fast_compiling(devices=8)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".test_cache"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Without bytecode, every command in a subprocess compiles the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Libraries that the import hook, if it met them, would look for under another name, and compile.
import beartype.door  # noqa: F401
import flax  # noqa: F401
from jaxtyping import install_import_hook
import matplotlib.figure  # noqa: F401
import optax  # noqa: F401
import orbax.checkpoint  # noqa: F401
import tensorboardX  # noqa: F401
import xarray  # noqa: F401

# Links lead to configs/ and launch/, whose functions take what tests put in the place of engines.
checked = [path.stem for path in (ROOT / "cnnpool").iterdir() if not path.is_symlink()]
install_import_hook([f"cnnpool.{name}" for name in checked], "beartype.beartype")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

from cnnpool.configs import scale1d as scale1d_config
from cnnpool.training import fit

MAPPINGS = Path("/proc/self/maps")
DATA_VARIABLE = "CNNPOOL_DATA_DIR"


@pytest.fixture(autouse=True, scope="module")
def few_mappings():
    """Forgets compiled programs before their memory mappings reach Linux's limit of 65,530.

    A process beyond it dies without a message: one worker that runs all tests gets near it.
    """
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()


@pytest.fixture
def x64():
    """Float64 for the duration of a test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def data_dir() -> Path:
    """Real data, or a skip that says how to get it."""
    place = os.environ.get(DATA_VARIABLE)
    if not place:
        pytest.skip(f"no real data: set {DATA_VARIABLE} to the folder that holds it")
    return Path(place)


@pytest.fixture
def cifar10_dir(data_dir) -> Path:
    """TFDS's folder of CIFAR-10 as it was published."""
    return _there(data_dir / "cifar10_original")


@pytest.fixture
def jpeg_dir(data_dir) -> Path:
    """TFDS's folder of the same images as JPEG copies."""
    return _there(data_dir / "tfds")


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"{DATA_VARIABLE} has no folder {folder.name}")
    return folder


@pytest.fixture
def failing_restores():
    """Collects what Orbax leaves behind when a restore fails, before other tests see it.

    Go with the mark `filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")`.
    """
    yield
    gc.collect()


def make_tiny_config():
    """A run of a few seconds: two networks of width 16 and depth 3 on a ring of 12 pixels.

    Three layers of three taps see seven pixels, enough for a scale of three. Interpolates
    at epoch 50-80.
    """
    config = scale1d_config.get_config("quick")
    with config.unlocked():
        config.seeds = (0, 1)
        config.data.length = 12
        config.data.scale = 3
        config.data.gap = 1
        config.data.train_size = 16
        config.model.width = 16
        config.model.depth = 3
        config.training.learning_rate_per_channel = 0.1
        config.training.multiple = 2
        config.training.max_epochs = 600
        config.checkpoint.every_seconds = 0.0
        config.measurement.draws = 2
    return config


@pytest.fixture
def tiny_config():
    """A config that a test may change."""
    return make_tiny_config()


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """A finished tiny run; copy it before changing anything."""
    workdir = tmp_path_factory.mktemp("tiny") / "run"
    return workdir, fit.train(make_tiny_config(), workdir)


@pytest.fixture
def tiny_run(trained_once, tmp_path):
    """The working directory of a finished tiny run, one's own."""
    return shutil.copytree(trained_once[0], tmp_path / "reference")


@pytest.fixture
def reference(trained_once, tiny_run):
    """The final state of a run that was never stopped, in tmp_path / "reference"."""
    return trained_once[1]
