"""Slurm: one array of jobs a sweep, given to `sbatch`; no string of a user's becomes shell code.

Options are arguments of `sbatch`, not lines of the script, and paths in the script are quoted. A
job that a signal stops is requeued, with an administrator's RequeueExit=75 or without.
"""

from collections.abc import Mapping, Sequence
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
import uuid

from cnnpool.atomic_write import write_atomically
from cnnpool.errors import EXIT_PREEMPTED
from launch.engines.engine import EngineError
from launch.job_states import RUNNING, STOPPED, WAITING, JobState, Queued, write_submission

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
ATTEMPTS, PAUSE_SECONDS = 15, 4.0  # while the controller does not answer
_UNREACHABLE = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection (refused|timed out)"
    r"|connect failure|Transport endpoint|Zero Bytes were transmitted|try again|backup mode",
    re.I,
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a job asks of the cluster; None leaves it to the cluster.

    Attributes:
      partition, time, mem, constraint, account, qos: as sbatch has them.
      cpus: cores of a task.
      gpus: of a task.
      tasks: processes of a job, over nodes as Slurm places them.
      parallel: jobs at once, at most.
      setup: a file of shell code that is sourced first: modules, environments.
      signal_seconds: before the time limit a job is told to save.
      job_name: for `squeue`.
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


def script(jobs_list: Path, options: Options) -> str:
    """The batch script.

    The trainer is the batch process, so that signals reach it. Several processes are a job step,
    which gets signals by itself; when one of them is killed, `srun` ends the others and returns
    128 + the signal, which no RequeueExit covers, and when one is lost with its machine the others
    end with 75 and cannot know who asks for the job: `launch.run_job --after` then decides.
    """
    command = [sys.executable, "-m", "launch.run_job", "--log", "--requeue", "--list"]
    lines = [f"cd {shlex.quote(str(Path.cwd()))} || exit 1"]
    if options.setup is not None:
        lines.append(f"source {shlex.quote(str(Path(options.setup).absolute()))} || exit 1")
    words = " ".join(shlex.quote(word) for word in (*command, str(jobs_list)))
    trainer = f'{words} --index "$SLURM_ARRAY_TASK_ID"'
    if options.tasks == 1:
        lines.append(f"exec {trainer}")
    else:
        lines += [
            "trap : TERM USR1  # the step saves first",
            f"srun --kill-on-bad-exit=1 {trainer}",
            f"code=$?; [ $code = {EXIT_PREEMPTED} ] || [ $code -gt 128 ] && "
            f"exec {trainer} --after=$code",
            "exit $code",
        ]
    return "\n".join(["#!/bin/bash", *lines, ""])


