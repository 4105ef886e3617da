"""Sweeps of eight jobs under faults at random, and whether they end as if there had been none.

    launch/local_slurm.sh start 3     # as root; of a cluster of one's own, take another machine
    python -m benchmarks.faults --engine=slurm --out=benchmarks/faults.md

The sweep runs twice, undisturbed and disturbed. Faults on Slurm: a job of a higher partition that
preempts, `scontrol requeue`, SIGUSR1 as before a time limit, SIGKILL of a worker, a restart of the
controller. On this machine: SIGTERM or SIGKILL of a worker, Ctrl-C or SIGKILL of the launcher. The
command of the sweep is given again after every fault, as its user would. Then every array of every
result file, but for the seconds that it took, is compared bit by bit. The table has one row an
engine; the rows of other engines stay.
"""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import machine
from cnnpool import command_line
from cnnpool.files import results
from cnnpool.files.atomic_write import write_atomically
from cnnpool.launch import job_states, sweep_file
from cnnpool.launch.job_states import RUNNING
from cnnpool.launch.jobs import Job
from cnnpool.runs import lease, run_status

SWEEP = Path(__file__).with_name("faults_sweep.py")
SCRIPT = Path(__file__).parents[1] / "launch" / "local_slurm.sh"
SLURM, LOCAL = "slurm", "local"
FLAGS = {SLURM: ["--engine=slurm", "--partition=low"], LOCAL: ["--engine=local", "--parallel=2"]}
GIVEN_EVERY = 10.0  # seconds, where there is no fault
OF_THE_RUN = {"training_seconds"}  # arrays that no two runs share


@dataclasses.dataclass
class Experiment:
    """One run of the sweep, with what is done to it.

    Attributes:
      root: of its jobs.
      engine: "slurm" or "local".
      length: of the training.
      counts: faults by kind.
      saved: seconds from a signal to the end of what it asked for.
      lost: seconds of computation that a SIGKILL threw away.
      launcher: the process of the local engine.
    """

    root: Path
    engine: str
    length: int
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    saved: list[float] = dataclasses.field(default_factory=list)
    lost: list[float] = dataclasses.field(default_factory=list)
    launcher: subprocess.Popen | None = None

    @property
    def jobs(self) -> list[Job]:
        """Of the sweep."""
        return sweep_file.load(SWEEP, str(self.length), seeds_per_job=None, data_dir=None)

    def give(self) -> None:
        """Gives the command of the sweep; on this machine, in the background."""
        words = [f"--sweep={SWEEP}", f"--preset={self.length}", f"--root={self.root}"]
        command = [sys.executable, "-m", "cnnpool.launch.sweep", *words, *FLAGS[self.engine]]
        if self.engine == SLURM:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        elif self.launcher is None or self.launcher.poll() is not None:
            with (self.root / "launcher.txt").open("ab") as log:
                self.launcher = subprocess.Popen(
                    command, stdout=log, stderr=log, preexec_fn=_obey_ctrl_c
                )

    def is_over(self) -> bool:
        """Whether all jobs are finished."""
        return all(job.is_finished(self.root / job.name) for job in self.jobs)

    def running(self) -> list[Path]:
        """Folders of the jobs that run and said so."""
        states = [job_states.of(job, self.root, {}) for job in self.jobs]
        return [one.folder for one in states if one.state == RUNNING and one.status is not None]


