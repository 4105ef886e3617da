"""What is compiled before jobs go to a TPU."""

import pytest

from cnnpool.configs import scale2d
from cnnpool.launch import compile_check, job_states, sweep
from cnnpool.launch.jobs import Job, with_fields


@pytest.mark.parametrize(
    ("accelerators", "topology"),
    [
        ("tpu-v5e-8", "v5e:2x4"),
        ("tpu-v5litepod-1", "v5e:1x1"),
        ("tpu-v5p-8", "v5p:2x2x1"),
        ("tpu-v4-16", "v4:2x2x2"),
        ("H100:1", None),
        (None, None),
    ],
)
def test_slices_by_their_names(accelerators, topology):
    assert compile_check.topology_of(accelerators) == topology


@pytest.fixture
def states(tmp_path):
    config = with_fields(scale2d.get_config(), seeds=(0, 1, 2, 3, 4))
    other = with_fields(config, model__name="vgg11", seeds=(0,))
    jobs = [*Job(config).split(2), Job(other)]
    return [job_states.of(job, tmp_path, {}) for job in jobs]


def test_one_job_of_each_shape_is_compiled(states):
    """Seeds 0, 1 and 2, 3 are alike; seed 4 alone is another shape, VGG11 another network."""
    seen = []
    said = compile_check.check(states, "tpu-v5e-8", None, lambda *given: seen.append(given))
    assert [(config.seeds, topology) for config, topology in seen] == [
        ((0, 1), "v5e:2x4"),
        ((4,), "v5e:2x4"),
        ((0,), "v5e:2x4"),
    ]
    assert said.startswith("3 jobs, one of each shape, compiled for v5e:2x4")
    assert said.endswith("not run on a TPU")


def test_without_libtpu_it_is_said(states, monkeypatch):
    monkeypatch.setattr(compile_check.importlib.util, "find_spec", lambda name: None)
    assert "libtpu" in compile_check.check(states, "tpu-v5e-8", None)
    assert "not supported for several slices" in compile_check.check(states, "tpu-v5e-8", 2)
    assert "no TPU" in compile_check.check(states, "H100:1", None)


@pytest.mark.parametrize("flags", [[], ["--no_compile_check"]])
def test_a_sweep_compiles_before_it_submits(flags, tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(compile_check, "check", lambda *given: order.append("compiled") or "")
    monkeypatch.setattr(
        sweep.engine_choice.skypilot.SkyPilot, "start", lambda *given: order.append("submitted")
    )
    words = ["--sweep=fig5", "--preset=paper", "--engine=skypilot", f"--root={tmp_path}"]
    sweep.main([*words, "--accelerators=tpu-v5e-8", "--bucket=gs://mine", *flags])
    assert order == (["submitted"] if flags else ["compiled", "submitted"])
