"""TPU pods, GPU clouds and Kubernetes through SkyPilot: writes the YAML of managed jobs.

Schema-checked, never run on a TPU: the YAML is checked against the table of accelerators in this
file and, if SkyPilot is installed, by SkyPilot's own parser, but has not been run in a cloud yet.
The states of jobs are read from `sky jobs queue` (in the format of SkyPilot 0.14.1).
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
from pathlib import Path
import re
import shlex
import shutil
import subprocess
from typing import Any

from cnnpool.errors import EXIT_PREEMPTED, check_known
from cnnpool.files.atomic_write import write_text
from cnnpool.launch.engines.engine import EngineError, check_at_least, nothing
from cnnpool.launch.job_states import RUNNING, STOPPED, WAITING, JobState, Queued, write_submission

LABEL = "schema-checked, never run on a TPU"
# Software versions of TPU virtual machines, from Google's documentation.
TPU_RUNTIMES = {
    "tpu-v4": "tpu-ubuntu2204-base",
    "tpu-v5litepod": "v2-alpha-tpuv5-lite",
    "tpu-v5e": "v2-alpha-tpuv5-lite",
    "tpu-v5p": "v2-alpha-tpuv5",
    "tpu-v6e": "v2-alpha-tpuv6e",
}
# Numbers of chips; for v4 and v5p, numbers of cores, two per chip.
TPU_SIZES = {
    "tpu-v4": (8, 16, 32, 64, 128, 256, 512),
    "tpu-v5litepod": (1, 4, 8, 16, 32, 64, 128, 256),
    "tpu-v5e": (1, 4, 8, 16, 32, 64, 128, 256),
    "tpu-v5p": (8, 16, 32, 64, 128, 256, 512),
    "tpu-v6e": (1, 4, 8, 16, 32, 64, 128, 256),
}
GPUS = ("H200", "H100", "A100-80GB", "A100", "L40S", "L4", "A10G", "V100", "T4", "B200")
BUCKETS = ("gs://", "s3://", "r2://", "azure://", "https://")
MOUNTED = "/cnnpool_jobs"
# States of managed jobs (sky.jobs.state.ManagedJobStatus); in all others, the job has ended.
_WAITING = {"PENDING", "SUBMITTED", "STARTING", "RECOVERING"}
_RUNNING = {"RUNNING", "WINDING_DOWN", "CANCELLING"}
_FATAL = {"FAILED", "FAILED_SETUP", "FAILED_PRECHECKS"}
NO_JOBS = "No in-progress managed jobs"
ANSWER_SECONDS = 300.0
_KEEPS = re.compile(r"[^a-z0-9-]+")


@dataclasses.dataclass(frozen=True)
class Options:
    """The resources that a job requests from a cloud.

    Attributes:
      accelerators: such as tpu-v5e-8 or H100:1; None: CPUs.
      bucket: gs://NAME or s3://NAME, mounted for checkpoints and results.
      infra: gcp, aws or kubernetes; None: any that is configured.
      spot: whether to use spot machines, which may be taken away.
      nodes: machines per job; a TPU slice counts as one.
      setup: shell commands that install cnnpool on a machine.
    """

    accelerators: str | None = None
    bucket: str | None = None
    infra: str | None = None
    spot: bool = True
    nodes: int = 1
    setup: str | None = None

    def __post_init__(self):
        """Raises EngineError if an option is out of range."""
        check_at_least(self, nodes=1)
        if self.nodes > 1 and not (self.accelerators or "").startswith("tpu-"):
            raise EngineError(
                f"expected --nodes=1 without a TPU, got {self.nodes}: the machines would not find "
                "one another. A TPU slice counts as one machine; for several machines, use "
                "--engine=slurm with --tasks"
            )


def task(job: JobState, spec: Path, options: Options) -> dict[str, Any]:
    """The YAML of one managed job, as a dictionary.

    Raises:
      EngineError: if the accelerator or the bucket is unknown, or the data is in a folder of this
        machine.
    """
    data_dir = job.job.config.data.get("data_dir")
    if data_dir is not None:
        raise EngineError(
            f"{job.job.name} reads its data from {data_dir} on this machine, which machines in a "
            "cloud do not have: omit --data_dir, and copy the data to ~/tensorflow_datasets with "
            "--setup"
        )
    if options.bucket is None or not options.bucket.startswith(BUCKETS):
        raise EngineError(
            "--bucket must be a bucket for checkpoints, which have to outlive a machine: "
            f"{', '.join(BUCKETS)}...; got {options.bucket}"
        )
    resources: dict[str, Any] = {
        "use_spot": options.spot,
        "job_recovery": {
            "max_restarts_on_errors": 0,
            "recover_on_exit_codes": [EXIT_PREEMPTED],
        },
    }
    resources |= {} if options.infra is None else {"infra": options.infra}
    resources |= accelerators(options.accelerators)
    folder = f"{MOUNTED}/{job.job.name}"
    if options.setup is None and not Path("constraints.txt").is_file():
        raise EngineError(
            "expected a checkout of cnnpool as the current folder, from which it is installed in "
            "the cloud; or use --setup with shell commands that install it: "
            "pip install 'cnnpool[train]'"
        )
    install = "pip install --constraint constraints.txt '.[tfds]'"
    if options.accelerators and options.accelerators.startswith("tpu-"):
        install = f"{install} 'jax[tpu]'"
    elif options.accelerators:
        install = f"{install} 'jax[cuda12]'"
    # SkyPilot runs this on every host of a slice, one process on each.
    run = [
        f"mkdir -p {shlex.quote(folder)}",
        f"cp {shlex.quote(f'jobs/{spec.name}')} {shlex.quote(f'{folder}/{spec.name}')}",
        f"exec python -m cnnpool.launch.run_job {shlex.quote(f'{folder}/{spec.name}')}",
    ]
    return {
        "name": cloud_name(job.job.name),
        "num_nodes": options.nodes,
        "resources": resources,
        "workdir": str(Path.cwd()),
        "file_mounts": {
            MOUNTED: {"source": options.bucket, "mode": "MOUNT"},
            f"~/sky_workdir/jobs/{spec.name}": str(spec.absolute()),
        },
        "setup": options.setup or install,
        "run": "\n".join(run) + "\n",
    }


def accelerators(name: str | None) -> dict[str, Any]:
    """The fields of SkyPilot's `resources` for an accelerator.

    Raises:
      EngineError: if the accelerator is unknown.
    """
    if name is None:
        return {}
    kind, _, size = name.rpartition("-")
    if not name.startswith("tpu-"):
        gpu, _, count = name.partition(":")
        _check_known(gpu, GPUS, "--accelerators")
        if count and not (count.isdigit() and int(count) >= 1):
            raise EngineError(f"--accelerators={name}: expected GPU:COUNT, such as H100:1")
        return {"accelerators": name if count else f"{gpu}:1"}
    _check_known(kind, TPU_RUNTIMES, "--accelerators")
    if not size.isdigit() or int(size) not in TPU_SIZES[kind]:
        known = ", ".join(f"{kind}-{one}" for one in TPU_SIZES[kind])
        raise EngineError(f"--accelerators={name} is not a TPU slice; expected one of {known}")
    return {
        "accelerators": f"{name}:1",
        "accelerator_args": {"runtime_version": TPU_RUNTIMES[kind]},
    }


def _check_known(name: str, known: Sequence[str] | Mapping[str, Any], flag: str) -> None:
    try:
        check_known(name, list(known), flag)
    except ValueError as error:
        raise EngineError(str(error)) from error


def cloud_name(name: str) -> str:
    """A job's name, restricted to the characters that clouds allow."""
    return _KEEPS.sub("-", name.lower()).strip("-")


