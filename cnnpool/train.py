r"""Trains the networks of a config; if it is killed, run it again to continue.

    python -m cnnpool.train --config=scale1d:quick --workdir=runs/quick
    python -m cnnpool.train --config=configs/cifar10.py --config.model.name=lenet --workdir=runs/b

A config is FILE.py:PRESET, or NAME:PRESET for one that is installed with cnnpool. Any field can be
overridden with --config.SECTION.FIELD=VALUE; --config=CONFIG --help lists all fields.
The command writes config.json, metrics.csv (one row per network and epoch or block of epochs),
checkpoints/ and, with its progress, status.json to the working directory. On SIGTERM or SIGUSR1 it
saves within seconds and exits with status 75.

It can run as several processes that share the working directory, under `srun -n K`, on a TPU pod,
or each with --coordinator=HOST:PORT --num_processes=K --process_id=I, where I is 0 to K-1 and
process 0 runs on HOST. The mesh, config.runtime.mesh.seed x config.runtime.mesh.data, must use all
their devices.
"""

from collections.abc import Iterator, Sequence
import contextlib
from pathlib import Path
import sys

from cnnpool import command_line, config_files, extras
from cnnpool.errors import PreemptedError
from cnnpool.files import storage
from cnnpool.runs import lease, run_config, unread_fields

with extras.needed("train"):
    from absl import app, flags
    from ml_collections import ConfigDict, config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "the config, NAME:PRESET or FILE.py:PRESET, e.g. scale1d:quick"
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "directory of this run, on disk or gs://BUCKET/...; created if absent"
)
_PRUNE = flags.DEFINE_bool(
    "prune",
    False,
    "at the end, delete all checkpoints except the final one and checkpoint.keep_epochs",
)
_COMPILE_FOR = flags.DEFINE_string(
    "compile_for",
    None,
    "compile all programs of the run for these devices, print their memory, work and time bounds, "
    "and exit: a TPU and its shape, e.g. v5e:2x4 or v5e:2x4,slices=2 (needs libtpu, no "
    "TPU), or a number of CPU devices; needs no data and no --workdir",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "with several processes: HOST:PORT on which process 0 listens"
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "with several processes: index of this process, from 0"
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes",
    None,
    "number of processes; 1 without the other flags: do not join other processes",
)


_HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull", "-?")


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the command line; an error ends the process with one line, --help with status 0."""
    words = [word for word in argv if word not in _HELP]
    try:
        words = _with_config_located(words)
        rest = flags.FLAGS(words)
        config = _CONFIG.value
        if config is not None:
            config.to_dict()  # a missing file is noticed only here
    except (AttributeError, KeyError) as error:
        sys.exit(f"error: --config has no such field: {_one_line(error)}; {_more()}")
    except OSError as error:
        sys.exit(f"error: --config cannot be read: {str(error).splitlines()[-1].strip()}")
    except flags.Error as error:
        sys.exit(f"error: {_cause(error)}; {_more()}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    except (SyntaxError, ImportError) as error:
        sys.exit(f"error: --config is not a config: {type(error).__name__}: {error}")
    if len(words) < len(argv):
        print(_help(config), flush=True)
        sys.exit(0)
    return rest


def _with_config_located(words: Sequence[str]) -> list[str]:
    """The words with --config=NAME, or --config NAME, replaced by the path of the config."""
    found, flag = list(words), "--config"
    for place, word in enumerate(words):
        if word.startswith(f"{flag}="):
            found[place] = f"{flag}={config_files.located(word.removeprefix(f'{flag}='))}"
        elif word == flag and place + 1 < len(words):
            found[place + 1] = config_files.located(words[place + 1])
    return found


def _called() -> str:
    return command_line.called("cnnpool.train")


def _more() -> str:
    return f"{_called()} --config=CONFIG --help lists all fields"


def _one_line(error: BaseException) -> str:
    """The innermost message of nested errors, in one line."""
    inner = error.args[0]
    return _one_line(inner) if isinstance(inner, BaseException) else ". ".join(inner.split("\n"))


def _cause(error: flags.Error) -> str:
    """The message of a config file's ValueError, for an invalid preset, without the traceback."""
    text = str(error).strip()
    first, last = text.splitlines()[0], text.splitlines()[-1]
    if not last.startswith("ValueError: "):
        return text
    return f"{first.split(': Error')[0]}: {last.removeprefix('ValueError: ')}"


