r"""Mean and variance of batch norm over eight devices in one exchange: how exact in float32?

    python -m benchmarks.batch_statistics --out=benchmarks/batch_statistics.md

Inputs of every batch norm of packed networks in training mode, against float64. Networks on
CIFAR-10 need its images, where TFDS_DATA_DIR says.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np

from benchmarks import compiled_rows, machine
import cnnpool
from cnnpool import command_line
from cnnpool.files.atomic_write import write_text
from cnnpool.models import layers

_DEVICES = 8
_BATCH = 128
_MAP_AXES = (0, 1, 2)
_EPSILON = 1e-5  # of batch norm, to the variance
_FOLDERS = (
    "results/checkpoints/scale2d-vgg11_bn",
    "results/checkpoints/cifar10-vgg11_bn-cpu-jpeg",
)

Statistics = Callable[[Array, Array], tuple[Array, Array]]


class Input(NamedTuple):
    """Of one batch norm.

    Attributes:
      images: maps, float32.
      running: its running mean.
    """

    images: Array
    running: Array


def two_passes(x: Array, _: Array) -> tuple[Array, Array]:
    """As one device does; two exchanges where devices share the batch."""
    return layers._two_passes(x)


def mean_square(x: Array, _: Array) -> tuple[Array, Array]:
    """E x^2 - (E x)^2, both sums in one exchange."""
    mean = x.mean(_MAP_AXES)
    return mean, jnp.square(x).mean(_MAP_AXES) - jnp.square(mean)


def shifted(x: Array, running: Array) -> tuple[Array, Array]:
    """The same of x minus the running mean."""
    mean, var = mean_square(x - running[None, None, None], running)
    return mean + running, var


def of_devices(x: Array, _: Array) -> tuple[Array, Array]:
    """Two passes on every device, then one exchange of both: what `BatchNorm` does."""
    return layers._statistics(x)


WAYS: dict[str, Statistics] = {
    "two passes, two exchanges": two_passes,
    "mean square, one exchange": mean_square,
    "the same, shifted by the running mean": shifted,
    "of each device, one exchange (adopted)": of_devices,
}


def inputs_of(folder: str, stage: str) -> Iterator[Input]:
    """Of all batch norms of a packed network, for test images in training mode."""
    run = cnnpool.open(folder)
    (one, *_) = run.networks(stage)
    found: list[Input] = []

    def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if isinstance(module, layers.BatchNorm) and context.method_name == "__call__":
            found.append(Input(args[0], module.variables["batch_stats"]["mean"]))
        return call(*args, **kwargs)

    both = {"params": one.variables.params, "batch_stats": one.variables.batch_stats}
    images = run.normalize(run.test_images[:_BATCH])
    with nn.intercept_methods(watch):
        one.model.apply(both, images, train=True, mutable=["batch_stats"])
    yield from found


def far_from_zero() -> Iterator[Input]:
    """Standard normal entries around 1000."""
    x = 1000 + np.random.default_rng(0).standard_normal((_BATCH, 8, 8, 64))
    yield Input(jnp.asarray(x, jnp.float32), jnp.zeros(64))


def row(name: str, inputs: Sequence[Input]) -> list[str]:
    """The largest mean in standard deviations, and the largest error of each way's variance."""
    exact = [np.asarray(one.images, np.float64) for one in inputs]
    variances = [x.var(_MAP_AXES) + _EPSILON for x in exact]
    ratio = max(
        float((abs(x.mean(_MAP_AXES)) / np.sqrt(v)).max())
        for x, v in zip(exact, variances, strict=True)
    )
    errors = (
        max(
            float((abs(found(one)[1] + _EPSILON - v) / v).max())
            for one, v in zip(inputs, variances, strict=True)
        )
        for found in map(_shared, WAYS.values())
    )
    return [name, f"{ratio:.2g}", *(f"{error:.1e}" for error in errors)]


def _shared(statistics: Statistics) -> Callable[[Input], list[np.ndarray]]:
    """Computed by eight devices that share the batch."""
    mesh = jax.make_mesh((_DEVICES,), ("data",), (AxisType.Auto,))
    over = NamedSharding(mesh, PartitionSpec("data"))
    step = jax.jit(statistics)

    def found(one: Input) -> list[np.ndarray]:
        with jax.set_mesh(mesh):
            both = step(jax.device_put(np.asarray(one.images), over), np.asarray(one.running))
        return [np.asarray(a, np.float64) for a in both]

    return found


def text(rows: Sequence[Sequence[str]], command: str) -> str:
    """The page."""
    columns = ["network", "largest mean / std", *WAYS]
    return "\n".join(
        [
            "# Batch norm over eight devices: errors of the variance",
            "",
            f"Made by `{command}`; {machine.describe()}.",
            "",
            f"Inputs of all batch norms for a batch of {_BATCH} in training mode, float32 on eight "
            "CPU devices against float64: the largest error of a channel's variance, relative to "
            f"it plus {_EPSILON:g}.",
            "",
            *compiled_rows.markdown(columns, rows),
            "",
        ]
    )


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "benchmarks.batch_statistics")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown file to write")
    parser.add_argument("--networks", default=",".join(_FOLDERS), help="packed (%(default)s)")
    args: argparse.Namespace = parser.parse_args(argv)
    jax.config.update("jax_num_cpu_devices", _DEVICES)
    rows = [
        row(f"{Path(folder).name}, {stage}", list(inputs_of(folder, stage)))
        for folder in args.networks.split(",")
        for stage in ("init", "trained")
    ]
    rows.append(row("normal entries around 1000", list(far_from_zero())))
    flags = f" --networks={args.networks}" if args.networks != ",".join(_FOLDERS) else ""
    command = f"python -m benchmarks.batch_statistics --out={args.out}{flags}"
    write_text(args.out, text(rows, command))


if __name__ == "__main__":
    command_line.run(main)
