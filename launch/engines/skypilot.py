"""TPU pods, GPU clouds and Kubernetes through SkyPilot: writes the YAML of managed jobs.

Schema-checked, never run on a TPU: the YAML is checked by SkyPilot's own parser where it is
installed, and by the table of accelerators here; nobody has run it in a cloud yet. Jobs in a cloud
are read from `sky jobs queue` (as SkyPilot 0.14.1 writes it).
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
# Chips; v4 and v5p are named by their cores, two a chip.
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
# Of managed jobs (sky.jobs.state.ManagedJobStatus); all others are over.
_WAITING = {"PENDING", "SUBMITTED", "STARTING", "RECOVERING"}
_RUNNING = {"RUNNING", "WINDING_DOWN", "CANCELLING"}
_FATAL = {"FAILED", "FAILED_SETUP", "FAILED_PRECHECKS"}
NO_JOBS = "No in-progress managed jobs"
ANSWER_SECONDS = 300.0
_KEEPS = re.compile(r"[^a-z0-9-]+")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a job asks of a cloud.

    Attributes:
      accelerators: tpu-v5e-8, H100:1; None: CPUs.
      bucket: gs://NAME or s3://NAME, mounted, for checkpoints and results.
      infra: gcp, aws, kubernetes; None: any that is set up.
      spot: take machines that may be taken away.
      nodes: machines of a job; a TPU slice counts as one.
      setup: shell commands that install cnnpool on a machine.
    """

    accelerators: str | None = None
    bucket: str | None = None
    infra: str | None = None
    spot: bool = True
    nodes: int = 1
    setup: str | None = None

    def __post_init__(self):
        """Raises EngineError where an option is impossible."""
        check_at_least(self, nodes=1)
        if self.nodes > 1 and not (self.accelerators or "").startswith("tpu-"):
            raise EngineError(
                f"--nodes={self.nodes} without a TPU: the machines would not find one another; a "
                "TPU slice counts as one machine, and --engine=slurm has --tasks for several"
            )


def task(job: JobState, spec: Path, options: Options) -> dict[str, Any]:
    """The YAML of one managed job, as a dictionary.

    Raises:
      EngineError: if an accelerator, a runtime or the bucket is none that is known, or the data
        lies in a folder of this machine.
    """
    data_dir = job.job.config.data.get("data_dir")
    if data_dir is not None:
        raise EngineError(
            f"{job.job.name} reads its data from {data_dir} of this machine, which no machine of a "
            "cloud has: leave out --data_dir, and let --setup bring it to ~/tensorflow_datasets"
        )
    if options.bucket is None or not options.bucket.startswith(BUCKETS):
        raise EngineError(
            f"--bucket must be where checkpoints outlive a machine, {', '.join(BUCKETS)}...; got "
            f"{options.bucket}"
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
            "this folder is uploaded, and cnnpool installed from it: expected a checkout of "
            "cnnpool; or give --setup, shell commands that install it: "
            "pip install 'cnnpool[train]'"
        )
    install = "pip install --constraint constraints.txt '.[tfds]'"
    if options.accelerators and options.accelerators.startswith("tpu-"):
        install = f"{install} 'jax[tpu]'"
    elif options.accelerators:
        install = f"{install} 'jax[cuda12]'"
    # SkyPilot runs this on every host of a slice: one process each.
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
      EngineError: if it is none that is known.
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
        raise EngineError(f"--accelerators={name} is no slice; there are {known}")
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
    """A job's name as clouds allow it."""
    return _KEEPS.sub("-", name.lower()).strip("-")


def check_with_sky(tasks: Sequence[Mapping[str, Any]]) -> str:
    """Lets SkyPilot's parser read the tasks, where it is installed; says whether it did.

    Raises:
      EngineError: if the parser refuses one.
    """
    try:
        import sky  # eleven seconds, and only here
    except ImportError:
        return "not read by SkyPilot's parser: `pip install skypilot` in an environment of its own"
    for one in tasks:
        try:
            mounts = {MOUNTED: one["file_mounts"][MOUNTED]}  # a spec may not be written yet
            fields = json.loads(json.dumps({**one, "file_mounts": mounts}))
            sky.Task.from_yaml_config(fields).validate()
        except OSError:  # it looks GPUs up in a catalogue on the network
            return "not read by SkyPilot's parser, which could not fetch its catalogue"
        except Exception as error:  # its own kinds, by version
            raise EngineError(f"SkyPilot refuses {one['name']}: {error}") from error
    return f"read by SkyPilot {sky.__version__}'s parser"


