"""The config that a run was started with, kept beside its results."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from cnnpool.atomic_write import write_atomically
from cnnpool.errors import CnnpoolError


def defining_fields(config: ConfigDict) -> dict:
    """The fields of a config that change a parameter of the trained networks.

    Which networks are vectorized together changes the order of sums, and so the rounding.
    """
    fields = config.to_dict()
    chosen = {name: fields[name] for name in ("seeds", "data", "model", "training")}
    return chosen | {"runtime": {"seeds_per_batch": fields["runtime"]["seeds_per_batch"]}}


class ConfigMismatchError(CnnpoolError):
    """A working directory holds a run of another config."""


def config_path(workdir: Path) -> Path:
    """Where a run keeps its config."""
    return workdir / "config.json"


def to_json(config: ConfigDict) -> str:
    """A config as JSON, keys sorted."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def load(workdir: Path) -> ConfigDict:
    """The config of the run in `workdir`, locked.

    Raises:
      FileNotFoundError: if no run was started there.
    """
    path = config_path(workdir)
    if not path.is_file():
        raise FileNotFoundError(
            f"{workdir} holds no run: expected {path.name} in it, as `python -m cnnpool.train "
            f"--config=CONFIG --workdir={workdir}` leaves it"
        )
    return from_dict(json.loads(path.read_text()))


def from_dict(fields: dict) -> ConfigDict:
    """A locked config from nested dicts; JSON's lists become tuples."""

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(item) for key, item in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return ConfigDict(tuples(fields)).lock()


def differences(a: dict, b: dict, prefix: str = "") -> list[str]:
    """The fields in which two nested dicts differ, as `name: a -> b`."""
    found = []
    for key in sorted({*a, *b}):
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            found += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            found.append(f"{prefix}{key}: {left} -> {right}")
    return found


def claim(workdir: Path, config: ConfigDict, *, has_checkpoints: bool) -> None:
    """Stores the config in `workdir`, or checks that the one there is the same.

    Fields that do not change a parameter may differ; the stored ones are then replaced.

    Raises:
      ConfigMismatchError: if a run of another config is there, naming the fields.
    """
    if config_path(workdir).exists():
        changed = differences(defining_fields(load(workdir)), defining_fields(config))
        if changed:
            raise ConfigMismatchError(
                f"{workdir} holds a run of another config; there -> asked for:\n  "
                + "\n  ".join(changed)
                + "\nTake another --workdir, or give the fields that it was started with."
            )
    elif has_checkpoints:
        raise ConfigMismatchError(
            f"{workdir} holds checkpoints but no {config_path(workdir).name}, so what made them is "
            "unknown; take another --workdir"
        )
    write_atomically(config_path(workdir), lambda path: path.write_text(to_json(config) + "\n"))
