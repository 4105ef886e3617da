"""Shared by all commands: a parser whose help is the module's docstring, and clean errors.

So that --help and errors in flags are instant, a command's module imports only what its flags need.
`main` imports everything slow (JAX, xarray, pandas, Matplotlib, and whatever uses them) after
parsing, and then calls `numerics.settle`.
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
# Packages that access buckets; their errors have no common class.
_OF_BUCKETS = ("botocore", "aiobotocore", "s3fs", "gcsfs", "google", "aiohttp")
NETCDF = (".nc", ".nc4", ".netcdf", ".h5", ".hdf5")  # suffixes of result files, the usual one first


def parser(module_doc: str, name: str) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring verbatim as its description."""
    return argparse.ArgumentParser(
        prog=called(name),
        description=module_doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def called(module: str) -> str:
    """How this command was called: `cnnpool COMMAND` or `python -m MODULE`."""
    return sys.argv[0] if sys.argv[0].startswith("cnnpool ") else f"python -m {module}"


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a job in several processes; see `cnnpool.devices.distributed.join`."""
    group = parser.add_argument_group(
        "several processes (detected automatically in srun and on TPU pods)"
    )
    group.add_argument("--coordinator", help="HOST:PORT on which process 0 listens")
    group.add_argument("--process_id", type=int, help="index of this process, from 0")
    group.add_argument(
        "--num_processes",
        type=int,
        help="number of processes; 1 without the other flags: do not join other processes",
    )


def prepare() -> None:
    """The first step of every command, however it is started."""
    if importlib.util.find_spec("absl") is not None:
        from absl import logging

        logging.set_verbosity(logging.ERROR)
        logging.get_absl_logger().addFilter(_in_one_line)
    if isinstance(sys.stdout, io.TextIOWrapper):  # unprintable characters are not errors
        sys.stdout.reconfigure(errors="replace")
    if "jax" in sys.modules:  # commands themselves import it later, see above
        from cnnpool.devices import numerics

        numerics.settle()


def _in_one_line(record: LogRecord) -> bool:
    """Drops tracebacks from the errors that Orbax logs, as it also raises them."""
    if f"{os.sep}orbax{os.sep}" in record.pathname:
        record.exc_info = record.exc_text = None
    return True


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Runs a command; an expected error ends it with a message and exit status 1.

    A signal that asks to stop ends it with a message and exit status 75. For Ctrl-C see
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
    """Ends this process quietly if its output goes to `head`, which has read enough."""
    if isinstance(error, BrokenPipeError):
        poll = select.poll()
        poll.register(1)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            os._exit(EXIT_PIPE)


def report_outside_cause(error: Exception) -> None:
    """Ends this process with a message if JAX has no device, or a bucket refuses access."""
    if type(error).__module__.partition(".")[0] in _OF_BUCKETS:
        line = next(iter(str(error).strip().splitlines()), "no reason given")
        sys.exit(
            f"error: the bucket cannot be used: {type(error).__name__}: {line}; does it exist, and "
            "does this machine have credentials for it?"
        )
    if "jax" not in sys.modules:
        return
    from cnnpool.devices import runtime

    if (missing := runtime.device_error()) is not None:
        sys.exit(f"error: {missing}")


def leave(error: PreemptedError, *, at_last: Callable[[], None] = lambda: None) -> NoReturn:
    """Ends this process at once, without waiting for computations in the background.

    Args:
      error: the error whose message is printed.
      at_last: called after all output; it may end the process itself.
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
    """Raises FileExistsError if `path` is a file and `overwrite` is False."""
    if path.is_file() and not overwrite:
        raise FileExistsError(f"{path} exists, {because}; use --overwrite to replace it")


def netcdf_path(text: str) -> Path:
    """Parses the name of a result file, for an argument parser.

    Raises:
      argparse.ArgumentTypeError: if its suffix belongs to another format.
    """
    path = storage.path(text)
    if path.suffix not in ("", *NETCDF):
        raise argparse.ArgumentTypeError(
            f"expected a netCDF file, with the suffix {NETCDF[0]}; got {text}. To convert it to "
            "other formats: `python -m cnnpool.export FILE.nc --to=csv` (or npz, parquet)"
        )
    return path


def check_writable(path: Path) -> None:
    """Raises OSError if no file can be written at `path`; to check before a long computation."""
    if storage.is_remote(path):
        return
    path = target(path)
    check_replaceable_by_file(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written: no permission to write to {folder}")
    if folder == path.absolute().parent:
        check_writable_beside(path)
