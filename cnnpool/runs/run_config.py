"""The config that a run was started with, kept beside its results."""

import json
from pathlib import Path

from cnnpool import extras
from cnnpool.errors import CnnpoolError
from cnnpool.files.atomic_write import write_text

with extras.needed("train"):
    from ml_collections import ConfigDict

_DATA_SOURCE = "data_source.txt"


def defining_fields(config: ConfigDict) -> dict:
    """The fields of a config that change a parameter of the trained networks.

    Which networks are vectorized together, and which devices share a batch, changes the order of
    sums, and so the rounding. Where the data lies changes nothing; see `claim_data`.
    """
    fields = config.to_dict()
    chosen = {name: fields[name] for name in ("seeds", "data", "model", "training")}
    chosen["data"] = {k: v for k, v in fields["data"].items() if k != "data_dir"}
    if chosen["training"].get("init_from") is None:  # as before there was this field
        chosen["training"].pop("init_from", None)
    runtime = {"seeds_per_batch": fields["runtime"]["seeds_per_batch"]}
    if "mesh" in fields["runtime"]:
        runtime["devices_per_network"] = devices_per_network(config)
    return chosen | {"runtime": runtime}


class ConfigMismatchError(CnnpoolError):
    """A working directory holds a run of another config."""


class ConfigFileError(CnnpoolError):
    """A config on the disk is damaged."""


def is_on_ring(config: ConfigDict) -> bool:
    """Whether a run is of simple CNNs on the ring of 1-D scale detection, not on pictures."""
    return config.data.name == "scale1d"


def devices_per_network(config: ConfigDict) -> int:
    """Devices that share every batch of a network."""
    return config.runtime.mesh.data if "mesh" in config.runtime else 1


def with_data_dir(config: ConfigDict, data_dir: str | None) -> ConfigDict:
    """A copy of a config whose data lies elsewhere.

    Args:
      config: complete.
      data_dir: for `data.data_dir`; None names no place of a machine.

    Raises:
      ValueError: if a folder is given, and the data is not read from one.
    """
    copy = config.copy_and_resolve_references()
    if "data_dir" in copy.data:
        copy.data.data_dir = data_dir
    elif data_dir is not None:
        raise ValueError(
            f"{config.data.name} is drawn, not read from a folder; leave out --data_dir {data_dir}"
        )
    return copy


def config_path(workdir: Path) -> Path:
    """Where a run keeps its config."""
    return workdir / "config.json"


def to_json(config: ConfigDict) -> str:
    """A config as JSON, keys sorted."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def load(workdir: Path, *, data_dir: str | None = None) -> ConfigDict:
    """The config of the run in `workdir`, locked.

    Args:
      workdir: of the run.
      data_dir: instead of the stored `data.data_dir`; None keeps that.

    Raises:
      ValueError: if the data is not read from a folder, and one is given.
      FileNotFoundError: if no run was started there.
      ConfigFileError: if the file is damaged.
    """
    path = config_path(workdir)
    if not path.is_file():
        raise FileNotFoundError(
            f"{workdir} holds no run: expected {path.name} in it, as `python -m cnnpool.train "
            f"--config=CONFIG --workdir={workdir}` leaves it"
        )
    config = from_dict(_read(path))
    return config if data_dir is None else with_data_dir(config, data_dir)


def _read(path: Path) -> dict:
    """Raises ConfigFileError unless the file holds a config."""
    try:
        fields = json.loads(path.read_text("utf-8"))
        fields["seeds"], fields["model"]["name"], fields["data"]["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigFileError(
            f"{path} is damaged ({type(error).__name__}: {error}); expected the config that "
            "cnnpool.train, pack or import_weights left there: make the folder again, or take the "
            "file from a copy"
        ) from error
    return fields


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

    Fields that do not change a parameter may differ, and a training may become longer; the stored
    fields are then replaced.

    Raises:
      ConfigMismatchError: if a run of another config is there, naming the fields.
    """
    if config_path(workdir).exists():
        there = load(workdir)
        if "training" not in there:
            raise ConfigMismatchError(
                f"{workdir} holds an imported network, which is not trained; take another --workdir"
            )
        changed = differences(defining_fields(there), defining_fields(config))
        if changed and not _is_longer(there, config, changed):
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
    write_text(config_path(workdir), to_json(config) + "\n")


def _is_longer(there: ConfigDict, config: ConfigDict, changed: list[str]) -> bool:
    """Whether all that is asked for is more epochs."""
    (name, *others) = (one.partition(":")[0] for one in changed)
    return (
        name == "training.epochs" and not others and config.training.epochs > there.training.epochs
    )


def claim_data(workdir: Path, source: str) -> None:
    """Stores what data a run is trained on, or checks that it is still the same.

    Args:
      workdir: of the run.
      source: `ImageData.source`: name and version, or a digest of the images.

    Raises:
      ConfigMismatchError: if the run there was started on other data.
    """
    check_same_data(workdir, source)
    write_text(workdir / _DATA_SOURCE, f"{source}\n")


def check_same_data(workdir: Path, source: str) -> None:
    """Raises ConfigMismatchError if a run was started on other data than `source`."""
    path = workdir / _DATA_SOURCE
    known = path.read_text("utf-8").strip() if path.exists() else source
    if known != source:
        raise ConfigMismatchError(
            f"the run in {workdir} was started on other data: {known}; got {source}. Give "
            "data.data_dir the folder of those data, or take another --workdir"
        )
