"""Devices and meshes."""

import os
import pwd
import subprocess
import sys

import jax
import pytest

from cnnpool import command_line
from cnnpool.configs import scale2d
from cnnpool.devices import runtime
from cnnpool.devices.divisors import largest_divisor
from cnnpool.launch import job_states, run_job
from cnnpool.launch.engines import local, slurm
from cnnpool.launch.jobs import Job
from cnnpool.runs import run_status, running


@pytest.mark.parametrize(
    ("number", "most", "expected"), [(4, 2, 2), (4, 3, 2), (5, 2, 1), (6, 8, 6), (3, 0, 1)]
)
def test_largest_divisor(number, most, expected):
    assert largest_divisor(number, at_most=most) == expected


@pytest.mark.parametrize(("seeds", "devices"), [(4, 4), (5, 5), (12, 6), (1, 1), (11, 1)])
def test_the_mesh_takes_as_many_of_eight_devices_as_divide_the_seeds(seeds, devices):
    mesh = runtime.seed_mesh(seeds)
    assert (mesh.axis_names, mesh.size) == (("seed",), devices)
    assert bool(runtime.compiler_options(mesh)) == (devices > 1)


def test_forced_host_devices_are_left_alone():
    runtime.one_cpu_device_per_core(2)
    assert len(jax.devices()) == 8


@pytest.fixture
def cache(monkeypatch):
    """The folder of the compilation cache, as a user's process finds it."""
    found = []
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(jax.config, "update", lambda *setting: found.append(setting))

    def folder():
        runtime.use_compilation_cache()
        return dict(found).get("jax_compilation_cache_dir")

    return folder