def check_with_sky(tasks: Sequence[Mapping[str, Any]]) -> str:
    """Checks tasks with SkyPilot's parser, if it is installed; returns a note on this.

    Raises:
      EngineError: if the parser rejects a task.
    """
    try:
        import sky  # takes eleven seconds, so only here
    except ImportError:
        return "not read by SkyPilot's parser: `pip install skypilot` in a separate environment"
    for one in tasks:
        try:
            mounts = {MOUNTED: one["file_mounts"][MOUNTED]}  # the spec may not exist yet
            fields = json.loads(json.dumps({**one, "file_mounts": mounts}))
            sky.Task.from_yaml_config(fields).validate()
        except OSError:  # it downloads a catalogue of GPUs
            return "not read by SkyPilot's parser, which could not download its catalogue"
        except Exception as error:  # the types of its exceptions depend on its version
            raise EngineError(f"SkyPilot rejects {one['name']}: {error}") from error
    return f"read by SkyPilot {sky.__version__}'s parser"


def to_yaml(fields: Mapping[str, Any]) -> str:
    """The fields as JSON, which is valid YAML and needs no other quoting of strings."""
    return json.dumps(fields, indent=2) + "\n"


class SkyPilot:
    """Runs jobs as managed jobs of SkyPilot."""

    def __init__(self, options: Options):
        self.options = options

    def describe(self, states: Sequence[JobState], root: Path) -> str:
        """The YAML of all jobs; writes no files."""
        tasks = [task(one, one.job.spec_path(one.folder), self.options) for one in states]
        parts = [f"# {LABEL}; {check_with_sky(tasks)}", *map(to_yaml, tasks)]
        return "\n".join(parts)

    def start(
        self, states: Sequence[JobState], root: Path, noted: Callable[[], None] = nothing
    ) -> None:
        """Writes `sky.yaml` into the folder of each job, and runs `sky jobs launch` on it.

        Raises:
          EngineError: if SkyPilot is not installed, or rejects a job.
        """
        specs = [one.job.write_spec(one.folder) for one in states]
        tasks = [task(one, spec, self.options) for one, spec in zip(states, specs, strict=True)]
        print(f"{LABEL}; {check_with_sky(tasks)}")
        for one, fields in zip(states, tasks, strict=True):
            write_text(one.folder / "sky.yaml", to_yaml(fields))
        if shutil.which("sky") is None:
            raise EngineError(
                f"wrote sky.yaml into {len(states)} folders in {root}, but there is no command "
                "`sky` on this machine: run `sky jobs launch` on each file where it is installed"
            )
        for one, fields in zip(states, tasks, strict=True):
            record = {"engine": "skypilot", "id": fields["name"], "root": str(root.absolute())}
            record["options"] = dataclasses.asdict(self.options)
            write_submission(one.folder, record | {"waits": False})  # in case the next line fails
            _sky("jobs", "launch", "--yes", "--detach-run", str(one.folder / "sky.yaml"))
            write_submission(one.folder, record | {"waits": True})
        noted()

    def queue(self, submissions: Mapping[str, Mapping]) -> dict[str, Queued]:
        """The states of jobs from `sky jobs queue`; if it fails, from their submissions."""
        rows = _sky_queue() if submissions else []
        if rows is None:
            unread = Queued(WAITING, "see `sky jobs queue`, which could not be read here")
            return {
                name: unread if record["waits"] else Queued(STOPPED)
                for name, record in submissions.items()
            }
        status = {row["job_name"]: str(row["status"]) for row in sorted(rows, key=_number)}
        return {
            name: _queued(status.get(record["id"], ""), record)
            for name, record in submissions.items()
        }

    def cancel(self, submissions: Mapping[str, Mapping]) -> list[str]:
        """Cancels managed jobs, and records this."""
        for name, record in submissions.items():
            _sky("jobs", "cancel", "--yes", "--name", str(record["id"]))
            write_submission(Path(record["root"]) / name, {**record, "waits": False})
        return list(submissions)


def _queued(status: str, record: Mapping) -> Queued:
    if status in _WAITING:
        return Queued(WAITING, status)
    if status in _RUNNING:
        return Queued(RUNNING, status)
    if status == "SUCCEEDED":  # its results are in the bucket: do not submit it again
        bucket = record["options"]["bucket"]
        return Queued(WAITING, f"finished; copy {bucket} to {record['root']}")
    log = f"`sky jobs logs --name {record['id']}`"
    return Queued(STOPPED, status, fatal=status in _FATAL, log=log)


def _number(row: Mapping) -> int:
    return row["job_id"]


def _sky_queue() -> list[dict] | None:
    """All managed jobs; None if SkyPilot is absent, too old to have --output, or fails."""
    command = ["sky", "jobs", "queue", "--all", "--output", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
        if done.returncode:
            return [] if NO_JOBS in done.stdout + done.stderr else None
        start = re.search(r"^\[", done.stdout, re.M)  # after messages about its server
        return json.loads(done.stdout[start.start() :]) if start else None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _sky(*words: str) -> None:
    try:
        subprocess.run(["sky", *words], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(f"{shlex.join(['sky', *words])} failed: {error}") from error
