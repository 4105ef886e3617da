"""Shows the states of a sweep's jobs: waiting, running, finished, failed, stopped.

    python -m launch.status --sweep=fig5 --preset=cpu
    python -m launch.status --sweep=fig5 --preset=cpu --watch
    python -m launch.status --sweep=fig5 --preset=cpu --retry_failed
    python -m launch.status --sweep=fig5 --preset=cpu --cancel
    python -m launch.status --sweep=launch/sweeps/grid.py --preset=tiny --plot=grid.png

For running jobs it shows the epoch and the remaining time, for failed jobs the error. To continue
jobs that stopped (preempted, killed, cancelled) or to start new ones, run launch.sweep again.
--retry_failed submits failed jobs again, to the same engine with the same options. --cancel stops
jobs; running ones save first; the exit status is 1 if some could not be reached. --plot draws test
error, D, G and R of finished jobs against the parameters that the sweep varies, and prints them as
a table.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
import time

from cnnpool import command_line
from cnnpool.figures.item_names import picture_path
from cnnpool.files import parameter_words, storage
from cnnpool.launch import engine_choice, job_parameters, job_states, sweep_file
from cnnpool.launch.engines.engine import EngineError
from cnnpool.launch.job_states import FAILED, RUNNING, WAITING, JobState
from cnnpool.launch.jobs import Job, SweepError
from cnnpool.launch.submitting import submitting

HEAD = ("state", "epoch", "left", "detail")


def table(states: Sequence[JobState]) -> str:
    """One line per job with the parameters that vary, and the number of jobs in each state."""
    varied = job_parameters.varied([one.job for one in states])
    parameters = [
        tuple("" if value is None else parameter_words.shown(value) for value in place.values())
        for place in (varied.places[one.job.name] for one in states)
    ]
    rows = [
        ("job", *varied.fields, *HEAD),
        *(
            (one.job.name, *cells, *_row(one))
            for one, cells in zip(states, parameters, strict=True)
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    counts = [f"{sum(one.state == state for one in states)} {state}" for state in job_states.STATES]
    return "\n".join([*lines, f"{len(states)} jobs: {', '.join(counts)}"])


def _row(one: JobState) -> tuple[str, ...]:
    status = one.status
    epoch = left = ""
    if status is not None and one.state != WAITING:
        epoch = "" if status.epoch is None else str(status.epoch)
        epoch += f"/{status.epochs}" if epoch and status.epochs is not None else ""
    if status is not None and one.state == RUNNING:
        epoch = status.task if status.task != "training" else epoch
        left = "" if status.eta_seconds is None else str(timedelta(seconds=int(status.eta_seconds)))
    return one.state, epoch, left, one.detail


def _plotted(jobs: Sequence[Job], args, plot: Path) -> str:
    """Draws the results of finished jobs; returns their table."""
    from cnnpool.figures import sweep  # slow to import, so only now
    from cnnpool.figures.networks import MeasuredNetwork
    from cnnpool.launch.collected import collected

    found = collected(jobs, args.root)
    if not found.networks:
        raise SweepError(f"none of {len(jobs)} jobs in {args.root} is finished: nothing to draw")
    given = [MeasuredNetwork(dataset, name) for name, dataset in found.networks.items()]
    return f"\n{sweep.make_of(given, plot, args.x)}\n\nin {plot}"


def _retry_failed(states: Sequence[JobState], args) -> None:
    failed = [one for one in states if one.state == FAILED]
    by_submission: dict[str, list[JobState]] = {}
    for one in failed:
        record = job_states.read_submission(one.folder)
        key = repr((record.get("engine", engine_choice.LOCAL), record.get("options", {})))
        by_submission.setdefault(key, []).append(one)
    print(f"{len(failed)} failed jobs to start again")
    for group in by_submission.values():
        record = job_states.read_submission(group[0].folder)
        name = record.get("engine", engine_choice.LOCAL)
        engine = engine_choice.make(name, record.get("options", {}))
        with submitting(args.root) as noted:
            now = engine_choice.states([one.job for one in group], args.root)
            if still := [one for one in now if one.state == FAILED]:
                engine.start(still, args.root, noted)


def _cancel(states: Sequence[JobState], args) -> None:
    active = [one for one in states if one.queued]
    told: set[str] = set()
    for name, records in engine_choice.submissions([one.job for one in active], args.root).items():
        told.update(engine_choice.make(name, {}).cancel(records))
    print(f"{len(told)} jobs told to stop")
    others = [
        f"{one.job.name}: {one.state} {one.detail}"
        for one in active
        if one.job.name not in told and not one.job.is_finished(one.folder)
    ]
    if others:
        raise EngineError(
            "not stopped; their launcher is on another machine (run this command there), or they "
            "were started by hand:\n  " + "\n  ".join(others)
        )


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "launch.status")
    sweep_file.add_arguments(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--watch", action="store_true", help="update every few seconds")
    action.add_argument("--retry_failed", action="store_true", help="start failed jobs again")
    action.add_argument("--cancel", action="store_true", help="stop all waiting or running jobs")
    parser.add_argument("--seconds", type=float, help="seconds between updates of --watch (5)")
    parser.add_argument(
        "--plot",
        type=storage.path,
        help="a picture of test error, D, G, R of finished jobs against the parameters that vary",
    )
    parser.add_argument("--x", default="", metavar="NAME", help="parameter on its horizontal axis")
    args = parser.parse_args(argv)
    if args.seconds is not None and not args.watch:
        parser.error("--seconds requires --watch")
    if args.x and args.plot is None:
        parser.error("--x requires --plot")
    plot = None if args.plot is None else picture_path("--plot", args.plot, None)
    jobs = sweep_file.of_arguments(args)
    states = engine_choice.states(jobs, args.root)
    print(table(states))
    if plot is not None:
        print(_plotted(jobs, args, plot))
    if args.retry_failed:
        _retry_failed(states, args)
    if args.cancel:
        _cancel(states, args)
    while args.watch and any(one.state in (WAITING, RUNNING) for one in states):
        time.sleep(5.0 if args.seconds is None else args.seconds)
        states = engine_choice.states(jobs, args.root)
        print(f"\033[2J\033[H{time.strftime('%H:%M:%S')}\n{table(states)}", flush=True)


if __name__ == "__main__":
    command_line.run(main)
