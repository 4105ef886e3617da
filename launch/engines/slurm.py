"""Slurm: submits a sweep with `sbatch` as one job array; user input is never run as shell code.

A sweep with more jobs than an array of the cluster may have (its MaxArraySize) becomes several
arrays. Options are arguments of `sbatch`, not lines of the script, and paths in the script are
quoted. A job that a signal stops is requeued, whether or not the cluster has RequeueExit=75.

The comment of every array is a token, which is recorded before `sbatch` is called: even if the
launcher dies or the answer of `sbatch` is lost, `squeue` shows whether the array exists. If a slow
controller creates an array twice because the command was repeated, both have the same token: a
launcher cancels the second one as soon as it sees it, and until then treats both as one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import json
import os
from pathlib import Path
import re
import shlex
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple
import uuid

from cnnpool.errors import EXIT_PREEMPTED
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_text
from cnnpool.launch.engines.engine import (
    AbsentError,
    EngineError,
    check_at_least,
    nothing,
    outside_of_slurm,
)
from cnnpool.launch.job_states import (
    RUNNING,
    STOPPED,
    WAITING,
    JobState,
    Queued,
    read_submission,
    write_submission,
)

_WAITING = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
    "SUSPENDED",
}
_RUNNING = {"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED"}
_FATAL = {"OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"}
_ARRAY_SIZE = 1001  # Slurm's default
_ASKED_AT_ONCE = 500  # jobs per call of sacct
ATTEMPTS, PAUSE_SECONDS = 15, 4.0  # when the controller does not answer
ANSWER_SECONDS = 120.0
_TOO_MANY = re.compile(r"MaxSubmit|MaxJobs|submit limit|violates accounting/QOS", re.I)
_UNREACHABLE = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection (refused|timed out)"
    r"|connect failure|Transport endpoint|Zero Bytes were transmitted|try again|backup mode",
    re.I,
)


@dataclasses.dataclass(frozen=True)
class Options:
    """The resources that a job requests from the cluster; None: the cluster's default.

    Attributes:
      partition, time, mem, constraint, account, qos: as in sbatch.
      cpus: cores per task.
      gpus: GPUs per task.
      tasks: processes per job, distributed over nodes by Slurm.
      parallel: most jobs that run at the same time.
      setup: a file of shell code that is sourced first, for modules and environments.
      signal_seconds: how long before the time limit a job is told to save.
      job_name: the name shown by `squeue`.
    """

    partition: str | None = None
    time: str | None = None
    mem: str | None = None
    constraint: str | None = None
    account: str | None = None
    qos: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    tasks: int = 1
    parallel: int | None = None
    setup: str | None = None
    signal_seconds: int = 60
    job_name: str = "cnnpool"

    def __post_init__(self):
        """Raises EngineError if an option is out of range."""
        check_at_least(self, cpus=1, gpus=0, tasks=1, parallel=1, signal_seconds=1)
        if self.setup is not None and not storage.on_disk(self.setup).is_file():
            raise EngineError(
                f"--setup={self.setup}: expected a file of shell code to source; it does not exist"
            )


def script(jobs_list: Path, options: Options) -> str:
    """The batch script.

    A single trainer replaces the batch shell (exec), so that signals reach it. Several processes
    are a job step, which receives signals directly. If one of them is killed, `srun` ends the
    others and returns 128 + the signal, which RequeueExit does not cover; if one is lost with its
    machine, the others exit with 75. In both cases, `launch.run_job --after` decides whether to
    requeue the job.
    """
    command = [sys.executable, "-m", "cnnpool.launch.run_job", "--log", "--requeue"]
    command += ["--accelerator"] if options.gpus else []
    lines = [f"cd {shlex.quote(str(Path.cwd()))} || exit 1"]
    if options.setup is not None:
        lines.append(
            f"source {shlex.quote(str(storage.on_disk(options.setup).absolute()))} || exit 1"
        )
    words = " ".join(shlex.quote(word) for word in (*command, "--list", str(jobs_list)))
    trainer = f'{words} --index "$SLURM_ARRAY_TASK_ID"'
    if options.tasks == 1:
        lines.append(f"exec {trainer}")
    else:
        # Since Slurm 22.05, srun does not inherit the cores per task from sbatch.
        cores = "" if options.cpus is None else f" --cpus-per-task={options.cpus}"
        lines += [
            "trap : TERM USR1  # the step saves first",
            f"srun --kill-on-bad-exit=1{cores} {trainer}",
            f"code=$?; [ $code = {EXIT_PREEMPTED} ] || [ $code -gt 128 ] && "
            f"exec {trainer} --after=$code",
            "exit $code",
        ]
    return "\n".join(["#!/bin/bash", *lines, ""])


def sbatch_arguments(count: int, jobs_list: Path, options: Options) -> list[str]:
    """The command that submits an array of jobs, without the script.

    Args:
      count: number of jobs.
      jobs_list: the list of jobs; its name is the array's token, and logs are written beside it.
      options: options for sbatch.
    """
    at_once = "" if options.parallel is None else f"%{options.parallel}"
    # With several processes, the signal goes to the job step; otherwise, to the batch process (B:).
    who = "B:" if options.tasks == 1 else ""
    logs = str(jobs_list.parent).replace("%", "%%")
    words = {
        "array": f"0-{count - 1}{at_once}",
        "job-name": options.job_name,
        "comment": jobs_list.stem,
        "output": f"{logs}/%A_%a.out",
        "open-mode": "append",
        "signal": f"{who}USR1@{options.signal_seconds}",
        "ntasks": options.tasks,
        "cpus-per-task": options.cpus,
        "gpus-per-task": options.gpus,
        "partition": options.partition,
        "time": options.time,
        "mem": options.mem,
        "constraint": options.constraint,
        "account": options.account,
        "qos": options.qos,
    }
    flags = [f"--{name}={value}" for name, value in words.items() if value is not None]
    return ["sbatch", "--parsable", "--requeue", *flags]


class UnreadableError(EngineError):
    """Slurm accepted a job, but its answer has no job id."""


class Slurm:
    """Runs jobs on the cluster of this machine's `sbatch` and `squeue`."""

    def __init__(self, options: Options):
        self.options = options

    def describe(self, states: Sequence[JobState], root: Path) -> str:
        """The commands and the script of `start`; writes no files."""
        told = []
        for part, options in self._arrays(states):
            jobs_list = _new_list(root)
            command = shlex.join(sbatch_arguments(len(part), jobs_list, options))
            jobs = "\n".join(f"  {index}: {one.job.name}" for index, one in enumerate(part))
            batch = script(jobs_list, options)
            told.append(f"{command} SCRIPT\n\nSCRIPT:\n{batch}\njobs by index:\n{jobs}")
        return "\n\n".join(told)

    def start(
        self, states: Sequence[JobState], root: Path, noted: Callable[[], None] = nothing
    ) -> None:
        """Submits all jobs in arrays, each job exactly once.

        Raises:
          EngineError: if there is no Slurm, or it rejects an array; the arrays that it accepted
            before are recorded.
        """
        submitted = 0
        for part, options in self._arrays(states):
            try:
                array = _submit(part, root, options, noted=self.options)
            except EngineError as error:
                raise EngineError(_refused(str(error), submitted, len(states))) from error
            submitted += len(part)
            print(f"submitted array {array} of {len(part)} jobs")
        noted()

    def _arrays(self, states: Sequence[JobState]) -> Iterator[tuple[Sequence[JobState], Options]]:
        """Jobs in arrays of the largest size allowed; --parallel is divided among the arrays."""
        size = _array_size()
        parts = [states[start : start + size] for start in range(0, len(states), size)]
        if self.options.parallel is not None and self.options.parallel < len(parts):
            raise EngineError(
                f"{len(states)} jobs need {len(parts)} arrays of at most {size} on this cluster, "
                f"which cannot share --parallel={self.options.parallel}; expected --parallel of at "
                f"least {len(parts)}, or --give={size}"
            )
        for place, part in enumerate(parts):
            options = self.options
            if options.parallel is not None:
                share = (options.parallel + place) // len(parts)
                options = dataclasses.replace(options, parallel=share)
            yield part, options

    def queue(self, submissions: Mapping[str, Mapping]) -> dict[str, Queued]:
        """The states of jobs from squeue; from sacct for those that squeue no longer lists.

        Raises:
          EngineError: if there is no Slurm, or it does not answer for a minute.
        """
        if not submissions:
            return {}
        rows = _squeue()
        known = {row.id: _queued(row.state, row.reason) for row in rows}
        ids = _ids(submissions, rows)
        forgotten = [id_ for some in ids.values() for id_ in some if id_ not in known]
        known |= _accounted(forgotten) if forgotten else {}
        return {
            name: _furthest([known.get(id_, Queued(STOPPED)) for id_ in some])
            for name, some in ids.items()
        }

    def cancel(self, submissions: Mapping[str, Mapping]) -> list[str]:
        """Cancels jobs; running ones save first.

        Raises:
          EngineError: if scancel fails.
        """
        ids = {name: some for name, some in _ids(submissions, _squeue()).items() if some}
        if ids:
            _slurm(["scancel", *(id_ for some in ids.values() for id_ in some)])
        return list(ids)


