r"""Trains and measures all networks of a sweep; run it again to continue with what is missing.

    python -m launch.sweep --sweep=fig5 --preset=cpu
    python -m launch.sweep --sweep=fig5 --preset=paper --seeds_per_job=2 \
        --engine=slurm --partition=gpu --gpus=1 --time=12:00:00 --mem=32G --parallel=20
    python -m launch.sweep --sweep=fig5 --preset=paper --engine=skypilot \
        --accelerators=tpu-v5e-8 --bucket=gs://my-bucket --dry_run

A sweep is the name of an item of the paper, or a Python file with a function jobs(preset), such as
launch/sweeps/grid.py; its code is run. A job's folder in --root is named by its config; jobs that
are finished, running or in a queue are not started again. On this machine (--engine=local), the
command runs until all jobs have ended; Ctrl-C stops them after they have saved. Watch a sweep with
launch.status, collect its results with launch.collect.
"""

import argparse
from collections.abc import Sequence

from cnnpool import command_line
from cnnpool.launch import (
    compile_check,
    engine_choice,
    job_parameters,
    sweep_file,
    unread_parameters,
)
from cnnpool.launch.engines.engine import check_at_least
from cnnpool.launch.job_states import FAILED, JobState
from cnnpool.launch.jobs import Job
from cnnpool.launch.submitting import submitting


def _to_give(jobs: Sequence[Job], args: argparse.Namespace) -> list[JobState]:
    states = engine_choice.states(jobs, args.root)
    given = [
        one for one in states if one.is_to_be_given or (args.retry_failed and one.state == FAILED)
    ]
    counts = ", ".join(
        f"{sum(one.state == state for one in states)} {state}"
        for state in dict.fromkeys(one.state for one in states)
    )
    given = given[: args.give]
    print(f"{len(states)} jobs in {args.root}: {counts}; {len(given)} to start")
    if unasked := [one for one in states if one.unasked]:
        print(f"{len(unasked)} of them, {unasked[0].job.name} first: {unasked[0].detail}")
    return given


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "launch.sweep")
    sweep_file.add_arguments(parser)
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="start nothing, only print the commands; with --engine=local, also write the jobs' "
        "specs, so that the commands can be run",
    )
    parser.add_argument("--retry_failed", action="store_true", help="start failed jobs again")
    parser.add_argument(
        "--give",
        type=int,
        metavar="N",
        help="start at most N jobs; run the command again for more",
    )
    parser.add_argument(
        "--no_compile_check",
        action="store_true",
        help="skypilot: do not compile one job of each shape for the TPU before submission",
    )
    engine_choice.add_arguments(parser)
    args = parser.parse_args(argv)
    check_at_least(args, give=1)
    engine = engine_choice.of_arguments(args)
    jobs = sweep_file.of_arguments(args)
    for job in jobs:
        job.check_names()
    unread_parameters.check(jobs)
    compiles = args.engine == "skypilot" and not args.no_compile_check
    if args.dry_run:
        given = _to_give(jobs, args)
        if parameters := job_parameters.table([one.job for one in given], jobs):
            print(parameters)
        if args.engine == engine_choice.LOCAL:  # so that the printed commands can be run
            for one in given:
                one.job.write_spec(one.folder)
        print(engine.describe(given, args.root) if given else "nothing to start")
        if given and compiles:
            print(f"# {compile_check.plan(given, args.accelerators, args.nodes)}")
        return
    with submitting(args.root) as noted:
        given = _to_give(jobs, args)
        if given and compiles:
            print(compile_check.check(given, args.accelerators, args.nodes), flush=True)
        if given:
            engine.start(given, args.root, noted)


if __name__ == "__main__":
    command_line.run(main)
