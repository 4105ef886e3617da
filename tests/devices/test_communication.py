"""What compiled programs send between eight devices, against the calculation."""

import collections

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import pytest

from benchmarks import communication, scaling
from benchmarks.accelerators import MACHINES, all_gather_seconds, all_reduce_seconds
from cnnpool import models
from cnnpool.configs import scale2d
from cnnpool.devices import batch_sharding
from cnnpool.instruments import moment_programs
from cnnpool.instruments.activations import activation_shapes
from cnnpool.kernels.convolution import conv2d
from cnnpool.measuring import network
from cnnpool.training import classifier_setup
from cnnpool.training.variables import Variables
from tests import tiny_images
from tests.paths import ROOT

DEVICES = 8
BATCH = NamedSharding(jax.make_mesh((DEVICES,), ("data",), (AxisType.Auto,)), PartitionSpec("data"))


def check(config):
    """The programs of one step and of one evaluation against the calculation."""
    training = classifier_setup.setup(config)
    state = training.state_shapes()
    step = training.compile(training.recipe.steps, stacked=2, shared=4)
    finish = training.compile(training.recipe.finish_epoch, stacked=2, shared=2)
    programs = [
        step.lower(state, training.keys, training.train, 0, 0, 1),
        finish.lower(state, training.keys, training.test, 0),
    ]
    found = [communication.collectives(p.compile().as_text()) for p in programs]
    seed, data = training.mesh.devices.shape
    if data == 1:
        assert found == [{}, {}]
        return
    networks = min(len(config.seeds) // seed, config.runtime.seeds_per_batch)
    size = communication.size_of(training.recipe.model, training.train.images.shape[1:])
    # One chunk is in the text of the program; the others come round in a loop.
    of_evaluation = communication.evaluation_bytes(size, chunks=1, networks=networks)
    of_step, of_test = found
    assert of_step.pop("all-gather") == data * networks * communication.gathered_bytes(size)
    for one, count in (
        (of_step, networks * communication.step_bytes(size)),
        (of_test, of_evaluation),
    ):
        assert one.keys() == {"all-reduce"}
        assert one["all-reduce"] == pytest.approx(count, rel=0.05)


@pytest.mark.parametrize(("seed", "data"), [(1, 8), (2, 4), (8, 1)])
def test_a_step_and_an_evaluation_sum_and_move_nothing_else(monkeypatch, seed, data):
    tiny_images.install(monkeypatch)
    check(
        tiny_images.config(
            seeds=tuple(range(max(2, seed))),
            runtime__mesh__seed=seed,
            runtime__mesh__data=data,
            runtime__seeds_per_batch=2,
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11_bn"])
def test_steps_of_classifiers_sum_and_move_nothing_else(name):
    config = scale2d.get_config().unlock()
    config.model.name = name
    config.data.train_size, config.data.test_size = 256, 64
    config.runtime.mesh.data = DEVICES
    check(config.lock())


@pytest.mark.parametrize("groups", [1, 64])
def test_a_convolution_in_loops_over_images_keeps_them_where_they_are(groups):
    """Winograd's in chunks and the depthwise one, forward and backward."""
    x = jax.random.normal(jax.random.key(0), (16, 16, 16, 64))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 64 // groups, 64))

    def both(x, kernel):
        y, pullback = jax.vjp(lambda x, k: conv2d(x, k, padding=1, groups=groups), x, kernel)
        return y, pullback(jnp.cos(y))

    def seen(x, kernel):
        assert batch_sharding.shares(len(x)) == DEVICES
        assert batch_sharding.shares(len(x) + 1) == 1
        return both(x, kernel)

    with jax.set_mesh(BATCH.mesh):
        spread = jax.jit(seen).lower(jax.device_put(x, BATCH), kernel).compile()
        found = spread(jax.device_put(x, BATCH), kernel)
    moved = communication.collectives(spread.as_text())
    assert moved == {"all-reduce": kernel.nbytes}
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(both(x, kernel)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * float(jnp.abs(b).max()))


def test_a_measurement_sums_means_and_moves_nothing_else():
    model = models.build(scale2d.get_config().model)
    images = jnp.zeros((24, 28, 28, 1))
    variables = Variables(model.init(jax.random.key(0), images[:1], train=False)["params"], {})
    features = network.features(model, variables, rescaled=True)
    weights = jnp.ones(24)
    steps, finish = moment_programs.programs(BATCH.mesh, 3)
    activations = activation_shapes(features, images, 3)
    layers = moment_programs.nothing(moment_programs.layer_shapes(activations), 3, BATCH.mesh)()
    inputs = features, images, images[None], images[None], weights
    programs = steps.lower(layers, *inputs, 0, 3), finish.lower(layers, weights)
    found = collections.Counter()
    for program in programs:
        found.update(communication.collectives(program.compile().as_text()))
    assert found.keys() == {"all-reduce"}
    expected = communication.measurement_bytes(communication.size_of(model, (28, 28, 1)))
    assert found["all-reduce"] == pytest.approx(expected, rel=0.05)


def test_the_reader_sees_every_kind_of_collective():
    program = """
      %a = f32[2,3]{1,0} all-gather(%x), dimensions={0}
      %b = (f32[4]{0}, bf16[2,5]{1,0}) all-reduce(%y, %z), to_apply=%sum
      %c = u8[10]{0} collective-permute(%x), source_target_pairs={{0,1}}
      %d = f32[] all-reduce-start(%q), to_apply=%sum
      ROOT %e = f32[7]{0} add(%x, %x)
    """
    expected = {"all-gather": 24, "all-reduce": 16 + 20 + 4, "collective-permute": 10}
    assert communication.collectives(program) == expected


def test_sizes_of_a_network_counted_by_hand():
    size = communication.size_of(tiny_images.Tiny(3), (8, 8, 3))
    convolution, linear = 2 * 16 * 4 * 27, 2 * 64 * 3
    assert size.flops == convolution + linear
    assert size.parameters == 2 * 3 + 27 * 4 + 2 * 4 + 64 * 3 + 3
    assert (size.normalized_channels, size.norms, size.outputs) == (7, 2, 3)
    assert [one.entries for one in size.measured[:2]] == [192, 64]


def test_time_of_an_all_reduce():
    machine = MACHINES[-1]._replace(host=8, fast=400.0, slow=50.0)
    assert all_reduce_seconds(machine, 1, 800) == 0
    assert all_reduce_seconds(machine, 2, 800) == pytest.approx(800 / 400)
    inside = 2 * 7 / 8 * 800 / 400
    assert all_reduce_seconds(machine, 8, 800) == pytest.approx(inside)
    # A host's eight devices share what goes to the other three.
    assert all_reduce_seconds(machine, 32, 800) == pytest.approx(inside + 2 * 3 / 4 * 100 / 50)


def test_time_of_an_all_gather():
    machine = MACHINES[-1]._replace(host=8, fast=400.0, slow=50.0)
    assert all_gather_seconds(machine, 1, 800) == 0
    assert all_gather_seconds(machine, 8, 800) == pytest.approx(7 * 800 / 400)
    assert all_gather_seconds(machine, 32, 800) == pytest.approx(3 * 800 / 50 + 28 * 800 / 400)


@pytest.mark.slow
def test_the_page_is_what_its_command_writes():
    assert (ROOT / "docs" / "scaling.md").read_text() == scaling.document()
