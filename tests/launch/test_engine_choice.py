"""Which engine flags name: no flag is passed over, and none has an impossible value."""

import argparse
import dataclasses

import pytest

from cnnpool.launch import engine_choice
from cnnpool.launch.engines import local, skypilot, slurm
from cnnpool.launch.engines.engine import EngineError


def of_flags(*flags):
    parser = argparse.ArgumentParser()
    engine_choice.add_arguments(parser)
    return engine_choice.of_arguments(parser.parse_args(flags))


def test_engines_take_their_own_options():
    assert of_flags("--engine=slurm", "--partition=p").options == slurm.Options(partition="p")
    assert of_flags("--devices=0,1").options == local.Options(devices=("0", "1"))
    assert of_flags("--engine=skypilot", "--no-spot").options == skypilot.Options(spot=False)
    with pytest.raises(ValueError, match="did you mean"):
        engine_choice.make("slrum", {})


@pytest.mark.parametrize("engine", engine_choice.ENGINES)
def test_what_was_noted_makes_the_same_engine(engine):
    made = of_flags(f"--engine={engine}")
    options = made.options
    again = engine_choice.make(engine, dataclasses.asdict(options))
    assert type(again) is type(made)
    assert again.options == options


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--partition=gpu"],
            "--partition is not an option of --engine=local.* use --engine=slurm",
        ),
        (["--setup=a.sh"], "use --engine=slurm or --engine=skypilot"),
        (["--no-spot"], "--spot is not an option of --engine=local"),
        (["--engine=slurm", "--devices=0"], "--devices is not an option of --engine=slurm"),
        (["--parallel=0"], "--parallel must be at least 1, got 0"),
        (["--devices=0,"], "--devices must be numbers of GPUs, 0,1; got '0,'"),
        (["--engine=slurm", "--tasks=0"], "--tasks must be at least 1"),
        (["--engine=slurm", "--gpus=-1"], "--gpus must be at least 0"),
        (["--engine=slurm", "--cpus=0"], "--cpus must be at least 1"),
        (["--engine=slurm", "--signal_seconds=-1"], "--signal_seconds must be at least 1"),
        (["--engine=slurm", "--setup=absent.sh"], "--setup=absent.sh: expected a file"),
        (["--engine=skypilot", "--nodes=2"], "A TPU slice counts as one machine"),
    ],
)
def test_other_options_are_refused(flags, message):
    with pytest.raises(EngineError, match=message):
        of_flags(*flags)