def _obey_ctrl_c() -> None:
    """A benchmark in the background ignores SIGINT, and so would its children as they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def worker(folder: Path) -> int:
    """Process id of the job in a folder."""
    owner = lease.owner(folder)
    if owner is None:
        raise ProcessLookupError(f"nobody works in {folder}")
    return owner["pid"]


def slurm_id(folder: Path) -> str:
    """Of the job in a folder."""
    return json.loads((folder / "submission.json").read_text())["id"]


def kill_worker(experiment: Experiment, folder: Path) -> None:
    """SIGKILL; what was computed after the latest save is lost."""
    pid = worker(folder)
    places = [folder / "checkpoints", *folder.glob(".*.parts")]
    saved = max((place.stat().st_mtime for place in places if place.exists()), default=0.0)
    began = Path(f"/proc/{pid}").stat().st_mtime
    os.kill(pid, signal.SIGKILL)
    experiment.lost.append(time.time() - max(saved, began))


def _signalled(send: Callable[[Path], object]) -> Callable[[Experiment, Path], None]:
    """A fault that asks a job to save, and notes how long that takes."""

    def fault(experiment: Experiment, folder: Path) -> None:
        began = time.time()
        send(folder)
        while time.time() - began < 8:
            status = run_status.read(folder)
            if status is not None and status.state != run_status.RUNNING and status.time >= began:
                if status.state == run_status.PREEMPTED:
                    experiment.saved.append(status.time - began)
                return
            time.sleep(0.05)

    return fault


def _command(*words: str) -> None:
    """Of Slurm, which tries for minutes where a job is on its way; that is given up."""
    quiet = subprocess.DEVNULL
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(words, check=False, stdout=quiet, stderr=quiet, timeout=5)


def preempt(experiment: Experiment, folder: Path) -> None:
    """A job of the partition above takes one place for two seconds."""
    _command("sbatch", "-p", "high", "-n1", "-o", "/dev/null", "--wrap=sleep 2")


def restart_controller(experiment: Experiment, folder: Path) -> None:
    """slurmctld ends and starts anew."""
    _command(str(SCRIPT), "restart_controller")


def _to_launcher(number: signal.Signals) -> Callable[[Experiment, Path], None]:
    def fault(experiment: Experiment, folder: Path) -> None:
        assert experiment.launcher is not None
        experiment.launcher.send_signal(number)
        experiment.launcher.wait()

    return fault


FAULTS: dict[str, dict[str, Callable[[Experiment, Path], None]]] = {
    SLURM: {
        "preempted": preempt,
        "requeued": _signalled(lambda folder: _command("scontrol", "requeue", slurm_id(folder))),
        "SIGUSR1": _signalled(
            lambda folder: _command("scancel", "--batch", "--signal=USR1", slurm_id(folder))
        ),
        "SIGKILL": kill_worker,
        "controller restarted": restart_controller,
    },
    LOCAL: {
        "SIGTERM": _signalled(lambda folder: os.kill(worker(folder), signal.SIGTERM)),
        "SIGKILL": kill_worker,
        "launcher Ctrl-C": _to_launcher(signal.SIGINT),
        "launcher SIGKILL": _to_launcher(signal.SIGKILL),
    },
}


def run(experiment: Experiment, *, faults: int, pause: float, seed: int) -> float:
    """Runs the sweep to its end under faults; returns the seconds that it took."""
    chance = random.Random(seed)
    began = time.monotonic()
    experiment.root.mkdir(parents=True)
    kinds = list(FAULTS[experiment.engine])
    done, given = 0, began
    experiment.give()
    while not experiment.is_over():
        time.sleep(pause if done < faults else 1.0)
        folders = experiment.running()
        if done < faults and folders:
            # In turn at first, so that none is left out.
            kind = kinds[done] if done < len(kinds) else chance.choice(kinds)
            try:
                FAULTS[experiment.engine][kind](experiment, chance.choice(folders))
            except (ProcessLookupError, FileNotFoundError):
                continue  # it ended in this moment
            done += 1
            experiment.counts[kind] = experiment.counts.get(kind, 0) + 1
            print(f"{time.monotonic() - began:6.0f} s  {done:3d}  {kind}", flush=True)
            experiment.give()
        elif time.monotonic() - given > GIVEN_EVERY:
            given = time.monotonic()
            experiment.give()
    return time.monotonic() - began


def differences(a: Path, b: Path, jobs: Sequence[Job]) -> tuple[list[str], int]:
    """Arrays of the results that are not bit-identical, and how many were compared."""
    found, compared = [], 0
    for job in jobs:
        for one in job.measurements:
            left, right = (results.read(root / job.name / one.file) for root in (a, b))
            for name in sorted({*left.variables, *right.variables} - OF_THE_RUN):
                compared += 1
                same = name in left.variables and name in right.variables
                if not (same and _identical(left[name].values, right[name].values)):
                    found.append(f"{job.name}: {name}")
    return found, compared


def _identical(left: np.ndarray, right: np.ndarray) -> bool:
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return (
        left.tolist() == right.tolist()
        if left.dtype == object
        else (np.ascontiguousarray(left).tobytes() == np.ascontiguousarray(right).tobytes())
    )


HEAD = (
    "| engine | jobs | faults | of which | arrays compared | different | saved after a signal, s "
    "| lost by a SIGKILL, s | undisturbed, s | disturbed, s | seconds a fault |"
)


def row(experiment: Experiment, compared: int, different: int, plain: float, hit: float) -> str:
    """The line of an engine."""
    number = sum(experiment.counts.values())
    cells = [
        experiment.engine,
        str(len(experiment.jobs)),
        str(number),
        ", ".join(f"{count} {kind}" for kind, count in sorted(experiment.counts.items())),
        str(compared),
        str(different),
        _spread(experiment.saved),
        _spread(experiment.lost),
        f"{plain:.0f}",
        f"{hit:.0f}",
        f"{(hit - plain) / number:.1f}" if number else "-",
    ]
    return f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):.1f} (at most {max(values):.1f}, of {len(values)})"


def write_table(out: Path, line: str, how: str) -> None:
    """Replaces one engine's row, and keeps those of others."""
    engine = line.split(" | ")[0].strip("| ")
    before = out.read_text().splitlines() if out.exists() else []
    kept = [one for one in before if re.match(r"\| (slurm|local) \|", one)]
    notes = [one for one in before if one.startswith("- ")]
    rows = [one for one in kept if not one.startswith(f"| {engine} |")] + [line]
    notes = [one for one in notes if not one.startswith(f"- {engine}:")] + [f"- {engine}: {how}"]
    rule = "|---" * (HEAD.count("|") - 1) + "|"
    text = "\n".join(["# Sweeps under faults", "", HEAD, rule, *rows, "", *notes, "", LEGEND, ""])
    write_atomically(out, lambda path: path.write_text(text))


