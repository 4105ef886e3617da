"""The folder of an imported network, which the commands eval, predict and export open.

It contains `weights.safetensors` (float32, named LAYER/NAME as in cnnpool's networks),
`config.json` (the network and the preparation of its images), `provenance.json` and
`summary.json`, which is written last.
"""

from collections.abc import Mapping
import hashlib
import json
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict
import jax
from ml_collections import ConfigDict
import numpy as np
import safetensors.numpy

from cnnpool.errors import CnnpoolError
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_atomically, write_text
from cnnpool.importing import conversion
from cnnpool.runs import run_config
from cnnpool.training.variables import Variables

WEIGHTS, SUMMARY, PROVENANCE = "weights.safetensors", "summary.json", "provenance.json"


class ImportedError(CnnpoolError):
    """The folder of an imported network cannot be written or read."""


def is_imported(folder: Path) -> bool:
    """Whether a folder holds an imported network, intact or damaged."""
    if (folder / WEIGHTS).is_file():
        return True
    known = run_config.config_path(folder).is_file()
    return known and "training" not in run_config.load(folder)


def check_data_dir(folder: Path, data_dir: str | None) -> None:
    """Raises ValueError if `data_dir` is given for an imported network, which needs no data."""
    if data_dir is not None and is_imported(folder):
        raise ValueError(
            f"expected no --data_dir for {folder}, an imported network that needs no data here; "
            f"got {data_dir}. Omit --data_dir"
        )


def check_is_imported_or_empty(folder: Path, *, overwrite: bool) -> None:
    """Raises FileExistsError if a folder holds a run, or an import and `overwrite` is False."""
    if is_imported(folder):
        if not overwrite:
            raise FileExistsError(f"{folder} holds an imported network; --overwrite replaces it")
    elif run_config.config_path(folder).exists():
        raise FileExistsError(f"{folder} holds a run; import into another folder")


def write(
    folder: Path, config: ConfigDict, variables: Variables, *, made_by: str, **summary: Any
) -> None:
    """Writes the folder of an imported network.

    Args:
      folder: the folder, created if absent.
      config: a config with the sections `model` and `data`.
      variables: the network's variables, in float32.
      made_by: the text of provenance.json.
      **summary: further fields of summary.json.

    Raises:
      OSError: if a file cannot be written.
    """
    (folder / SUMMARY).unlink(missing_ok=True)
    arrays = {
        path: np.asarray(leaf)
        for tree in variables
        for path, leaf in flatten_dict(tree, sep="/").items()
    }
    write_atomically(folder / WEIGHTS, lambda path: safetensors.numpy.save_file(arrays, path))
    checksum = file_checksum(folder / WEIGHTS)
    texts = {
        "config.json": f"{run_config.to_json(config)}\n",
        PROVENANCE: made_by,
        SUMMARY: f"{json.dumps(summary | {'weights_sha256': checksum}, indent=2)}\n",
    }
    for name, text in texts.items():
        write_text(folder / name, text)


def file_checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def summary(folder: Path) -> dict[str, Any]:
    """The content of summary.json.

    Raises:
      ImportedError: if the file is absent or damaged.
    """
    path = folder / SUMMARY
    try:
        found = json.loads(path.read_text("utf-8"))
        found["weights_sha256"], found["source"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImportedError(
            f"{path} cannot be read ({type(error).__name__}: {error}); import the network again"
        ) from error
    return found


def load(folder: Path, config: ConfigDict) -> Variables:
    """The variables of an imported network, in float32.

    Args:
      folder: a folder written by `write`.
      config: its config.

    Raises:
      ImportedError: if a file is damaged or belongs to another network.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise ImportedError(f"{path} does not exist; import the network again")
    if file_checksum(path) != summary(folder)["weights_sha256"]:
        raise ImportedError(
            f"{path} is not the file that {SUMMARY} describes; import the network again"
        )
    expected, _ = conversion.shapes(config.model)
    with storage.local_copy(path) as local:
        arrays = safetensors.numpy.load_file(local)
    return Variables(*(_filled(tree, arrays, path) for tree in expected))


def _filled(tree: Any, arrays: Mapping[str, np.ndarray], path: Path) -> Any:
    flat = {}
    for name, leaf in flatten_dict(tree, sep="/").items():
        if name not in arrays or arrays[name].shape != leaf.shape:
            raise ImportedError(
                f"{path} lacks {name} of shape {leaf.shape}, expected by the network in "
                "config.json; import the network again"
            )
        flat[name] = jax.numpy.asarray(arrays[name])
    return unflatten_dict(flat, sep="/")
