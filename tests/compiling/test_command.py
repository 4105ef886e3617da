"""`--compile_for`: the command, where it writes, and what it says of what does not fit."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from cnnpool.compiling import training_programs
from cnnpool.compiling.programs import Program, TooLargeError, compile_one
from cnnpool.configs import cifar10
from tests.paths import ROOT

# libtpu 0.0.52, of a convolution of 256 images of 224 x 224 x 128 for v5e:1x1.
HBM_OOM = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
    "required for HLO temporaries (24.50G) exceeds available HBM (15.75G). HLO module: jit_f.\n"
    "See https://openxla.org/xla/errors/error_1000 for more details."
)


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_nothing(tmp_path):
    command = [sys.executable, "-m", "cnnpool.train", "--config=scale1d:quick", "--compile_for=2"]
    environment = {
        **{k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2: 2 x cpu\n\nprogram ")
    rows = [line.split()[0] for line in done.stdout.splitlines()[3:]]
    assert rows == ["initialization", "training", "evaluation"]
    assert not list(tmp_path.iterdir())


@dataclasses.dataclass
class Refused:
    """A lowered program that the compiler refuses."""

    text: str

    def as_text(self):
        return self.text

    def compile(self):
        raise jax.errors.JaxRuntimeError(HBM_OOM)


def step_of(lower):
    """A classifier's training step with another program in its place."""
    programs = training_programs.programs(cifar10.get_config("cpu"), jax.devices()[:1])
    (step,) = (one for one in programs if one.name == "training")
    return dataclasses.replace(step, lower=lower)


def lowered():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1024, 512), (512, 256))]
    return jax.jit(lambda x, y: jnp.sin(x) @ y).lower(*shapes)


def said_of(program: Program, **memory):
    with pytest.raises(TooLargeError) as caught:
        compile_one(program, **memory)
    return str(caught.value)


@pytest.mark.parametrize("by", ["the compiler", "the chip"])
def test_what_does_not_fit_names_buffers_and_what_to_change(by):
    if by == "the compiler":
        text = said_of(step_of(lambda: Refused(lowered().as_text())))
        assert "(24.50G) exceeds available HBM (15.75G)" in text
    else:
        text = said_of(step_of(lowered), chip_memory=2.0**20)
        assert " MiB of 1.0 MiB." in text
    first, second = text.splitlines()[2:4]
    assert first == "  2.0 MiB, f32[1024, 512], stablehlo.sine"
    assert second == "  1.0 MiB, f32[1024, 256], stablehlo.dot_general"
    for cure in ("config.runtime.mesh.data", "config.training.batch_size", "bfloat16"):
        assert cure in text.splitlines()[-1]


def test_what_fits_is_not_refused():
    assert compile_one(step_of(lowered), chip_memory=2.0**30).memory.total < 2**30
