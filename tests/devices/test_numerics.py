"""Settings of JAX that a user's environment brings along."""

import json
import re
import subprocess
import sys

from flax.configurations import config as flax_config
import jax
from ml_collections import ConfigDict
import pytest

from cnnpool.devices import numerics
from cnnpool.measuring import measure, runs
from cnnpool.measuring.evaluation import evaluate
from cnnpool.measuring.exporting import parameter_arrays
from cnnpool.measuring.packing import pack
from cnnpool.measuring.run_outputs import predict
from cnnpool.runs import provenance
from cnnpool.training import fit

OTHERS = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "3",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_ALLOW_F16_REDUCTIONS": "0",
    "JAX_SOFTMAX_CUSTOM_JVP": "1",
    "FLAX_FIX_RNG_SEPARATOR": "1",
    "FLAX_RETURN_FROZENDICT": "1",
}
SWITCHES = {
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_TRANSFER_GUARD_HOST_TO_DEVICE": "disallow_explicit",
    "JAX_TRANSFER_GUARD_DEVICE_TO_DEVICE": "disallow",
    "JAX_TRANSFER_GUARD_DEVICE_TO_HOST": "disallow",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEBUG_INFS": "1",
    "JAX_NO_TRACING": "1",
    "JAX_ARRAY_GARBAGE_COLLECTION_GUARD": "fatal",
}
# Prints whether other settings are refused, then a command's numbers and their types.
PROGRAM = """
import sys
from flax import linen
import jax, jax.numpy as jnp
from cnnpool import command_line
from cnnpool.devices import numerics

try:
    numerics.check_settings()
except ValueError as error:
    print(str(error).count(" is "), file=sys.stderr)

def main(argv):
    key = jax.random.key(1)
    parameters = linen.Dense(2).init(key, jnp.ones((1, 3)))
    print(type(parameters), jnp.ones(3).dtype, jnp.int8(1) + jnp.float32(1))
    print(parameters, jax.random.uniform(key, (3,)), jnp.full((2, 2), 1 / 3) @ jnp.full(2, 1 / 3))

command_line.run(main)
"""


def numbers(environment):
    base = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=base | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def test_a_command_s_numbers_do_not_depend_on_the_environment():
    plain, other = numbers({}), numbers(OTHERS)
    assert other.stdout == plain.stdout
    assert plain.stderr == ""
    refused, *said = other.stderr.splitlines()
    assert int(refused) == len(OTHERS)
    for name, value in OTHERS.items():
        assert any(line.startswith(f"{name}={value} is ignored") for line in said), name


def test_switches_for_finding_errors_end_no_command():
    program = """
import jax, jax.numpy as jnp
from cnnpool import command_line
command_line.run(lambda argv: print(1 + jnp.ones(3), jnp.log(jnp.zeros(2)) - jnp.inf * 0))
"""
    words = [sys.executable, "-c", program]
    base = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(
        words, env=base | SWITCHES, capture_output=True, text=True, timeout=120, check=True
    )
    assert found.stdout == "[2. 2. 2.] [nan nan]\n"
    said = [
        f"{name}={value} is ignored, because it would end this program; it is for debugging"
        for name, value in SWITCHES.items()
    ]
    assert found.stderr.splitlines() == said


def test_without_compilation_it_is_said_that_it_takes_long(capsys):
    with jax.disable_jit():
        numerics.settle()
    assert "nothing is compiled, so everything takes far longer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: fit.train(ConfigDict(), folder),
        lambda folder: evaluate(folder, folder / "a.nc", stages=["init"], transforms=["none"]),
        lambda folder: predict(folder, folder / "x.npy"),
        lambda folder: pack(folder, folder / "packed"),
        lambda folder: parameter_arrays(folder, "trained"),
    ],
)
def test_a_library_refuses_settings_of_others_and_changes_none(call, tmp_path):
    message = "jax_default_prng_impl is rbg, not threefry2x32. Call cnnpool.devices.numerics.settle"
    with jax.default_prng_impl("rbg"), pytest.raises(ValueError, match=message):
        call(tmp_path)
    flipped = flax_config.temp_flip_flag("fix_rng_separator", True)
    with flipped, pytest.raises(ValueError, match="flax_fix_rng_separator is True, not False"):
        call(tmp_path)
    numerics.check_settings()


def test_other_variables_that_change_the_rounding_are_recorded(monkeypatch):
    for name in ("XLA_FLAGS", "JAX_DISABLE_JIT"):
        monkeypatch.delenv(name, raising=False)
    assert "environment" not in provenance.record()
    assert numerics.recorded({"seed": 0}) == {"seed": 0}
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv(
        "XLA_FLAGS",
        "--xla_force_host_platform_device_count=8 --xla_cpu_enable_fast_math=true --xla_dump_to=/x",
    )
    found = {"NVIDIA_TF32_OVERRIDE": "0", "XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}
    assert json.loads(provenance.record()["environment"]) == found
    assert numerics.recorded({"seed": 0}) == {"seed": 0, "environment": found}


def test_a_run_that_goes_on_with_another_compiler_says_so(monkeypatch, tmp_path, capsys):
    path = tmp_path / "provenance.json"
    for flags, said in [
        ("", ""),
        ("--xla_cpu_enable_fast_math=true", r"change rounding: {} -> .*fast_math"),
        ("--xla_cpu_enable_fast_math=true", ""),
        ("", "fast_math=true.* -> {}"),
        ("--xla_dump_to=/x", ""),
    ]:
        monkeypatch.setenv("XLA_FLAGS", flags)
        provenance.append_to(path)
        assert re.search(said or "^$", capsys.readouterr().err), flags
    assert len(json.loads(path.read_text())) == 3


@pytest.mark.parametrize("flags", ["", "--xla_cpu_enable_fast_math=true"])
def test_measurements_under_another_compiler_differ(flags, tiny_run, tiny_config, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    before = measure.record(runs.open(tiny_run), ["init"], ["none"])
    monkeypatch.setenv("XLA_FLAGS", flags)
    after = measure.record(runs.open(tiny_run), ["init"], ["none"])
    assert (before == after) == (not flags)


def test_a_command_without_jax_does_not_load_it():
    program = "import sys; from cnnpool import command_line\ncommand_line.run(lambda argv: None)"
    program += "\nassert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