def requeue_this_job() -> None:
    """Requeues the Slurm job of this process if Slurm still counts it as running.

    This is needed at the time limit or in a grace time, where the job would otherwise end. A job
    preempted with GraceTime=0, or requeued by an administrator, is requeued already; a cancelled
    job must not be requeued.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or os.environ.get("SLURM_PROCID", "0") != "0":
        return
    try:
        if _once(["squeue", "-h", "-j", job, "-o", "%T"]).stdout.strip() == "RUNNING":
            _once(["scontrol", "requeue", job])
    except (EngineError, subprocess.TimeoutExpired) as error:
        print(f"not requeued by this process: {error}", file=sys.stderr)


def _submit(states: Sequence[JobState], root: Path, options: Options, *, noted: Options) -> str:
    """Submits one array, once; returns its id. `noted`: the options recorded for resubmission."""
    specs = [str(one.job.write_spec(one.folder).absolute()) for one in states]
    jobs_list = _new_list(root)
    write_text(jobs_list, json.dumps(specs, indent=1))
    token, again = jobs_list.stem, dataclasses.asdict(noted)
    records = [
        {"engine": "slurm", "token": token, "index": index, "options": again}
        for index in range(len(states))
    ]
    before = [read_submission(one.folder) for one in states]
    _note(states, records)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "job.sh"
        write_text(file, script(jobs_list, options))
        command = [*sbatch_arguments(len(states), jobs_list, options), str(file)]
        array = _sbatch(command, token, refused=lambda: _note(states, before))
    _note(states, [record | {"id": f"{array}_{record['index']}"} for record in records])
    return array


def _note(states: Sequence[JobState], records: Sequence[Mapping]) -> None:
    for one, record in zip(states, records, strict=True):
        write_submission(one.folder, record)


def _sbatch(command: Sequence[str], token: str, *, refused: Callable[[], None]) -> str:
    """Runs a command that submits an array, once; returns the id of the array.

    Args:
      command: the sbatch command.
      token: the array's token.
      refused: called if it is certain that Slurm has no such array.
    """
    repeated = False

    def array_that_is_there() -> str | None:
        nonlocal repeated
        repeated = True
        return next(iter(_arrays_of(token)), None)

    try:
        array = _array_in(_slurm(command, done=array_that_is_there))
    except EngineError as error:
        # If a repeated command is rejected, as one array too many, the first may have succeeded.
        if not repeated and not isinstance(error, UnreadableError):
            refused()
        raise
    if repeated and (others := [one for one in _arrays_of(token) if one != array]):
        _slurm(["scancel", *others])
    return array


def _array_in(printed: str) -> str:
    """The array's id in the output of sbatch: ID or ID;CLUSTER, among a site's own messages."""
    numbers = re.findall(r"^(\d+)(?:;\S+)?\s*$", printed, re.M)
    if not numbers:
        raise UnreadableError(f"expected a job id from sbatch, got {printed.strip()!r}")
    return numbers[-1]


def _refused(error: str, submitted: int, count: int) -> str:
    if _TOO_MANY.search(error):
        error += (
            ". The cluster limits the number of jobs per user: submit N of them with --give=N, and "
            "run the command again later for the others"
        )
    return f"{error}; {submitted} of {count} jobs were submitted" if submitted else error


def _array_size() -> int:
    """The largest number of jobs that the cluster accepts in one array."""
    try:
        done = _once(["scontrol", "show", "config"])
    except (EngineError, subprocess.TimeoutExpired):
        return _ARRAY_SIZE
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.M)
    return max(1, int(found.group(1))) if found else _ARRAY_SIZE


def _new_list(root: Path) -> Path:
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    return root.absolute() / "slurm" / f"{stamp}.json"


class _Row(NamedTuple):
    """A job listed by squeue; its id is ARRAY_INDEX, its comment the token of its array."""

    id: str
    state: str
    reason: str
    comment: str


def _squeue() -> list[_Row]:
    flags = ["-h", "-r", "-u", str(os.getuid()), "--states=all", "-o", "%i|%T|%r|%k"]
    rows = [line.split("|", 3) for line in _slurm(["squeue", *flags]).splitlines()]
    return [_Row(*row) for row in rows if len(row) == 4]


def _arrays_of(token: str) -> list[str]:
    """The ids of the arrays with a token, the oldest first."""
    ids = {row.id.partition("_")[0] for row in _squeue() if row.comment == token}
    return sorted(ids, key=int)


def _ids(submissions: Mapping[str, Mapping], rows: Sequence[_Row]) -> dict[str, list[str]]:
    """Slurm's ids of jobs by name: two if their array exists twice, none if it does not exist."""
    by_token: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        by_token.setdefault((row.comment, row.id.partition("_")[2]), []).append(row.id)
    ids = {}
    for name, record in submissions.items():
        noted = [record["id"]] if "id" in record else []
        seen = by_token.get((record["token"], str(record["index"])), [])
        ids[name] = noted + [id_ for id_ in seen if id_ not in noted]
    return ids


