"""Provenance of results: package versions, commit, host and environment variables."""

from importlib import metadata
import json
import os
from pathlib import Path
import platform
import subprocess
import sys
import tomllib

import jax

from cnnpool.devices import numerics
from cnnpool.files.atomic_write import write_text

_PACKAGES = ("cnnpool", "jax", "jaxlib", "flax", "orbax-checkpoint", "numpy", "xarray")


def commit() -> str:
    """The commit of this package's git checkout, with the suffix `-dirty` if files were changed.

    "unknown" if the package is not in a checkout of this project, even if it is installed inside
    another project's checkout.
    """
    root = Path(__file__).resolve().parents[2]
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top) != root or not _is_ours(root / "pyproject.toml"):
        return "unknown"
    return _git(root, "describe", "--always", "--abbrev=12", "--dirty") or "unknown"


def _is_ours(project: Path) -> bool:
    """Whether a pyproject.toml is this project's."""
    try:
        return tomllib.loads(project.read_text("utf-8"))["project"]["name"] == "cnnpool"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _git(folder: Path, *words: str) -> str | None:
    """The output of a git command in a folder; None if it fails.

    Variables such as GIT_DIR, which git hooks set for their own repository, are removed.
    """
    own = ("GIT_CONFIG", "GIT_EXEC_PATH")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(own)
    }
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), *words],
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.removesuffix("\n")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can affect results."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def host() -> str:
    """Operating system, processor architecture and JAX devices, in one line."""
    devices = jax.devices()
    return f"{platform.system()} {platform.machine()}, {len(devices)} x {devices[0].device_kind}"


def record() -> dict[str, str]:
    """The complete record, as strings; `environment` only where it may affect rounding."""
    found = {"commit": commit(), "versions": json.dumps(versions()), "host_platform": host()}
    environment = numerics.environment()
    return found | ({"environment": json.dumps(environment)} if environment else {})


def append_to(path: Path) -> None:
    """Appends this process's record to the JSON list in a file; creates the file if absent.

    Prints a message if settings in the environment have changed since the last record, since
    numbers may then be rounded differently.
    """
    records = json.loads(path.read_text("utf-8")) if path.exists() else []
    now = record()
    last = records[-1] if records else now
    if last.get("environment") != now.get("environment"):
        changed = f"{last.get('environment', '{}')} -> {now.get('environment', '{}')}"
        print(
            f"{path.parent} continues with different compiler settings, which may change "
            f"rounding: {changed}",
            file=sys.stderr,
        )
    if not records or last != now:
        records.append(now)
    write_text(path, json.dumps(records, indent=2) + "\n")
