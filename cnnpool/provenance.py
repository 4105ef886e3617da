"""Where numbers come from: versions, commit, host, variables of the environment."""

from importlib import metadata
import json
from pathlib import Path
import platform
import subprocess

import jax

from cnnpool import numerics
from cnnpool.atomic_write import write_text

_PACKAGES = ("cnnpool", "jax", "jaxlib", "flax", "orbax-checkpoint", "numpy", "xarray")


def commit() -> str:
    """The commit that this package is checked out at, `-dirty` where files differ from it.

    "unknown" where the package is installed outside a git checkout.
    """
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=12", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def host() -> str:
    """Operating system, processor architecture and JAX devices."""
    devices = jax.devices()
    return f"{platform.system()} {platform.machine()}, {len(devices)} x {devices[0].device_kind}"


def record() -> dict[str, str]:
    """All of it, as strings; `environment` only where it may change how numbers are rounded."""
    found = {"commit": commit(), "versions": json.dumps(versions()), "host_platform": host()}
    environment = numerics.environment()
    return found | ({"environment": json.dumps(environment)} if environment else {})


def append_to(path: Path) -> None:
    """Adds this process's record to a JSON list in a file, made if absent."""
    records = json.loads(path.read_text("utf-8")) if path.exists() else []
    if not records or records[-1] != record():
        records.append(record())
    write_text(path, json.dumps(records, indent=2) + "\n")
