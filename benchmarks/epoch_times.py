"""What an epoch takes here: every classifier on CIFAR-10 and on 2-D scale detection.

    python -m benchmarks.epoch_times --data_dir=TFDS_FOLDER --out=benchmarks/epoch_times.md

From the folder of the checkout. A few training steps and one chunk of test images are timed, as
the trainer runs them, and an epoch is their number in the protocol times that: 390 steps and
10,000 test images on CIFAR-10, 8 and 4,096 on scale detection. The machine's other work shows in
the numbers. About 20 minutes on two cores, most of it compilation.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
import statistics
import sys
import time
from typing import NamedTuple

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from benchmarks import machine
from cnnpool.configs import cifar10, scale2d
from cnnpool.devices import runtime
from cnnpool.models import TRAINED_HERE
from cnnpool.training.classifier_setup import ClassifierTraining, setup

TRAINED_ON = {"cifar10": (50_000, 10_000), "scale2d": (1024, 4096)}
CHUNK = 500


class EpochTime(NamedTuple):
    """Of one network on one data set.

    Attributes:
      network: its name.
      data: name of the data set.
      compile_seconds: of the first training step and evaluation, execution included.
      step_seconds: of one step, batch 128.
      epoch_seconds: of training and test.
    """

    network: str
    data: str
    compile_seconds: float
    step_seconds: float
    epoch_seconds: float


def small_config(data: str, network: str, data_dir: str | None, *, width: float) -> ConfigDict:
    """The protocol's config with as few images as the timing needs.

    Args:
      data: "cifar10" or "scale2d".
      network: its name.
      data_dir: TFDS's folder.
      width: factor on the channels, where they scale.
    """
    module = {"cifar10": cifar10, "scale2d": scale2d}[data]
    config = module.get_config("paper").copy_and_resolve_references().unlock()
    config.model.name, config.model.width_factor = network, width
    config.data.train_size, config.data.test_size = 1024, CHUNK
    config.runtime.test_batch_size = CHUNK
    config.runtime.tensorboard = False
    if data == "cifar10":
        config.data.data_dir = data_dir
    return config.lock()


def timed(function, *arguments) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - began


def measure(
    training: ClassifierTraining, *, steps: int, repeats: int
) -> tuple[float, float, float]:
    """Seconds of compilation, of a step and of a test image."""
    recipe = training.recipe
    step = training.compile(recipe.steps, stacked=2, shared=4)
    test = training.compile(recipe.finish_epoch, stacked=2, shared=2)
    state = training.initial_state().networks
    train = (state, training.keys, training.train, 0, 0)
    finish = (state, training.keys, training.test, 0)
    compiling = timed(step, *train, 1) + timed(test, *finish)
    pace = statistics.median(timed(step, *train, steps) / steps for _ in range(repeats))
    return compiling, pace, statistics.median(timed(test, *finish) for _ in range(repeats)) / CHUNK


def measure_all(
    networks: Sequence[str],
    data: Sequence[str],
    data_dir: str | None,
    *,
    width: float,
    steps: int,
    repeats: int,
) -> Iterator[EpochTime]:
    """Every network on every data set."""
    cells = [(one, network) for one in data for network in networks]
    for one, network in tqdm(cells, desc="timing", unit="network"):
        training = setup(small_config(one, network, data_dir, width=width))
        compiling, pace, image = measure(training, steps=steps, repeats=repeats)
        train_images, test_images = TRAINED_ON[one]
        batches = train_images // training.config.training.batch_size
        yield EpochTime(network, one, compiling, pace, batches * pace + test_images * image)


def table(rows: Sequence[EpochTime], command: str, *, width: float) -> str:
    """Markdown."""
    head = [
        "# What an epoch takes",
        "",
        f"Made by `{command}` on {machine.describe()}.",
        "",
        f"One network, channels times {width:g} where they scale, float32, batch 128. An epoch is "
        "training and the test after it. First calls: of a step and of a chunk of test images, "
        "compilation and execution.",
        "",
        "| network | data | first calls, s | step, ms | images/s | epoch, s | protocol, hours |",
        "|---|---|---|---|---|---|---|",
    ]
    epochs = {"cifar10": 250, "scale2d": 300}
    return "\n".join(
        head
        + [
            f"| {r.network} | {r.data} | {r.compile_seconds:.0f} | {1e3 * r.step_seconds:.0f} | "
            f"{128 / r.step_seconds:.0f} | {r.epoch_seconds:.1f} | "
            f"{epochs[r.data] * r.epoch_seconds / 3600:.2f} |"
            for r in rows
        ]
        + [""]
    )


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", help="TFDS's folder; default: TFDS_DATA_DIR")
    parser.add_argument(
        "--data", default=",".join(TRAINED_ON), help="comma-separated (%(default)s)"
    )
    parser.add_argument("--width_factor", type=float, default=1.0, help="of channels (%(default)s)")
    parser.add_argument("--networks", default=",".join(TRAINED_HERE), help="comma-separated")
    parser.add_argument("--steps", type=int, default=2, help="steps a timing")
    parser.add_argument("--repeats", type=int, default=3, help="timings; the median counts")
    parser.add_argument("--out", type=Path, help="markdown file; default: print")
    arguments = parser.parse_args()
    runtime.one_cpu_device_per_core(1)
    rows = list(
        measure_all(
            arguments.networks.split(","),
            arguments.data.split(","),
            arguments.data_dir,
            width=arguments.width_factor,
            steps=arguments.steps,
            repeats=arguments.repeats,
        )
    )
    command = " ".join(["python -m benchmarks.epoch_times", *sys.argv[1:]])
    text = table(rows, command, width=arguments.width_factor)
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