def sbatch_arguments(count: int, root: Path, options: Options) -> list[str]:
    """The command that submits a script of `count` jobs, without the script."""
    at_once = "" if options.parallel is None else f"%{options.parallel}"
    # Of several processes srun gets the signal and hands it on; else the batch process does.
    who = "B:" if options.tasks == 1 else ""
    logs = str(root.absolute() / "slurm").replace("%", "%%")
    words = {
        "array": f"0-{count - 1}{at_once}",
        "job-name": options.job_name,
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


class Slurm:
    """The cluster that `sbatch` and `squeue` of this machine speak to."""

    def __init__(self, options: Options):
        self.options = options

    def describe(self, states: Sequence[JobState], root: Path) -> str:
        """The command and the script of `start`; writes nothing."""
        command = shlex.join(sbatch_arguments(len(states), root, self.options))
        jobs = "\n".join(f"  {index}: {one.job.name}" for index, one in enumerate(states))
        batch = script(_new_list(root), self.options)
        return f"{command} SCRIPT\n\nSCRIPT:\n{batch}\njobs by index:\n{jobs}"

    def start(self, states: Sequence[JobState], root: Path) -> None:
        """Submits one array of all jobs.

        Raises:
          EngineError: if there is no Slurm, or it refuses.
        """
        specs = [str(one.job.write_spec(one.folder).absolute()) for one in states]
        jobs_list = _new_list(root)
        write_atomically(jobs_list, lambda path: path.write_text(json.dumps(specs, indent=1)))
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "job.sh"
            file.write_text(script(jobs_list, self.options))
            array = _slurm([*sbatch_arguments(len(states), root, self.options), str(file)])
        array = array.strip().partition(";")[0]  # ID;CLUSTER where there are several
        for index, one in enumerate(states):
            record = {"engine": "slurm", "id": f"{array}_{index}"}
            write_submission(one.folder, record | {"options": dataclasses.asdict(self.options)})
        print(f"submitted array {array} of {len(states)} jobs")

    def queue(self, submissions: Mapping[str, Mapping]) -> dict[str, Queued]:
        """What squeue says of jobs and, of those that it forgot, sacct where there is accounting.

        Raises:
          EngineError: if there is no Slurm, or it does not answer for a minute.
        """
        if not submissions:
            return {}
        flags = ["-h", "-r", "-u", str(os.getuid()), "--states=all", "-o", "%i|%T|%r"]
        rows = [line.split("|", 2) for line in _slurm(["squeue", *flags]).splitlines()]
        known = {row[0]: _queued(*row[1:]) for row in rows if len(row) == 3}
        ids = {name: record["id"] for name, record in submissions.items()}
        forgotten = [id_ for id_ in ids.values() if id_ not in known]
        known |= _accounted(forgotten) if forgotten else {}
        return {name: known.get(id_, Queued(STOPPED)) for name, id_ in ids.items()}

    def cancel(self, submissions: Mapping[str, Mapping]) -> None:
        """Cancels jobs; those that run save first.

        Raises:
          EngineError: if Slurm refuses.
        """
        if submissions:
            _slurm(["scancel", *(record["id"] for record in submissions.values())])


def requeue_this_job() -> None:
    """Puts the Slurm job of this process back into the queue, unless it is on its way already.

    Preempted with GraceTime=0 or requeued by an administrator, it is; cancelled, it must not
    be; told of its time limit or inside a grace time, it would be over without this.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or os.environ.get("SLURM_PROCID", "0") != "0":
        return
    try:
        if _once(["squeue", "-h", "-j", job, "-o", "%T"]).stdout.strip() == "RUNNING":
            _once(["scontrol", "requeue", job])
    except (EngineError, subprocess.TimeoutExpired) as error:
        print(f"not requeued by this process: {error}", file=sys.stderr)


def _new_list(root: Path) -> Path:
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    return root.absolute() / "slurm" / f"{stamp}.json"


def _queued(state: str, reason: str = "") -> Queued:
    word = state.split()[0].rstrip("+") if state else ""  # sacct: "CANCELLED by 0"
    if word in _WAITING:
        return Queued(WAITING, reason)
    if word in _RUNNING:
        return Queued(RUNNING, "starting")
    return Queued(STOPPED, word, fatal=word in _FATAL)


def _accounted(ids: Sequence[str]) -> dict[str, Queued]:
    """What sacct says; nothing where there is no accounting."""
    try:
        done = _once(["sacct", "-X", "-n", "-P", "-j", ",".join(ids), "-o", "JobID,State"])
    except (EngineError, subprocess.TimeoutExpired):
        return {}
    rows = [line.split("|") for line in done.stdout.splitlines() if done.returncode == 0]
    return {row[0]: _queued(row[1]) for row in rows if len(row) == 2}


def _once(command: Sequence[str]) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=120)
    except FileNotFoundError as error:
        raise EngineError(
            f"there is no {command[0]} on this machine; run this where Slurm's commands are, or "
            "take --engine=local"
        ) from error


def _slurm(command: Sequence[str]) -> str:
    """What a command of Slurm prints; a controller that restarts is waited for."""
    for _ in range(ATTEMPTS):
        done = _once(command)
        if done.returncode == 0:
            return done.stdout
        if not _UNREACHABLE.search(done.stderr):
            break
        time.sleep(PAUSE_SECONDS)
    raise EngineError(
        f"{shlex.join(command)} failed (exit status {done.returncode}): {done.stderr.strip()}"
    )
