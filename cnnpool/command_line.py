"""What the commands share: a parser whose help is the module's docstring, and clean errors.

A command's module imports only what its flags need. What is slow to import (JAX, xarray, pandas,
Matplotlib, and all that uses them) `main` imports after parsing, then it settles the numerics, so
that --help and a wrong flag answer at once.
"""

import argparse
from collections.abc import Callable, Sequence
import importlib.util
import io
from logging import LogRecord
import os
from pathlib import Path
import select
import sys
from typing import NoReturn

from cnnpool import extras
from cnnpool.errors import EXIT_PIPE, EXIT_PREEMPTED, CnnpoolError, PreemptedError
from cnnpool.files import storage
from cnnpool.files.atomic_write import check_replaceable_by_file, check_writable_beside, target

EXPECTED_ERRORS = (CnnpoolError, ValueError, OSError)
# Packages that reach buckets; their errors have no common class.
_OF_BUCKETS = ("botocore", "aiobotocore", "s3fs", "gcsfs", "google", "aiohttp")
NETCDF = (".nc", ".nc4", ".netcdf", ".h5", ".hdf5")  # names of result files, the usual one first


def parser(module_doc: str, name: str) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as it stands."""
    return argparse.ArgumentParser(
        prog=called(name),
        description=module_doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def called(module: str) -> str:
    """How this command was called: by `cnnpool COMMAND`, or by its module."""
    return sys.argv[0] if sys.argv[0].startswith("cnnpool ") else f"python -m {module}"


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a job in several processes; see `cnnpool.devices.distributed.join`."""
    group = parser.add_argument_group(
        "several processes (found by themselves in srun, on TPU pods)"
    )
    group.add_argument("--coordinator", help="HOST:PORT on which process 0 listens")
    group.add_argument("--process_id", type=int, help="which one this is, from 0")
    group.add_argument(
        "--num_processes", type=int, help="how many there are; 1 alone: joins nobody"
    )


def prepare() -> None:
    """What every command does first, however it is started."""
    if importlib.util.find_spec("absl") is not None:
        from absl import logging

        logging.set_verbosity(logging.ERROR)
        logging.get_absl_logger().addFilter(_in_one_line)
    if isinstance(sys.stdout, io.TextIOWrapper):  # what cannot be printed ends no command
        sys.stdout.reconfigure(errors="replace")
    if "jax" in sys.modules:  # not in commands, see above
        from cnnpool.devices import numerics

        numerics.settle()


def _in_one_line(record: LogRecord) -> bool:
    """Takes the traceback from an error that Orbax logs: it is raised, too, and told at the end."""
    if f"{os.sep}orbax{os.sep}" in record.pathname:
        record.exc_info = record.exc_text = None
    return True


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Runs a command; an expected error becomes one message and exit status 1.

    A signal that asked to stop becomes one message and exit status 75. For Ctrl-C see
    `cnnpool.interrupts`.
    """
    prepare()
    try:
        main(sys.argv[1:])
        sys.stdout.flush()
    except PreemptedError as error:
        leave(error)
    except EXPECTED_ERRORS as error:
        leave_if_nobody_reads(error)
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        if (cure := extras.missing(error)) is None:
            raise
        sys.exit(f"error: {cure}")
    except Exception as error:
        report_outside_cause(error)
        raise


def leave_if_nobody_reads(error: BaseException) -> None:
    """Ends this process quietly where its output goes to `head`, which has read enough."""
    if isinstance(error, BrokenPipeError):
        poll = select.poll()
        poll.register(1)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            os._exit(EXIT_PIPE)


def report_outside_cause(error: Exception) -> None:
    """Ends this process with one line where JAX has no device, or a bucket lets nobody in."""
    if type(error).__module__.partition(".")[0] in _OF_BUCKETS:
        line = next(iter(str(error).strip().splitlines()), "no reason given")
        sys.exit(
            f"error: the bucket cannot be used: {type(error).__name__}: {line}; does it exist, and "
            "has this machine credentials for it?"
        )
    if "jax" not in sys.modules:
        return
    from cnnpool.devices import runtime

    if (missing := runtime.device_error()) is not None:
        sys.exit(f"error: {missing}")


def leave(error: PreemptedError, *, at_last: Callable[[], None] = lambda: None) -> NoReturn:
    """Ends this process at once, without waiting for what still computes in the background.

    Args:
      error: its message is printed.
      at_last: is called when all is printed; it may end the process itself.
    """
    print(error, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    at_last()
    os._exit(EXIT_PREEMPTED)


def numbers(kind: type) -> Callable[[str], tuple]:
    """A parser of comma-separated numbers, for `argparse`."""

    def parse(text: str) -> tuple:
        return tuple(kind(part) for part in text.split(","))

    parse.__name__ = f"comma-separated {kind.__name__}"  # in argparse's message
    return parse


def check_replaceable(path: Path, *, overwrite: bool, because: str) -> None:
    """Raises FileExistsError if `path` is there and may not be overwritten."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists, {because}; give --overwrite to replace it")


def netcdf_path(text: str) -> Path:
    """The name of a result file, for an argument parser.

    Raises:
      argparse.ArgumentTypeError: if it ends as files of another format do.
    """
    path = storage.path(text)
    if path.suffix not in ("", *NETCDF):
        raise argparse.ArgumentTypeError(
            f"{text} ends in {path.suffix}, and netCDF is written: expected a name that ends in "
            f"{NETCDF[0]}; `python -m cnnpool.export FILE.nc --to=csv` (npz, parquet) converts it"
        )
    return path


def check_writable(path: Path) -> None:
    """Raises OSError if a file cannot be written at `path`, before anything is computed for it."""
    if storage.is_remote(path):
        return
    path = target(path)
    check_replaceable_by_file(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written: you may not write into {folder}")
    if folder == path.absolute().parent:
        check_writable_beside(path)
