"""The programs that measure the networks of a run or import, lowered from shapes without data."""

from collections.abc import Callable, Iterator, Sequence
import functools
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from cnnpool import models
from cnnpool.compiling.programs import Program
from cnnpool.devices import global_arrays, runtime
from cnnpool.devices.batch_sharding import DATA_AXIS
from cnnpool.importing import conversion
from cnnpool.instruments import batch_plan, moment_programs
from cnnpool.measuring import classifier_run, network
from cnnpool.measuring import transforms as named
from cnnpool.measuring.settings import Settings
from cnnpool.runs import run_config
from cnnpool.training import classifier_setup
from cnnpool.training.variables import Variables, variable_shapes

_SHRINK = "a smaller --batch_size, or more devices"


def programs(
    workdir: Path,
    settings: Settings,
    transforms: Sequence[str],
    devices: Sequence[jax.Device],
) -> list[Program]:
    """The large programs of a measurement on devices that need not be present.

    These compute the errors on the test images, and D, G, R of one network under each transform
    that has its own program. The programs that deform images or compute batch statistics are not
    included.

    Args:
      workdir: working directory of a run, or a folder from cnnpool.pack or cnnpool.import_weights;
        only its config is read.
      settings: settings of the measurement.
      transforms: names of transforms.
      devices: the devices over which images are distributed.

    Raises:
      ValueError: for simple CNNs on a ring, or if the config cannot run on these devices.
    """
    config = run_config.load(workdir)
    if run_config.is_on_ring(config):
        raise ValueError(
            "expected a run of image classifiers for --compile_for of cnnpool.eval; simple CNNs on "
            "a ring are measured by small programs. Omit --compile_for"
        )
    mesh = runtime.mesh_over(tuple(devices), {DATA_AXIS: len(devices)})
    image: tuple[int, ...] = conversion.IMAGE_SHAPE
    if run_config.is_imported(config):
        model = models.build(config.model)
        variables = variable_shapes(model, image)
        errors: list[Program] = []
    else:
        here = classifier_run.on_devices(config, _shared(devices))
        training = classifier_setup.described(here, devices)
        state = training.state_shapes()
        current = jax.tree.map(_of_one, state.current)
        model, variables = training.recipe.model, current
        image = training.test.images.shape[2:]
        errors = [_errors(training, state.current)]
    inputs = _inputs(settings, image)
    return errors + list(_of_network(model, variables, inputs, settings, transforms, mesh))


def _shared(devices: Sequence[jax.Device]) -> int | None:
    """The total number of devices of several processes; None for a single process."""
    several = len({device.process_index for device in devices}) > 1
    return len(devices) if several else None


def _of_one(stacked: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(stacked.shape[1:], stacked.dtype)


def _errors(training: classifier_setup.ClassifierTraining, variables: Variables) -> Program:
    tested = global_arrays.placed_shapes(
        np.zeros(len(training.config.seeds), np.int32), runtime.over_seeds(training.mesh)
    )
    return Program(
        "errors",
        "all test images",
        lambda: classifier_run.evaluator_program(training).lower(
            variables, training.keys, tested, training.test
        ),
        "a smaller runtime.test_batch_size in the run's config.json",
    )


def _inputs(settings: Settings, image: tuple[int, ...]) -> tuple[jax.ShapeDtypeStruct, ...]:
    """The shapes of the clean, deformed and noisy images."""
    clean = (settings.images, *image)
    copies = (settings.draws, *clean)
    return tuple(jax.ShapeDtypeStruct(shape, np.float32) for shape in (clean, copies, copies))


def _of_network(
    model: Any,
    variables: Variables,
    inputs: tuple[jax.ShapeDtypeStruct, ...],
    settings: Settings,
    transforms: Sequence[str],
    mesh: Mesh,
) -> Iterator[Program]:
    copies = 1 + 2 * settings.draws
    for name, features in _features(model, variables, transforms, copies).items():
        lowered = functools.cache(
            functools.partial(
                moment_programs.lowered,
                features,
                *inputs,
                batch_size=settings.batch_size,
                mesh=mesh,
            )
        )
        plan = batch_plan.plan_of(features, *inputs, batch_size=settings.batch_size, mesh=mesh)
        unit = f"a batch of {plan.size} images, of {plan.batches}"
        yield Program(f"measurement{name}", unit, functools.partial(_part, lowered, 1), _SHRINK)
        yield Program(f"its end{name}", "a call", functools.partial(_part, lowered, 2), _SHRINK)


def _part(lowered: Callable[[], tuple], number: int) -> Any:
    return lowered()[number]


def _features(
    model: Any, variables: Variables, transforms: Sequence[str], copies: int
) -> dict[str, Any]:
    """Functions from images to activations, for every transform that has its own program."""
    plain = network.features(model, variables, rescaled=True)
    found = {"": plain}
    if named.MEAN_ACTIVATIONS in transforms:
        name = named.MEAN_ACTIVATIONS
        found[f", {name}"] = named.transform_features(name, plain)
    if named.OWN_STATISTICS in transforms and variables.batch_stats:
        stacked = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((copies, *a.shape), a.dtype), variables.batch_stats
        )
        own = variables._replace(batch_stats=stacked)
        found[f", {named.OWN_STATISTICS}"] = network.features_by_copy(model, own)
    return found
