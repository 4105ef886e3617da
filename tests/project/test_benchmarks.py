"""The benchmark of convolutions measures what it says; both commands write their tables."""

import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import convolution, machine
from benchmarks.convolution import BOTH, FORWARD, MIXED, XLA, Choice, Shape
from tests.paths import ROOT


def test_shapes_of_lenet_are_those_of_the_protocol():
    assert convolution.shapes_of("lenet") == [
        Shape(32, 3, 6, 5, 1, 0, 1),
        Shape(14, 6, 16, 5, 1, 0, 1),
    ]


@pytest.mark.parametrize("network", convolution.NETWORKS)
def test_every_choice_has_a_column(network):
    for shape in convolution.shapes_of(network):
        choice = convolution.chosen(shape, 128)
        assert {*choice} <= convolution.applicable(shape, 128).keys()


def test_a_choice_of_two_algorithms_is_measured_apart():
    choice = Choice("XLA", "tiles 1 x 4")
    assert choice.column(FORWARD) == "XLA"
    assert choice.column(BOTH) == MIXED
    assert Choice("XLA", "XLA").column(BOTH) == XLA


def test_every_run_of_the_loop_sees_the_outputs_of_the_run_before():
    # If it did not, the compiler would move the convolution out of the loop.
    shape = Shape(6, 4, 5, 3, 1, 1, 1)
    algorithm = convolution.applicable(shape, 2)[XLA]
    inputs = list(convolution.arrays(shape, 2))
    outputs = tuple(jnp.zeros(()) for _ in range(3))
    for _ in range(2):
        entry = jnp.clip(sum(a[(0,) * a.ndim] for a in outputs), -1, 1)
        inputs = [a.at[(0,) * a.ndim].set(entry) for a in inputs]
        x, kernel, dy = inputs
        outputs = algorithm.forward(x, kernel), *algorithm.backward(x, kernel, dy)
    found = convolution.repeated(algorithm, BOTH)(*convolution.arrays(shape, 2), 2)
    for ours, expected in zip(found, outputs, strict=True):
        # Float32 sums of at most 180 terms of order 1.
        np.testing.assert_allclose(ours, expected, atol=1e-4)


def run(name, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def cells(table):
    """The cells of every row but the headings."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return [row for row in rows if row[0] not in ("network", "image")]


@pytest.mark.slow
def test_deep_training_step_writes_a_row_of_positive_numbers(tmp_path):
    out = tmp_path / "table.md"
    options = ["--repeats=1", "--steps=1", "--batch=8", "--images=160", f"--out={out}"]
    run("deep_training_step", "--networks", "lenet", *options)
    ((name, steps, *rest),) = cells(out.read_text())
    assert (name, steps) == ("lenet", "1")
    numbers = [float(cell.strip("*").split(" ")[0]) for cell in rest if cell != "-"]
    assert len(numbers) == (10 if machine.has_torch() else 5)
    assert min(numbers) > 0


@pytest.mark.slow
def test_convolution_marks_the_choice_in_every_row(tmp_path):
    out = tmp_path / "table.md"
    options = ["--batch=2", "--repeats=1", "--seconds=0.001", f"--out={out}"]
    run("convolution", "--networks", "lenet", *options)
    rows = cells(out.read_text())
    assert len(rows) == 4
    assert [sum(cell.startswith("**") for cell in row) for row in rows] == [1, 1, 1, 1]
    assert min(float(row[-1]) for row in rows) >= 1


@pytest.mark.slow
def test_measurement_times_every_side_it_can(tmp_path):
    out = tmp_path / "table.md"
    run("measurement", "--repeats=1", "--images=4", "--batch=0", f"--out={out}")
    rows = [row for row in cells(out.read_text()) if row[0] != "program"]
    assert len(rows) == (5 if machine.has_torch() else 3) - bool(machine.gpu())
    assert min(float(cell.split(" ")[0]) for row in rows for cell in row[1:]) > 0
    assert rows[0][0] == "this code"
    assert rows[0][2].startswith("1.00")


@pytest.mark.slow
def test_large_images_measures_the_shuffled_network_too(tmp_path):
    out = tmp_path / "table.md"
    run("large_images", "--networks=alexnet", "--repeats=1", "--images=2", f"--out={out}")
    ((name, *rest),) = cells(out.read_text())
    assert name == "alexnet"
    assert "channel_shuffle" in out.read_text()
    numbers = [float(cell.split(" ")[0]) for cell in rest if cell not in ("", "no PyTorch")]
    assert len(numbers) == (5 if machine.has_torch() else 3)
    assert min(numbers) > 0