LEGEND = (
    'Median and largest. "Saved": from the signal until the job says that all is on disk. "Lost": '
    "computation since the latest save or, where there was none, since the process began; it "
    'compiles first. Checkpoints every 2 s. "Seconds a fault": what a fault '
    "adds to the time of the whole sweep, mostly the start of a process (Python, JAX, compiled "
    "programs from the cache, which the undisturbed sweep fills) and Slurm's own pause of some 8 s "
    "before a requeued job starts."
)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "benchmarks.faults")
    parser.add_argument("--engine", choices=(SLURM, LOCAL), default=LOCAL, help="(%(default)s)")
    parser.add_argument("--faults", type=int, default=50, help="at least (%(default)s)")
    parser.add_argument("--pause", type=float, default=1.5, help="seconds between (%(default)s)")
    parser.add_argument("--length", type=int, default=8, help="of the training (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults (%(default)s)")
    parser.add_argument("--out", type=Path, help="markdown table")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{scratch}/cache")
        roots = [Path(scratch) / name for name in ("plain", "hit")]
        plain, hit = (Experiment(root, args.engine, args.length) for root in roots)
        plain_seconds = run(plain, faults=0, pause=1.0, seed=0)
        print(f"undisturbed: {plain_seconds:.0f} s", flush=True)
        hit_seconds = run(hit, faults=args.faults, pause=args.pause, seed=args.seed)
        found, compared = differences(plain.root, hit.root, plain.jobs)
    line = row(hit, compared, len(found), plain_seconds, hit_seconds)
    print("\n".join([HEAD, line, *found]))
    if args.out is not None:
        command = f"`python -m benchmarks.faults {' '.join(argv)}`"
        write_table(args.out, line, f"{command}; {machine.describe()}")
    if found or sum(hit.counts.values()) < args.faults:
        sys.exit(f"error: {len(found)} arrays differ; {sum(hit.counts.values())} faults")


if __name__ == "__main__":
    command_line.run(main)