def _help(config: ConfigDict | None) -> str:
    """The flags, and the fields of a config with their values, in the form of flags."""
    _, _, ours = flags.FLAGS.main_module_help().strip().partition("\n")  # below the file's name
    parts = [(__doc__ or "").strip(), f"flags:\n{ours}"]
    if config is None:
        parts.append(
            "For the fields of a config and their values, use --help together with a config: "
            "--config=configs/cifar10.py:cpu --help"
        )
    else:
        parts += ["Fields of this config and their values:", "\n".join(_fields("config", config))]
    return "\n\n".join(parts)


def _fields(prefix: str, config: ConfigDict) -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _fields(f"{prefix}.{name}", value)
        else:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            yield f"  --{prefix}.{name}={shown}"


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments: {' '.join(argv[1:])}")
    for flag in (_CONFIG,) if _COMPILE_FOR.value else (_CONFIG, _WORKDIR):
        if not flag.value:
            sys.exit(f"error: --{flag.name} is required; see {_called()} --help")
    command_line.prepare()
    _check_readable(_CONFIG.value)
    try:
        # Slow to import, so only now; so below.
        from cnnpool.devices import distributed, numerics

        numerics.settle()
        if _COMPILE_FOR.value:
            _compile(_CONFIG.value, _COMPILE_FOR.value)
            return
        with distributed.ending_together():
            _train(_CONFIG.value, storage.path(_WORKDIR.value or ""))
    except PreemptedError as error:
        command_line.leave(error)
    except command_line.EXPECTED_ERRORS as error:
        command_line.leave_if_nobody_reads(error)
        sys.exit(f"error: {error}")
    except Exception as error:
        command_line.report_outside_cause(error)
        raise


def _compile(config: ConfigDict, name: str) -> None:
    from cnnpool.compiling import command, topology, training_programs

    topology.prepare(name)
    command.run(name, lambda devices: training_programs.programs(config, devices))


def _check_readable(config: ConfigDict) -> None:
    given = config_flags.get_override_values(flags.FLAGS[_CONFIG.name])
    try:
        unread_fields.check(config, given)
    except ValueError as error:
        sys.exit(f"error: --config.{error}")


def _train(config: ConfigDict, workdir: Path) -> None:
    from cnnpool.devices import distributed, runtime
    from cnnpool.measuring.while_training import train
    from cnnpool.training.checkpoints import CheckpointStore, checkpoint_directory

    command_line.check_writable(run_config.config_path(workdir))
    processes = distributed.join(
        coordinator=_COORDINATOR.value,
        process_id=_PROCESS_ID.value,
        num_processes=_NUM_PROCESSES.value,
    )
    runtime.use_compilation_cache()
    devices = run_config.devices_per_network(config)
    runtime.one_cpu_device_per_core(
        len(config.seeds), devices_per_network=devices, processes=processes
    )
    state = train(config, workdir)
    if _PRUNE.value:
        with contextlib.ExitStack() as stack:
            distributed.on_first(lambda: stack.enter_context(lease.hold(workdir)))
            store = stack.enter_context(CheckpointStore(checkpoint_directory(workdir)))
            store.delete_all_but([state.epoch, *config.checkpoint.keep_epochs])
    if distributed.is_first():
        for one in state.progress:
            print(one.summary())


if __name__ == "__main__":
    try:
        app.run(main, flags_parser=parse_flags)
    except BrokenPipeError as error:  # of --help
        command_line.leave_if_nobody_reads(error)
        raise