def _furthest(found: Sequence[Queued]) -> Queued:
    """The entry that counts for a job that is queued twice: a running, else a waiting one."""
    for state in (RUNNING, WAITING):
        if of_state := [one for one in found if one.state == state]:
            return of_state[0]
    return found[0] if found else Queued(STOPPED)


def _queued(state: str, reason: str = "") -> Queued:
    word = state.split()[0].rstrip("+") if state else ""  # sacct: "CANCELLED by 0"
    if word in _WAITING:
        return Queued(WAITING, reason)
    if word in _RUNNING:
        return Queued(RUNNING, "starting")
    return Queued(STOPPED, word, fatal=word in _FATAL)


def _accounted(ids: Sequence[str]) -> dict[str, Queued]:
    """The states of jobs from sacct; empty on clusters without accounting."""
    known: dict[str, Queued] = {}
    for start in range(0, len(ids), _ASKED_AT_ONCE):
        some = ",".join(ids[start : start + _ASKED_AT_ONCE])
        try:
            done = _once(["sacct", "-X", "-n", "-P", "-j", some, "-o", "JobID,State"])
        except (EngineError, subprocess.TimeoutExpired):
            return known
        rows = [line.split("|") for line in done.stdout.splitlines() if done.returncode == 0]
        known |= {row[0]: _queued(row[1]) for row in rows if len(row) == 2}
    return known


