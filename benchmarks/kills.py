"""`cnnpool.train` killed at random moments, and whether it ends as if it had not been.

    python -m benchmarks.kills --out=benchmarks/kills.md

For each run and each signal (SIGINT, SIGTERM, SIGKILL) the command is given, gets the signal after
a random time, from the first instant of the process on, and is given again, 50 times; a run that
finishes first is followed by a new one. Every finished run is then compared with one that was left
alone: parameters and progress of the first and the final checkpoint, bit for bit; metrics.csv and
TensorBoard's scalars row by row, but for the images per second; the names of all files; and what
`cnnpool.eval` measures of it.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import json
import os
from pathlib import Path
import random
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import machine
from cnnpool import command_line
from cnnpool.errors import EXIT_PREEMPTED
from cnnpool.files import results
from cnnpool.files.atomic_write import write_atomically
from cnnpool.runs import run_status

RUNS = {
    "LeNet": (
        "--config=configs/cifar10.py:lenet_cpu",
        "--config.seeds=(0,1)",
        "--config.data.train_size=10000",
        "--config.checkpoint.every_seconds=1",
    ),
    "simple CNN": ("--config=configs/scale1d.py:quick", "--config.checkpoint.every_seconds=1"),
}
EVAL = {
    "LeNet": ("--stage=init,trained", "--transforms=none", "--images=20"),
    "simple CNN": ("--stage=init,trained", "--transforms=none"),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
TIMED = {"images_per_second", "training_seconds", "step_seconds", "seconds"}
HARMLESS = re.compile(r"events\.out\.tfevents.*|\d+")  # one for each start; which latest two


@dataclasses.dataclass
class Outcome:
    """What the kills of one run by one signal found.

    Attributes:
      kills: that hit a living process.
      runs: that finished and were compared.
      statuses: exit statuses after the signal, counted.
      ended: seconds from each signal to the end of the process.
      differences: what a finished run has that an undisturbed one has not, in words.
      tracebacks: that the processes printed.
    """

    kills: int = 0
    runs: int = 0
    statuses: dict[int, int] = dataclasses.field(default_factory=dict)
    ended: list[float] = dataclasses.field(default_factory=list)
    differences: list[str] = dataclasses.field(default_factory=list)
    tracebacks: int = 0


def train(run: str, workdir: Path) -> subprocess.Popen:
    """Gives the command of a run; what it says is appended to a file beside its folder."""
    command = [sys.executable, "-m", "cnnpool.train", *RUNS[run], f"--workdir={workdir}"]
    with workdir.with_suffix(".txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=_obey_ctrl_c)


def _obey_ctrl_c() -> None:
    """A benchmark in the background ignores SIGINT, and so would its children as they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def disturbed(
    run: str,
    number: signal.Signals,
    kills: int,
    longest: float,
    folder: Path,
    chance: random.Random,
) -> Iterator[tuple[Path, Outcome]]:
    """Yields every finished run, and the outcome so far, until there were enough kills."""
    outcome = Outcome()
    while outcome.kills < kills or outcome.runs == 0:
        workdir = folder / f"{number.name}-{outcome.runs}"
        while not _is_finished(workdir):
            process = train(run, workdir)
            if outcome.kills < kills:
                _kill(process, number, chance.uniform(0, longest), outcome)
            elif process.wait():
                raise RuntimeError(f"{workdir} cannot go on: {_last_line(workdir)}")
        outcome.runs += 1
        outcome.tracebacks += workdir.with_suffix(".txt").read_text("utf-8").count("Traceback")
        yield workdir, outcome


def _kill(
    process: subprocess.Popen, number: signal.Signals, after: float, outcome: Outcome
) -> None:
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        began = time.monotonic()
        process.send_signal(number)
        status = process.wait()
        outcome.ended.append(time.monotonic() - began)
        outcome.kills += 1
        outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
        print(f"  {number.name} {outcome.kills} after {after:.1f} s: status {status}", flush=True)


def _is_finished(workdir: Path) -> bool:
    status = run_status.read(workdir)
    return status is not None and status.state == run_status.FINISHED


def _last_line(workdir: Path) -> str:
    return workdir.with_suffix(".txt").read_text("utf-8").strip().splitlines()[-1]


def evidence(run: str, workdir: Path) -> dict[str, object]:
    """All that a finished run has to show, by name, without times."""
    checkpoints = sorted(
        int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()
    )
    found: dict[str, object] = {
        f"checkpoint {which}": _checkpoint(workdir / "checkpoints" / str(which))
        for which in (checkpoints[0], checkpoints[-1])
    }
    for row in csv.DictReader((workdir / "metrics.csv").open(encoding="utf-8")):
        key = f"metrics.csv epoch {row['epoch']} seed {row['seed']}"
        if key in found:
            found[f"{key} again"] = row
        found[key] = {name: value for name, value in row.items() if name not in TIMED}
    for index, scalar in enumerate(sorted(_scalars(workdir / "tensorboard"))):
        found[f"TensorBoard {index}"] = scalar
    found["config.json"] = (workdir / "config.json").read_bytes()
    found["files"] = sorted(
        {
            HARMLESS.sub("*", path.relative_to(workdir).parts[0])
            for path in workdir.rglob("*")
            if path.is_file()
        }
    )
    status = json.loads((workdir / "status.json").read_text("utf-8"))
    found["status.json"] = {name: status[name] for name in ("state", "epoch", "epochs", "error")}
    return found | _measured(run, workdir)


