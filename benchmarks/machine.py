"""What a benchmark ran on, in words."""

from importlib import metadata, util
import os
from pathlib import Path
import platform
import shutil
import subprocess


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return util.find_spec("torch") is not None


def cpu_model() -> str:
    """The processor's own name, or its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gpu() -> str | None:
    """The name of the GPU that JAX computes on, found without starting JAX."""
    if shutil.which("nvidia-smi") is None or os.environ.get("JAX_PLATFORMS") == "cpu":
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return answer.stdout.splitlines()[0] if answer.returncode == 0 and answer.stdout else None


def describe() -> str:
    """Processor, cores, GPU, versions, commit and what tunes the memory allocator."""
    from cnnpool.runs import provenance  # here: brings jax, which not every process may load

    torch = metadata.version("torch") if has_torch() else "not installed"
    processor = ", ".join(filter(None, (gpu(), cpu_model())))
    return (
        f"{processor}, {cores()} cores; Python {platform.python_version()}, "
        f"jax {metadata.version('jax')}, jaxlib {metadata.version('jaxlib')}, PyTorch {torch}; "
        f"commit {provenance.commit()}; "
        f"GLIBC_TUNABLES={os.environ.get('GLIBC_TUNABLES', '(unset)')}"
    )
