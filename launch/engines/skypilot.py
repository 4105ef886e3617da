"""TPU pods, GPU clouds and Kubernetes through SkyPilot: writes the YAML of managed jobs.

Schema-checked, never launched on a TPU: the YAML is checked by SkyPilot's own parser where it is
installed, and by the table of accelerators here; nobody has run it in a cloud yet.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
from pathlib import Path
import re
import shlex
import shutil
import subprocess
from typing import Any

from cnnpool.atomic_write import write_atomically
from cnnpool.errors import EXIT_PREEMPTED, refuse_unknown
from launch.engines.engine import EngineError
from launch.job_states import WAITING, JobState, Queued, write_submission

LABEL = "schema-checked, never launched on a TPU"
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


def task(job: JobState, spec: Path, options: Options) -> dict[str, Any]:
    """The YAML of one managed job, as a dictionary.

    Raises:
      EngineError: if an accelerator, a runtime or the bucket is none that is known.
    """
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
    install = "pip install --constraint constraints.txt ."
    if options.accelerators and options.accelerators.startswith("tpu-"):
        install = "pip install --constraint constraints.txt . 'jax[tpu]'"
    elif options.accelerators:
        install = "pip install --constraint constraints.txt . 'jax[cuda12]'"
    # SkyPilot runs this on every host of a slice: one process each.
    run = [
        f"mkdir -p {shlex.quote(folder)}",
        f"cp {shlex.quote(f'jobs/{spec.name}')} {shlex.quote(f'{folder}/{spec.name}')}",
        f"exec python -m launch.run_job {shlex.quote(f'{folder}/{spec.name}')}",
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
        _refuse(gpu, GPUS, "--accelerators")
        if count and not (count.isdigit() and int(count) >= 1):
            raise EngineError(f"--accelerators={name}: expected GPU:COUNT, such as H100:1")
        return {"accelerators": name if count else f"{gpu}:1"}
    _refuse(kind, TPU_RUNTIMES, "--accelerators")
    if not size.isdigit() or int(size) not in TPU_SIZES[kind]:
        known = ", ".join(f"{kind}-{one}" for one in TPU_SIZES[kind])
        raise EngineError(f"--accelerators={name} is no slice; there are {known}")
    return {
        "accelerators": f"{name}:1",
        "accelerator_args": {"runtime_version": TPU_RUNTIMES[kind]},
    }


def _refuse(name: str, known: Sequence[str] | Mapping[str, Any], flag: str) -> None:
    try:
        refuse_unknown(name, list(known), flag)
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
    """Managed jobs of SkyPilot; its own commands show their state."""

    def __init__(self, options: Options):
        self.options = options

    def describe(self, states: Sequence[JobState], root: Path) -> str:
        """The YAML of all jobs; writes nothing."""
        tasks = [task(one, one.folder / "spec.json", self.options) for one in states]
        parts = [f"# {LABEL}; {check_with_sky(tasks)}", *map(to_yaml, tasks)]
        return "\n".join(parts)

    def start(self, states: Sequence[JobState], root: Path) -> None:
        """Writes `sky.yaml` into the folder of each job and gives it to `sky jobs launch`.

        Raises:
          EngineError: if SkyPilot is not installed, or refuses.
        """
        specs = [one.job.write_spec(one.folder) for one in states]
        tasks = [task(one, spec, self.options) for one, spec in zip(states, specs, strict=True)]
        print(f"{LABEL}; {check_with_sky(tasks)}")
        for one, fields in zip(states, tasks, strict=True):
            write = functools.partial(Path.write_text, data=to_yaml(fields))
            write_atomically(one.folder / "sky.yaml", write)
        if shutil.which("sky") is None:
            raise EngineError(
                f"wrote sky.yaml into {len(states)} folders in {root}; there is no `sky` on this "
                "machine to launch them: give each to `sky jobs launch`"
            )
        for one, fields in zip(states, tasks, strict=True):
            _sky("jobs", "launch", "--yes", "--detach-run", str(one.folder / "sky.yaml"))
            write_submission(one.folder, {"engine": "skypilot", "id": fields["name"]})

    def queue(self, submissions: Mapping[str, Mapping]) -> dict[str, Queued]:
        """All that were given to it: `sky jobs queue` knows more."""
        return {name: Queued(WAITING, "see `sky jobs queue`") for name in submissions}

    def cancel(self, submissions: Mapping[str, Mapping]) -> None:
        """Cancels managed jobs."""
        for record in submissions.values():
            _sky("jobs", "cancel", "--yes", "--name", str(record["id"]))


def _sky(*words: str) -> None:
    try:
        subprocess.run(["sky", *words], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(f"{shlex.join(['sky', *words])} failed: {error}") from error