def _once(command: Sequence[str]) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(
            command,
            env=outside_of_slurm(os.environ),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=ANSWER_SECONDS,
        )
    except FileNotFoundError as error:
        local = ", or use --engine=local" if command[0] == "sbatch" else ""
        raise AbsentError(
            f"there is no {command[0]} on this machine; run this where Slurm is installed{local}"
        ) from error


def _slurm(command: Sequence[str], *, done: Callable[[], str | None] = nothing) -> str:
    """Runs a Slurm command and returns its output; waits for a controller that restarts.

    Args:
      command: the command and its arguments.
      done: called before the command is repeated; returns the output if the command has succeeded
        although its answer was lost, else None.
    """
    for attempt in range(ATTEMPTS):
        try:
            tried = _once(command)
        except subprocess.TimeoutExpired:
            late = f"Socket timed out: no answer in {ANSWER_SECONDS:g} s"
            tried = subprocess.CompletedProcess(command, 1, "", late)
        if tried.returncode == 0:
            return tried.stdout
        if not _UNREACHABLE.search(tried.stderr):
            break
        if attempt == 0:
            print(f"waiting for the Slurm controller: {tried.stderr.strip()}", file=sys.stderr)
        time.sleep(PAUSE_SECONDS)
        if (printed := done()) is not None:
            return printed
    raise EngineError(
        f"{shlex.join(command)} failed (exit status {tried.returncode}): {tried.stderr.strip()}"
    )
