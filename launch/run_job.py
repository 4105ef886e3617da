"""Runs one job of a sweep: trains and measures its networks; continues where it was stopped.

    python -m launch.run_job JOB/spec-1a2b3c4d.json
    python -m launch.run_job --list=LIST.json --index=3

The engines of `launch.sweep` start this command. It writes everything to the folder of the spec:
checkpoints, status.json, log.txt (with --log) and the result files measurement-*.nc.
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

RESTARTS = 20  # limit for a job whose processes are killed
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _chosen(args: argparse.Namespace) -> Path:
    if args.spec is not None:
        return args.spec
    try:
        return Path(json.loads(args.list.read_text("utf-8"))[args.index])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SweepError(f"{args.list} has no job {args.index}: {error}") from error


def _end_with_parent(parent: int) -> None:
    """Asks Linux to send SIGTERM to this process when its parent dies."""
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) or os.getppid() != parent:
        raise SweepError("the launcher that started this job is gone")


def _after_several(folder: Path, status: int) -> int:
    """Requeues an unfinished Slurm job of several processes unless it failed; its exit status.

    Either the processes failed and recorded it, or one was killed (srun returns 128 + the signal),
    or all were asked to stop or lost one with its machine (75).
    """
    found = run_status.read(folder)
    if found is not None and found.state == run_status.FAILED:
        return 1
    ended = f"the processes ended with exit status {status}"
    if status > 128 and int(os.environ.get("SLURM_RESTART_COUNT", 0)) >= RESTARTS:
        print(f"{ended} after {RESTARTS} restarts; giving up")
        return status
    print(f"{ended}; requeued unless it was cancelled", flush=True)
    slurm.requeue_this_job()
    return EXIT_PREEMPTED


def _log_into(path: Path) -> None:
    """Redirects all output of this process to a file, in append mode."""
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "launch.run_job")
    parser.add_argument("spec", type=Path, nargs="?", help="spec file in the job's folder")
    parser.add_argument("--list", type=Path, help="instead of spec: a JSON list of spec files")
    parser.add_argument("--index", type=int, help="index in --list, from 0")
    parser.add_argument(
        "--log", action="store_true", help="redirect output to log.txt in the job's folder"
    )
    parser.add_argument("--parent", type=int, help="stop when this process id dies (Linux)")
    parser.add_argument(
        "--accelerator", action="store_true", help="fail if there is no accelerator"
    )
    parser.add_argument("--requeue", action="store_true", help="requeue the Slurm job on a signal")
    parser.add_argument(
        "--after",
        type=int,
        metavar="STATUS",
        help="run nothing; requeue a Slurm job of several processes that ended with this exit "
        "status, unless they failed",
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
        if args.requeue:  # Slurm may end this process right after requeueing, so print first
            command_line.leave(error, at_last=slurm.requeue_this_job)
        raise


if __name__ == "__main__":
    command_line.run(main)
