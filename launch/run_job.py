"""Runs one job of a sweep: trains its networks, then measures them; goes on where it was stopped.

    python -m launch.run_job JOB/spec-1a2b3c4d.json
    python -m launch.run_job --list=LIST.json --index=3

Engines of `launch.sweep` start this. Everything goes into the folder of the spec: checkpoints,
status.json, log.txt (with --log) and the result files measurement-*.nc.
"""

import argparse
from collections.abc import Sequence
import ctypes
import json
import os
from pathlib import Path
import signal
import sys

from cnnpool import command_line
from cnnpool.errors import EXIT_PREEMPTED, PreemptedError
from cnnpool.launch.engines import slurm
from cnnpool.launch.jobs import SweepError
from cnnpool.runs import run_status

RESTARTS = 20  # of a job with killed processes
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _chosen(args: argparse.Namespace) -> Path:
    if args.spec is not None:
        return args.spec
    try:
        return Path(json.loads(args.list.read_text("utf-8"))[args.index])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SweepError(f"{args.list} names no job {args.index}: {error}") from error


def _end_with_parent(parent: int) -> None:
    """Asks Linux for SIGTERM when the process dies that started this one."""
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) or os.getppid() != parent:
        raise SweepError("the launcher that started this job is gone")


def _after_several(folder: Path, status: int) -> int:
    """The exit status of a Slurm job of several processes that did not finish.

    They failed and said so, or one was killed (srun returns 128 + the signal), or all were asked
    to end or lost one with its machine (75); all but failed ones go back into the queue.
    """
    found = run_status.read(folder)
    if found is not None and found.state == run_status.FAILED:
        return 1
    ended = f"the processes ended with exit status {status}"
    if status > 128 and int(os.environ.get("SLURM_RESTART_COUNT", 0)) >= RESTARTS:
        print(f"{ended} after {RESTARTS} restarts; given up")
        return status
    print(f"{ended}; back into the queue, unless it is cancelled", flush=True)
    slurm.requeue_this_job()
    return EXIT_PREEMPTED


def _log_into(path: Path) -> None:
    """Appends all that this process prints to a file."""
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "launch.run_job")
    parser.add_argument("spec", type=Path, nargs="?", help="file in the job's folder")
    parser.add_argument("--list", type=Path, help="JSON list of such files, instead")
    parser.add_argument("--index", type=int, help="which of the list, from 0")
    parser.add_argument("--log", action="store_true", help="print into log.txt in the job's folder")
    parser.add_argument("--parent", type=int, help="process id; stop when it dies (Linux)")
    parser.add_argument("--accelerator", action="store_true", help="refuse to run on CPUs alone")
    parser.add_argument(
        "--requeue", action="store_true", help="a signal puts the Slurm job back into the queue"
    )
    parser.add_argument(
        "--after",
        type=int,
        metavar="STATUS",
        help="run nothing: several processes ended with this exit status; unless they failed, the "
        "Slurm job goes back into the queue",
    )
    args = parser.parse_args(argv)
    if (args.spec is None) == (args.list is None or args.index is None):
        parser.error("give either SPEC or both --list and --index")
    if args.parent is not None:
        _end_with_parent(args.parent)
    spec = _chosen(args)
    if args.log:
        _log_into(spec.parent / "log.txt")
    if args.after is not None:
        sys.exit(_after_several(spec.parent, args.after))
    # Slow to import, so only now.
    from cnnpool.devices import numerics
    from cnnpool.launch import job_run

    numerics.settle()
    try:
        job_run.run(spec, accelerator=args.accelerator)
    except PreemptedError as error:
        if args.requeue:  # with it Slurm may end this process, before it says another word
            command_line.leave(error, at_last=slurm.requeue_this_job)
        raise


if __name__ == "__main__":
    command_line.run(main)
