"""The config that a run was started with, kept beside its results."""

import json
from pathlib import Path

from cnnpool import extras
from cnnpool.errors import CnnpoolError
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_text

with extras.needed("train"):
    from ml_collections import ConfigDict

_DATA_SOURCE = "data_source.txt"


def defining_fields(config: ConfigDict) -> dict:
    """The fields of a config that affect the parameters of the trained networks.

    They include which networks are vectorized together and how many devices share a batch: both
    change the order of summation, and thereby rounding. They exclude `data.data_dir`; whether the
    data is the same is checked by `claim_data`.
    """
    fields = config.to_dict()
    chosen = {name: fields[name] for name in ("seeds", "data", "model", "training")}
    chosen["data"] = {k: v for k, v in fields["data"].items() if k != "data_dir"}
    if chosen["training"].get("init_from") is None:  # as in configs older than this field
        chosen["training"].pop("init_from", None)
    runtime = {"seeds_per_batch": fields["runtime"]["seeds_per_batch"]}
    if "mesh" in fields["runtime"]:
        runtime["devices_per_network"] = devices_per_network(config)
    return chosen | {"runtime": runtime}


class ConfigMismatchError(CnnpoolError):
    """A working directory contains a run with another config."""


class ConfigFileError(CnnpoolError):
    """A stored config file is damaged."""


def is_on_ring(config: ConfigDict) -> bool:
    """Whether a run trains simple CNNs on the ring of 1-D scale detection, not on images."""
    return config.data.name == "scale1d"


def is_imported(config: ConfigDict) -> bool:
    """Whether the networks were imported, so that their training is not known."""
    return "training" not in config


def devices_per_network(config: ConfigDict) -> int:
    """The number of devices that share each batch of a network."""
    return config.runtime.mesh.data if "mesh" in config.runtime else 1


def with_data_dir(config: ConfigDict, data_dir: str | None) -> ConfigDict:
    """A copy of a config with another data folder.

    Args:
      config: a complete config.
      data_dir: the new `data.data_dir`; None: no folder, so that no path of a machine is stored.

    Raises:
      ValueError: if a folder is given, but the data set is not read from a folder.
    """
    copy = config.copy_and_resolve_references()
    if "data_dir" in copy.data:
        copy.data.data_dir = data_dir
    elif data_dir is not None:
        raise ValueError(
            f"expected no --data_dir for {config.data.name}, whose images are generated; got "
            f"{data_dir}. Omit --data_dir"
        )
    return copy


def config_path(workdir: Path) -> Path:
    """Where a run keeps its config."""
    return workdir / "config.json"


def to_json(config: ConfigDict) -> str:
    """A config as JSON, with sorted keys."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def load(workdir: Path, *, data_dir: str | None = None) -> ConfigDict:
    """The config of the run in `workdir`, locked.

    Args:
      workdir: the run's working directory.
      data_dir: replaces the stored `data.data_dir`; None keeps the stored one.

    Raises:
      ValueError: if `data_dir` is given, but the data set is not read from a folder.
      FileNotFoundError: if no run was started in `workdir`.
      ConfigFileError: if the file is damaged.
    """
    path = config_path(workdir)
    if not path.is_file():
        raise FileNotFoundError(
            f"{workdir} holds no run: expected {path.name}, as written by `python -m "
            f"cnnpool.train --config=CONFIG --workdir={workdir}`"
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
            "cnnpool.train, pack or import_weights wrote. Create the folder again, or restore the "
            "file from a copy"
        ) from error
    return fields


def from_dict(fields: dict) -> ConfigDict:
    """A locked config from nested dicts, with lists (from JSON) converted to tuples."""

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
    """Stores the config in `workdir`, or checks that the stored one defines the same run.

    Fields that do not affect parameters may differ, and `training.epochs` may be larger; the
    stored config is then replaced. A relative `data.data_dir` is stored as an absolute path, so
    that later commands find the data from any working directory.

    Raises:
      ConfigMismatchError: if `workdir` contains a run with another config; lists the fields.
    """
    if config_path(workdir).exists():
        there = load(workdir)
        if is_imported(there):
            raise ConfigMismatchError(
                f"{workdir} holds an imported network, which cannot be trained; choose another "
                "--workdir"
            )
        changed = differences(defining_fields(there), defining_fields(config))
        if changed and not _is_longer(there, config, changed):
            raise ConfigMismatchError(
                f"{workdir} holds a run with another config; stored -> requested:\n  "
                + "\n  ".join(changed)
                + "\nChoose another --workdir, or use the config that the run was started with."
            )
    elif has_checkpoints:
        raise ConfigMismatchError(
            f"{workdir} holds checkpoints but no {config_path(workdir).name}, so their config "
            "is unknown; choose another --workdir"
        )
    stored = config
    if config.data.get("data_dir"):
        stored = with_data_dir(config, storage.from_anywhere(config.data.data_dir))
    write_text(config_path(workdir), to_json(stored) + "\n")


def _is_longer(there: ConfigDict, config: ConfigDict, changed: list[str]) -> bool:
    """Whether the only change is a larger number of epochs."""
    (name, *others) = (one.partition(":")[0] for one in changed)
    return (
        name == "training.epochs" and not others and config.training.epochs > there.training.epochs
    )


def claim_data(workdir: Path, source: str) -> None:
    """Stores which data a run is trained on, or checks that it is the same as before.

    Args:
      workdir: the run's working directory.
      source: `ImageData.source`: name and version, or a digest of the images.

    Raises:
      ConfigMismatchError: if the run was started on other data.
    """
    check_same_data(workdir, source)
    write_text(workdir / _DATA_SOURCE, f"{source}\n")


def is_same_data(known: str, source: str) -> bool:
    """Whether a run's record names this data; that of an earlier version may end earlier."""
    return source == known or source.startswith(known.removesuffix(")") + ";")


def check_same_data(workdir: Path, source: str) -> None:
    """Raises ConfigMismatchError if a run was started on other data than `source`."""
    path = workdir / _DATA_SOURCE
    known = path.read_text("utf-8").strip() if path.exists() else source
    if not is_same_data(known, source):
        raise ConfigMismatchError(
            f"the run in {workdir} was started on other data: expected {known}, got {source}. Set "
            "data.data_dir to the folder of the former, or choose another --workdir"
        )
