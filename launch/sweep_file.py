"""Loads sweeps: items of the paper, or Python files with a function `jobs(preset)`."""

import argparse
from collections.abc import Callable, Iterable, Iterator
import contextlib
import getpass
import hashlib
import importlib.util
import os
from pathlib import Path
import sys
import traceback
from types import ModuleType

from cnnpool.files import storage
from cnnpool.launch import unread_parameters
from cnnpool.launch.items import IMPORTED, TRAINED
from cnnpool.launch.jobs import Job, SweepError, unique


def load(path: Path, preset: str, *, seeds_per_job: int | None, data_dir: str | None) -> list[Job]:
    """Loads the jobs of a sweep, without duplicates.

    Args:
      path: an item of `launch.items`, such as "fig5", or a Python file, whose code is run.
      preset: preset of the item, or argument of the file's function `jobs`.
      seeds_per_job: most seeds that one job trains; None: all seeds of a config.
      data_dir: the data folder, for jobs that read their data from one.

    Raises:
      SweepError: if the item has no such preset, or the file raises an exception, has no function
        `jobs`, or this function does not return jobs.
    """
    jobs_of = _jobs_function(path)
    with _failing_in_one_line(path):
        found = jobs_of(preset)
        found = list(found) if isinstance(found, Iterable) else []
    if not found or not all(isinstance(job, Job) for job in found):
        raise SweepError(f"{path}: jobs({preset!r}) must return a list of cnnpool.launch.jobs.Job")
    if told := unread_parameters.merged(found):
        print(f"{path}: {told}", file=sys.stderr)
    split = [part for job in found for part in job.split(seeds_per_job)]
    return unique(job.with_data_dir(data_dir) for job in split)


def _jobs_function(path: Path) -> Callable[[str], Iterable[Job]]:
    if str(path) in TRAINED:
        return TRAINED[str(path)].jobs
    module = _module(path)
    if not callable(getattr(module, "jobs", None)):
        raise SweepError(f"{path} has no function jobs(preset); see launch/sweeps/grid.py")
    return module.jobs


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        if path.stem in IMPORTED and path.stem not in TRAINED:
            cure = f"its networks are imported: launch.reproduce {path.stem} --preset=imagenet"
        elif path.stem in TRAINED:  # items used to have files of these names
            cure = f"use the name of the item, --sweep={path.stem}"
        else:
            cure = f"expected a Python file, or an item of the paper: {', '.join(TRAINED)}"
        raise SweepError(f"no sweep {path}; {cure}")
    name = f"sweep_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise SweepError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # required by dataclasses and pickle
    with _failing_in_one_line(path):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _failing_in_one_line(path: Path) -> Iterator[None]:
    """Converts any exception of a sweep's code to a SweepError that names the line."""
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path.absolute())]
        if isinstance(error, SyntaxError) and error.filename == str(path.absolute()):
            lines, error = [error.lineno], SyntaxError(error.msg)
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        what = " ".join(str(error).split())
        kind = "" if isinstance(error, SweepError) else f"{type(error).__name__}: "
        raise SweepError(f"{where}: {kind}{what}") from error


def _root(text: str) -> Path:
    place = storage.on_disk(text)
    if "\\" in str(place.absolute()):
        raise argparse.ArgumentTypeError(
            f"expected no backslash, which TensorStore (for checkpoints) and Slurm interpret; got "
            f"{text!r}"
        )
    return place


def user_name() -> str:
    """The user's name, or the user's id if there is no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        return str(os.getuid())


def add_root(parser: argparse.ArgumentParser, *also: str) -> None:
    """Adds the flag --root, and other names for it."""
    parser.add_argument(
        "--root",
        *also,
        type=_root,
        default=Path("runs/jobs") / user_name(),
        help="folder for one subfolder per job; on a cluster, on the shared file system "
        "(%(default)s)",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that choose a sweep and its folder."""
    parser.add_argument(
        "--sweep",
        type=storage.on_disk,
        required=True,
        help="an item of the paper, such as fig5, or your own Python file",
    )
    parser.add_argument(
        "--preset", default="cpu", help="preset of the sweep: cpu, paper (%(default)s)"
    )
    parser.add_argument(
        "--seeds_per_job", type=int, help="most seeds that one job trains (all of a config)"
    )
    parser.add_argument("--data_dir", help="TFDS's folder with CIFAR-10 (TFDS_DATA_DIR)")
    add_root(parser)


def of_arguments(args: argparse.Namespace) -> list[Job]:
    """The jobs of the sweep chosen by the flags of `add_arguments`.

    Raises:
      SweepError: as `load` does, or if --data_dir is given and no job reads data from a folder.
    """
    place = args.data_dir
    jobs = load(args.sweep, args.preset, seeds_per_job=args.seeds_per_job, data_dir=place)
    if place is not None and not any("data_dir" in job.config.data for job in jobs):
        names = ", ".join(sorted({job.config.data.name for job in jobs}))
        raise SweepError(
            f"expected no --data_dir for {names}, whose images are generated; got {place}. Omit "
            "--data_dir"
        )
    return jobs