def _checkpoint(place: Path) -> object:
    """The record of a checkpoint: its checksum of all parameters, and the progress, untimed."""
    record = json.loads((place / "progress" / "metadata").read_text("utf-8"))
    progress = [{k: v for k, v in one.items() if k not in TIMED} for one in record["progress"]]
    return record["checksum"], progress


def _scalars(folder: Path) -> set[tuple[str, int, float]]:
    from tensorboardX.proto import event_pb2

    found = set()
    for path in sorted(folder.glob("events*")) if folder.exists() else ():
        content, at = path.read_bytes(), 0
        while at + 12 <= len(content):
            (size,) = struct.unpack("<Q", content[at : at + 8])
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + size])
            found |= {
                (value.tag, event.step, value.simple_value)
                for value in event.summary.value
                if not TIMED & set(value.tag.split("/"))
            }
            at += 16 + size
    return found


def _measured(run: str, workdir: Path) -> Mapping[str, object]:
    out = workdir.with_suffix(".nc")
    subprocess.run(
        [sys.executable, "-m", "cnnpool.eval", f"--workdir={workdir}", f"--out={out}", *EVAL[run]],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    data = results.read(out)
    return {
        f"measured {name}": (values.dtype.str, values.shape, _bits(values))
        for name, values in ((str(n), v.values) for n, v in data.variables.items())
        if name not in TIMED
    }


def _bits(values: np.ndarray) -> object:
    return values.tolist() if values.dtype == object else np.ascontiguousarray(values).tobytes()


def differences(left: Mapping[str, object], right: Mapping[str, object]) -> list[str]:
    """Names of what two runs do not have alike."""
    return sorted(n for n in {*left, *right} if left.get(n) != right.get(n))


HEAD = (
    "| run | signal | kills | exit statuses | seconds to end, median (largest) | runs compared "
    "| items of each | different | tracebacks |"
)


def row(run: str, number: signal.Signals, outcome: Outcome, items: int) -> str:
    """The line of a run and a signal."""
    statuses = ", ".join(
        f"{count} x {status}" for status, count in sorted(outcome.statuses.items())
    )
    cells = [
        run,
        number.name,
        str(outcome.kills),
        statuses,
        f"{statistics.median(outcome.ended):.1f} ({max(outcome.ended):.1f})",
        str(outcome.runs),
        str(items),
        str(len(outcome.differences)),
        str(outcome.tracebacks),
    ]
    return f"| {' | '.join(cells)} |"


NOTE = (
    f"Exit status {EXIT_PREEMPTED}: the run saved and stopped. Negative: ended by the signal "
    "itself, by SIGKILL, or by SIGTERM while Python starts and there is nothing to save. 130: "
    "Ctrl-C at such a time; 1 or -2, with a traceback: Ctrl-C before Python runs any of our code, "
    "while it sets up the virtual environment. Checkpoints are written every second."
)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "benchmarks.kills")
    parser.add_argument("--kills", type=int, default=50, help="of each kind (%(default)s)")
    parser.add_argument("--runs", default=",".join(RUNS), help="(%(default)s)")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds to a kill, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    parser.add_argument("--keep", type=Path, help="folder of the runs; else a temporary one")
    parser.add_argument("--out", type=Path, help="markdown table")
    args = parser.parse_args(argv)
    chance = random.Random(args.seed)
    lines, bad = [], 0
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{scratch}/cache")
        for run in args.runs.split(","):
            folder = (args.keep or Path(scratch)) / run.replace(" ", "_")
            folder.mkdir(parents=True)
            if train(run, folder / "alone").wait():
                sys.exit(f"error: {run} cannot be trained: {_last_line(folder / 'alone')}")
            expected = evidence(run, folder / "alone")
            for number in SIGNALS:
                outcome = Outcome()
                for workdir, outcome in disturbed(
                    run, number, args.kills, args.longest, folder, chance
                ):
                    found = differences(evidence(run, workdir), expected)
                    outcome.differences += [f"{workdir.name}: {name}" for name in found]
                lines.append(row(run, number, outcome, len(expected)))
                bad += len(outcome.differences)
                print("\n".join([lines[-1], *outcome.differences[:20]]), flush=True)
    if args.out is not None:
        rule = "|---" * (HEAD.count("|") - 1) + "|"
        made = f"`python -m benchmarks.kills {' '.join(argv)}`; {machine.describe()}"
        text = "\n".join(["# Kills of `cnnpool.train`", "", HEAD, rule, *lines, "", NOTE, "", made])
        write_atomically(args.out, lambda path: path.write_text(f"{text}\n", "utf-8"))
    if bad:
        sys.exit(f"error: {bad} differences")


if __name__ == "__main__":
    command_line.run(main)