def test_compiled_programs_are_kept_at_home(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache().startswith(f"{tmp_path}/.cache/cnnpool/xla-")


def test_without_a_home_nothing_is_kept(cache, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert cache() is None
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert cache() is None


@pytest.mark.parametrize(("version", "kept"), [((0, 10, 2), True), ((0, 12, 0), False)])
def test_barriers_are_kept_where_the_compiler_can(version, kept, monkeypatch):
    monkeypatch.setattr(jax, "__version_info__", version)
    assert bool(runtime.with_barriers("cpu")) == kept
    assert not runtime.with_barriers("gpu")


def mesh_shape(n_seeds, *, seed=None, data=1, batch_size=128, devices=8):
    mesh = runtime.network_mesh(
        n_seeds, seed=seed, data=data, batch_size=batch_size, devices=jax.devices()[:devices]
    )
    assert mesh.axis_names == ("seed", "data")
    return mesh.devices.shape


@pytest.mark.parametrize(
    ("n_seeds", "data", "devices", "expected"),
    [
        (4, 1, 8, (4, 1)),
        (4, 4, 8, (2, 4)),
        (5, 2, 8, (1, 2)),
        (12, 1, 8, (6, 1)),
        (2, 8, 8, (1, 8)),
        (10, 1, 1, (1, 1)),
        (10, 2, 5, (2, 2)),
    ],
)
def test_a_mesh_of_networks_takes_as_many_devices_as_fit(n_seeds, data, devices, expected):
    assert mesh_shape(n_seeds, data=data, devices=devices) == expected


def test_a_mesh_of_networks_as_asked_for():
    assert mesh_shape(4, seed=1) == (1, 1)
    assert mesh_shape(4, seed=2, data=4) == (2, 4)
    assert (
        jax.devices()[:6]
        == runtime.network_mesh(3, seed=3, data=2, batch_size=2).devices.ravel().tolist()
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": 3}, "runtime.mesh.seed 3 must divide the number of seeds, 4"),
        ({"seed": 0}, "runtime.mesh.seed 0 must divide"),
        ({"data": 3}, "runtime.mesh.data 3 must divide training.batch_size 128"),
        ({"data": 0}, "runtime.mesh.data 0 must divide"),
        ({"seed": 4, "data": 4}, "seed 4 times runtime.mesh.data 4 needs 16 devices; there are 8"),
        ({"data": 16}, "seed 1 times runtime.mesh.data 16 needs 16 devices; there are 8"),
        ({"seed": 2, "devices": 1}, "needs 2 devices; there are 1"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        mesh_shape(4, **fields)


@pytest.mark.parametrize(
    ("seeds", "cores", "devices"), [(4, 2, 2), (5, 2, 5), (1, 8, 1), (12, 5, 6), (3, 1, 1)]
)
def test_cpu_devices_divide_the_networks_and_use_every_core(seeds, cores, devices):
    assert runtime.cpu_devices(seeds, cores=cores) == devices


@pytest.mark.parametrize(
    ("seeds", "per_network", "processes", "cores", "devices"),
    [
        (10, 1, 2, 4, 10),  # 5 a process; 5 networks side by side would leave one without
        (2, 2, 2, 4, 4),
        (4, 1, 2, 2, 2),
        (3, 1, 2, 4, 2),  # cannot be: each has one, and `seed_mesh` says what to do
        (1, 1, 2, 4, 2),
    ],
)
def test_every_process_has_as_many_devices(seeds, per_network, processes, cores, devices):
    found = runtime.cpu_devices(
        seeds, cores=cores, devices_per_network=per_network, processes=processes
    )
    assert found == devices


def test_processes_without_a_network_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(
        ValueError, match=r"6 networks leave devices of 2 processes idle.*the 8 dev"
    ):
        runtime.seed_mesh(6)
    assert runtime.seed_mesh(8).size == 8
    assert runtime.seed_mesh(6, jax.local_devices()).size == 6


def test_a_cpu_of_one_process_spreads_images_over_a_device_a_core(monkeypatch):
    monkeypatch.setattr(runtime, "cores", lambda: 3)
    assert runtime.image_mesh(2**20).size == 3
    assert runtime.image_mesh(2**28).size == 2  # copies of a large network
    assert runtime.image_mesh(2**30) is None
    monkeypatch.setattr(runtime, "cores", lambda: 1)
    assert runtime.image_mesh() is None
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert runtime.image_mesh(2**30).size == len(jax.devices())


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Backend 'cuda' is not there")])
def test_a_device_that_is_not_there_is_an_error_of_one_line(error, monkeypatch, tmp_path):
    def devices(*_):
        raise error

    def main(argv):
        jax.devices()

    assert runtime.device_error() is None
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setattr(sys, "argv", ["command"])
    message = rf"^error: JAX has no device \(JAX_PLATFORMS=cuda.*{error or 'no reason given'}"
    with pytest.raises(SystemExit, match=message):
        command_line.run(main)
    with pytest.raises(type(error)), running.running(tmp_path):
        main([])
    status = run_status.read(tmp_path)
    assert status.error.startswith("JAX has no device (JAX_PLATFORMS=cuda")


def test_another_error_keeps_its_traceback(monkeypatch):
    def main(argv):
        raise AssertionError("ours")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(AssertionError, match="ours"):
        command_line.run(main)


def test_a_job_for_a_gpu_does_not_run_on_a_cpu(tmp_path):
    spec = Job(scale2d.get_config()).write_spec(tmp_path)
    with pytest.raises(runtime.DeviceError, match="expected a GPU, but JAX finds only CPUs"):
        run_job.main([str(spec), "--accelerator"])
    assert run_status.read(tmp_path).state == run_status.FAILED
    assert not (tmp_path / "checkpoints").exists()
    asking = "launch.run_job --log --requeue --accelerator --list"
    assert asking in slurm.script(tmp_path, slurm.Options(gpus=1))
    assert "--accelerator" not in slurm.script(tmp_path, slurm.Options(gpus=0))
    for devices in ((), ("0",)):
        state = job_states.of(Job(scale2d.get_config()), tmp_path, {})
        told = local.Local(local.Options(devices=devices)).describe([state], tmp_path)
        assert ("--accelerator" in told) == bool(devices)


def test_the_cache_of_a_library_ends_with_it(tmp_path):
    """In a process whose home is empty; what is compiled before and after is not kept."""
    program = """
import pathlib, jax
from cnnpool.devices import runtime
count = lambda: len([*pathlib.Path.home().glob(".cache/cnnpool/*/*")])
jax.jit(lambda x: x + 1)(1.0)
with runtime.compilation_cache():
    jax.jit(lambda x: x * 3)(1.0)
inside = count()
jax.jit(lambda x: x * 4)(1.0)
print(inside > 0, count() == inside, jax.config.jax_compilation_cache_dir)
"""
    drop = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {k: v for k, v in os.environ.items() if k not in drop} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "True", "None"]
