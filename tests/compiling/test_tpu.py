"""Steps and measurements, compiled for eight chips of v5e by the TPU's own compiler."""

import jax
import pytest

pytest.importorskip(
    "libtpu", reason="the TPU's compiler is not installed: make tpu_compile (137 MB)"
)

from cnnpool.compiling import measurement_programs, topology, training_programs
from cnnpool.compiling.programs import compile_one
from cnnpool.configs import cifar10
from cnnpool.devices import runtime
from cnnpool.launch.jobs import with_fields
from cnnpool.measuring.settings import Settings
from cnnpool.runs import run_config

pytestmark = pytest.mark.slow
TOPOLOGY = "v5e:2x4"


@pytest.fixture(scope="module")
def target():
    kept = jax.config.jax_enable_compilation_cache
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("XLA_FLAGS")  # libtpu reads them, too, and aborts on those that it lacks
        topology.prepare(TOPOLOGY)
        yield topology.target(TOPOLOGY)
    jax.config.update("jax_enable_compilation_cache", kept)


def config_of(name, seed):
    """On `seed` x 8 / `seed` chips."""
    return with_fields(
        cifar10.get_config("paper"),
        seeds=tuple(range(seed)),
        model__name=name,
        model__width_factor=0.25 if name == "vgg11_bn" else 1.0,
        runtime__mesh__seed=seed,
        runtime__mesh__data=8 // seed,
    )


def check(program, target):
    """Collectives on a chip whose memory is enough: all-reduces, all-gathers of statistics."""
    found = compile_one(program)
    assert found.memory.total < target.chip.memory
    assert found.cost.flops > 0
    both = (*found.cost.collectives, *found.around.collectives)
    assert {one.kind for one in both} <= {"all-reduce", "all-gather"}
    return sum(one.count for one in both)


@pytest.mark.parametrize(("name", "seed"), [("lenet", 8), ("lenet", 1), ("vgg11_bn", 1)])
def test_a_step(name, seed, target):
    programs = training_programs.programs(config_of(name, seed), target.devices)
    (step,) = (one for one in programs if one.name == "training")
    assert (check(step, target) == 0) == (seed == 8)


@pytest.mark.parametrize("name", ["lenet", "vgg11_bn"])
def test_a_measurement(name, target, tmp_path):
    run_config.config_path(tmp_path).write_text(run_config.to_json(config_of(name, 1)))
    programs = measurement_programs.programs(tmp_path, Settings(), ("none",), target.devices)
    (measurement,) = (one for one in programs if one.name == "measurement")
    assert check(measurement, target) > 0


def test_meshes_over_slices_keep_a_batch_inside_a_slice(target):
    devices = topology.target("v5e:2x2,slices=2").devices
    mesh = runtime.network_mesh(2, seed=2, data=4, batch_size=128, devices=devices[::-1])
    slices = [[device.slice_index for device in row] for row in mesh.devices]
    assert slices == [[0] * 4, [1] * 4]
    step, *_ = (
        one
        for one in training_programs.programs(config_of("lenet", 2), devices)
        if one.name == "training"
    )
    kinds = {one.kind for one in compile_one(step).cost.collectives}
    assert kinds == {"all-reduce"}
