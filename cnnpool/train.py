r"""Trains the networks of a config; killed at any moment, the same command goes on.

    python -m cnnpool.train --config=configs/scale1d.py:quick --workdir=runs/quick
    python -m cnnpool.train --config=configs/cifar10.py --config.model.name=lenet --workdir=runs/b

Any field of the config can be overridden with --config.SECTION.FIELD=VALUE.
Leaves config.json, metrics.csv (one row per network and epoch or block of epochs) and
checkpoints/ in the working directory, and in status.json how far it is. On SIGTERM or SIGUSR1
it saves, in seconds, and ends with exit status 75.

In several processes that share the working directory: under `srun -n K`, on a TPU pod, or each with
--coordinator=HOST:PORT --num_processes=K --process_id=I, where I is 0 to K-1 and process 0 runs on
HOST. The mesh, config.runtime.mesh.seed x config.runtime.mesh.data, must use all their devices.
"""

from collections.abc import Sequence
import contextlib
import os
from pathlib import Path
import sys

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from cnnpool import command_line
from cnnpool.devices import distributed, runtime
from cnnpool.errors import PreemptedError
from cnnpool.files import storage
from cnnpool.runs import lease, run_config
from cnnpool.training import fit
from cnnpool.training.checkpoints import CheckpointStore, checkpoint_directory

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "the config, FILE.py or FILE.py:PRESET, e.g. configs/scale1d.py:quick"
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "directory of this run, on a disk or gs://BUCKET/...; made if absent"
)
_PRUNE = flags.DEFINE_bool(
    "prune",
    False,
    "at the end, delete all checkpoints but the final one and checkpoint.keep_epochs",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "of several processes: HOST:PORT on which process 0 listens"
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "of several processes: which one this is")
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "of several processes: how many; 1 alone: joins nobody"
)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the command line; an unknown config field ends with the nearest name."""
    words = [
        f"--config={os.path.expanduser(word.removeprefix('--config='))}"
        if word.startswith("--config=~")
        else word
        for word in argv
    ]
    try:
        return app.parse_flags_with_usage(words)
    except (AttributeError, KeyError) as error:
        sys.exit(f"error: --config has no such field: {error.args[0]}")
    except OSError as error:
        sys.exit(f"error: --config cannot be read: {error}")


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    command_line.prepare()
    try:
        with distributed.ending_together():
            _train(_CONFIG.value, storage.path(_WORKDIR.value or ""))
    except PreemptedError as error:
        command_line.leave(error)
    except command_line.EXPECTED_ERRORS as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        command_line.leave_interrupted()
    except Exception:
        command_line.refuse_missing_devices()
        raise


def _train(config: ConfigDict, workdir: Path) -> None:
    processes = distributed.join(
        coordinator=_COORDINATOR.value,
        process_id=_PROCESS_ID.value,
        num_processes=_NUM_PROCESSES.value,
    )
    runtime.use_compilation_cache()
    deep = run_config.is_deep(config)
    devices = config.runtime.mesh.data if deep else 1
    runtime.one_cpu_device_per_core(
        len(config.seeds), devices_per_network=devices, processes=processes
    )
    state = fit.train(config, workdir)
    if _PRUNE.value:
        with contextlib.ExitStack() as stack:
            distributed.on_first(lambda: stack.enter_context(lease.hold(workdir)))
            store = stack.enter_context(CheckpointStore(checkpoint_directory(workdir)))
            store.delete_all_but([state.epoch, *config.checkpoint.keep_epochs])
    if distributed.is_first():
        for one in state.progress:
            print(one.summary())


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
