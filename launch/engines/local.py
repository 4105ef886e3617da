"""Runs jobs on this machine, several in parallel, each on its own cores (and accelerator)."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import itertools
import os
from pathlib import Path
import platform
import shlex
import signal
import subprocess
import sys
import time
import uuid

from cnnpool.devices.progress_bar import ProgressBar, say
from cnnpool.errors import EXIT_PREEMPTED
from cnnpool.launch.engines.engine import (
    EngineError,
    JobsFailedError,
    check_at_least,
    nothing,
    outside_of_slurm,
    run_job,
)
from cnnpool.launch.job_states import WAITING, JobState, Queued, write_submission
from cnnpool.runs import lease, run_status

STOPPING = (signal.SIGINT, signal.SIGTERM)
POLL_SECONDS = 0.1
LOOK_SECONDS = 2.0  # between two updates of the progress bar
STOP_SECONDS = 30.0  # time to save, after which a job is killed
KILLS_WITHOUT_PROGRESS = 5  # after which a job counts as failed; most likely out of memory
BUSY_SECONDS = 5.0  # before another attempt at a job that another process is running


@dataclasses.dataclass(frozen=True)
class Options:
    """How jobs share this machine.

    Attributes:
      parallel: most jobs at the same time; None: one per device, or per core if there are none.
      devices: values of CUDA_VISIBLE_DEVICES, one per job; a device that appears several times is
        shared by as many jobs; empty: CPU cores only.
    """

    parallel: int | None = None
    devices: tuple[str, ...] = ()

    def __post_init__(self):
        """Raises EngineError if an option is out of range."""
        check_at_least(self, parallel=1)
        if not all(device.strip() for device in self.devices):
            raise EngineError(
                f"--devices must be numbers of GPUs, 0,1; got {','.join(self.devices)!r}"
            )


@dataclasses.dataclass
class _Task:
    """A job to be run; `mark` is the time of its last save when it was last killed."""

    state: JobState
    spec: Path
    kills: int = 0
    mark: object = None
    not_before: float = 0.0


@dataclasses.dataclass(frozen=True)
class Slot:
    """The cores and the device that one job at a time uses exclusively."""

    cores: tuple[int, ...]
    device: str | None = None


def slots(options: Options, n_jobs: int) -> list[Slot]:
    """Divides the cores of this process as equally as possible, and assigns devices, if any.

    Raises:
      EngineError: if `options.parallel` exceeds the number of cores or devices.
    """
    cores = sorted(os.sched_getaffinity(0))
    places = min(len(options.devices) or len(cores), len(cores))
    count = options.parallel or max(1, min(places, n_jobs))
    if count > places:
        raise EngineError(
            f"--parallel must be from 1 to {places}, the number of cores or devices of this "
            f"machine; got {count}"
        )
    ends = [len(cores) * index // count for index in range(count + 1)]
    return [
        Slot(tuple(cores[start:end]), options.devices[index] if options.devices else None)
        for index, (start, end) in enumerate(itertools.pairwise(ends))
    ]


class Local:
    """Runs jobs as processes of this machine, as long as the command runs."""

    def __init__(self, options: Options):
        self.options = options

    def describe(self, states: Sequence[JobState], root: Path) -> str:
        """The commands that `start` would run, and their cores; writes no files."""
        places = slots(self.options, len(states))
        device = places[0].device
        visible = "" if device is None else f"CUDA_VISIBLE_DEVICES={shlex.quote(device)} "
        commands = [
            visible + shlex.join([*run_job(), str(spec), *_on_device(device)])
            for one in states
            for spec in [one.job.spec_path(one.folder).absolute()]
        ]
        where = "; ".join(
            f"cores {','.join(map(str, slot.cores))}"
            + ("" if slot.device is None else f" and device {slot.device}")
            for slot in places
        )
        return "\n".join([f"{len(places)} at the same time, on {where}:", *commands])

    def start(
        self, states: Sequence[JobState], root: Path, noted: Callable[[], None] = nothing
    ) -> None:
        """Runs all jobs until they end; Ctrl-C or SIGTERM stops them after they have saved.

        Raises:
          JobsFailedError: if jobs failed; lists them.
          KeyboardInterrupt: if it was stopped.
        """
        identity = f"launchers/{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        tasks = [_Task(one, one.job.write_spec(one.folder)) for one in states]
        # SIGINT, too, because background processes of a shell ignore it by default.
        before = {number: signal.signal(number, _interrupt) for number in STOPPING}
        try:
            with lease.hold(root / identity):
                for one in states:
                    record = {"engine": "local", "launcher": identity, "root": str(root.absolute())}
                    write_submission(one.folder, record | {"options": _plain(self.options)})
                noted()
                failed = _run_all(tasks, slots(self.options, len(states)))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if failed:
            raise JobsFailedError("failed:\n  " + "\n  ".join(failed))

    def queue(self, submissions: Mapping[str, Mapping]) -> dict[str, Queued]:
        """The jobs that a live launcher has yet to start."""
        living = lease.held({_launcher(record) for record in submissions.values()})
        return {
            name: Queued(WAITING, f"for the launcher{_on_host(_launcher(record))}")
            for name, record in submissions.items()
            if _launcher(record) in living
        }

    def cancel(self, submissions: Mapping[str, Mapping]) -> list[str]:
        """Stops the launchers of jobs on this machine, and thereby all their jobs."""
        launchers = {_launcher(record) for record in submissions.values()}
        told = {folder for folder in launchers if _told_to_stop(folder)}
        return [name for name, record in submissions.items() if _launcher(record) in told]


def _plain(options: Options) -> dict:
    return {"parallel": options.parallel, "devices": list(options.devices)}


def _launcher(record: Mapping) -> Path:
    return Path(record["root"]) / record["launcher"]


def _on_host(launcher: Path) -> str:
    owner = lease.owner(launcher)
    return "" if owner is None else f" on {owner['host']}"


def _told_to_stop(launcher: Path) -> bool:
    owner = lease.owner(launcher)
    if owner is None or owner["host"] != platform.node() or not lease.is_held(launcher):
        return False
    try:
        os.kill(owner["pid"], signal.SIGTERM)
    except (ProcessLookupError, PermissionError):  # it has ended, or belongs to another user
        return False
    return True


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def _command(spec: Path) -> list[str]:
    parent = ["--parent", str(os.getpid())] if sys.platform == "linux" else []
    return [*run_job(), *parent, str(spec)]


def _on_device(device: str | None) -> list[str]:
    """The flag for jobs with a device, which makes them fail if they find none."""
    return [] if device is None else ["--accelerator"]


def _start(task: _Task, slot: Slot) -> subprocess.Popen:
    environment = outside_of_slurm(os.environ)
    if slot.device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = slot.device
    process = subprocess.Popen(
        [*_command(task.spec.absolute()), *_on_device(slot.device)],
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(process.pid, slot.cores)
    return process


def _run_all(tasks: Sequence[_Task], places: Sequence[Slot]) -> list[str]:
    """Runs tasks, one per slot at a time; returns the failed ones with their errors."""
    waiting, free, failed = deque(tasks), list(places), []
    at_work: list[tuple[_Task, Slot, subprocess.Popen]] = []
    next_look = time.monotonic()
    try:
        with ProgressBar(len(tasks), "jobs", "job", shown=True) as bar:
            while waiting or at_work:
                while free and (task := _next(waiting)) is not None:
                    slot = free.pop(0)
                    at_work.append((task, slot, _start(task, slot)))
                time.sleep(POLL_SECONDS)
                if time.monotonic() >= next_look:
                    far = "; ".join(_how_far(task) for task, *_ in at_work)
                    bar.set_postfix_str(far, refresh=False)
                    bar.update(0)
                    next_look = time.monotonic() + LOOK_SECONDS
                for entry in [entry for entry in at_work if entry[2].poll() is not None]:
                    task, slot, process = entry
                    at_work.remove(entry)
                    free.append(slot)
                    error = _after(task, process.returncode)
                    if error == AGAIN:
                        waiting.append(task)
                        continue
                    bar.update()
                    say(f"{task.state.job.name}: {error or 'finished'}")
                    failed += [f"{task.state.job.name}: {error}"] if error else []
    except BaseException:
        _stop([process for *_, process in at_work])
        raise
    return failed


def _how_far(task: _Task) -> str:
    """The epoch of a job that is training, or the name of its current task."""
    status = run_status.read(task.state.folder)
    if status is None or status.epoch is None or status.task != "training":
        return "starting" if status is None else status.task
    return f"epoch {status.epoch}" + ("" if status.epochs is None else f"/{status.epochs}")


AGAIN = "again"


def _next(waiting: deque[_Task]) -> _Task | None:
    for _ in range(len(waiting)):
        task = waiting.popleft()
        if task.not_before <= time.monotonic():
            return task
        waiting.append(task)
    return None


def _after(task: _Task, code: int) -> str | None:
    """The result of a task: None if finished, `AGAIN` if to be run again, else its error."""
    folder, job = task.state.folder, task.state.job
    if job.is_finished(folder):
        return None
    if lease.is_held(folder):
        task.not_before = time.monotonic() + BUSY_SECONDS
        return AGAIN
    status = run_status.read(folder)
    if code == EXIT_PREEMPTED:
        return AGAIN
    if code >= 0:
        failed = status is not None and status.state == run_status.FAILED
        return (status.error if failed and status else None) or f"exit status {code}; see log.txt"
    mark = _written(folder)
    task.kills = task.kills + 1 if mark == task.mark else 1
    task.mark = mark
    if task.kills < KILLS_WITHOUT_PROGRESS:
        return AGAIN
    return f"killed {task.kills} times by {signal.Signals(-code).name} without progress"


def _written(folder: Path) -> int:
    """The time at which a job last saved a checkpoint or part of a measurement, 0 if never."""
    places = [folder / "checkpoints", *folder.glob(".*.parts")]
    return max((place.stat().st_mtime_ns for place in places if place.exists()), default=0)


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """Sends SIGTERM to all processes, then SIGKILL to those that do not end in time."""
    print("stopping; jobs are saving", file=sys.stderr)
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