def to_yaml(fields: Mapping[str, Any]) -> str:
    """JSON, of which every line is YAML too: no string needs another way of quoting."""
    return json.dumps(fields, indent=2) + "\n"


class SkyPilot:
    """Managed jobs of SkyPilot."""

    def __init__(self, options: Options):
        self.options = options

    def describe(self, states: Sequence[JobState], root: Path) -> str:
        """The YAML of all jobs; writes nothing."""
        tasks = [task(one, one.job.spec_path(one.folder), self.options) for one in states]
        parts = [f"# {LABEL}; {check_with_sky(tasks)}", *map(to_yaml, tasks)]
        return "\n".join(parts)

    def start(
        self, states: Sequence[JobState], root: Path, noted: Callable[[], None] = nothing
    ) -> None:
        """Writes `sky.yaml` into the folder of each job and gives it to `sky jobs launch`.

        Raises:
          EngineError: if SkyPilot is not installed, or refuses.
        """
        specs = [one.job.write_spec(one.folder) for one in states]
        tasks = [task(one, spec, self.options) for one, spec in zip(states, specs, strict=True)]
        print(f"{LABEL}; {check_with_sky(tasks)}")
        for one, fields in zip(states, tasks, strict=True):
            write_text(one.folder / "sky.yaml", to_yaml(fields))
        if shutil.which("sky") is None:
            raise EngineError(
                f"wrote sky.yaml into {len(states)} folders in {root}; there is no `sky` on this "
                "machine to launch them: give each to `sky jobs launch`"
            )
        for one, fields in zip(states, tasks, strict=True):
            record = {"engine": "skypilot", "id": fields["name"], "root": str(root.absolute())}
            record["options"] = dataclasses.asdict(self.options)
            write_submission(one.folder, record | {"waits": False})  # as if the next were refused
            _sky("jobs", "launch", "--yes", "--detach-run", str(one.folder / "sky.yaml"))
            write_submission(one.folder, record | {"waits": True})
        noted()

    def queue(self, submissions: Mapping[str, Mapping]) -> dict[str, Queued]:
        """What `sky jobs queue` says; where it cannot be read, what was noted."""
        rows = _sky_queue() if submissions else []
        if rows is None:
            unread = Queued(WAITING, "see `sky jobs queue`, which cannot be read here")
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
        """Cancels managed jobs, and notes it."""
        for name, record in submissions.items():
            _sky("jobs", "cancel", "--yes", "--name", str(record["id"]))
            write_submission(Path(record["root"]) / name, {**record, "waits": False})
        return list(submissions)


def _queued(status: str, record: Mapping) -> Queued:
    if status in _WAITING:
        return Queued(WAITING, status)
    if status in _RUNNING:
        return Queued(RUNNING, status)
    if status == "SUCCEEDED":  # its results are in the bucket: nothing to give again
        bucket = record["options"]["bucket"]
        return Queued(WAITING, f"finished; copy {bucket} to {record['root']}")
    log = f"`sky jobs logs --name {record['id']}`"
    return Queued(STOPPED, status, fatal=status in _FATAL, log=log)


def _number(row: Mapping) -> int:
    return row["job_id"]


def _sky_queue() -> list[dict] | None:
    """All managed jobs; None where SkyPilot is absent, older than its --output, or fails."""
    command = ["sky", "jobs", "queue", "--all", "--output", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
        if done.returncode:
            return [] if NO_JOBS in done.stdout + done.stderr else None
        start = re.search(r"^\[", done.stdout, re.M)  # behind what it says of its server
        return json.loads(done.stdout[start.start() :]) if start else None
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _sky(*words: str) -> None:
    try:
        subprocess.run(["sky", *words], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(f"{shlex.join(['sky', *words])} failed: {error}") from error
