"""Folders of finished networks without checkpoints: packed from a run, or imported.

| file | content |
|---|---|
| networks.npz | all variables by "seedN/LAYER/NAME", float16 if packed, float32 if imported |
| config.json | the networks' config; an imported network has no section `training` |
| provenance.json | the programs that trained or imported them |
| summary.json | SHA-256 of networks.npz, shape of the images, seeds, errors; written last |

The arrays can be read with numpy alone.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import hashlib
import io
import json
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import ConfigDict
import numpy as np

from cnnpool import models
from cnnpool.errors import CnnpoolError
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_atomically
from cnnpool.runs import run_config
from cnnpool.training.variables import Variables, variable_shapes

NETWORKS, SUMMARY, PROVENANCE = "networks.npz", "summary.json", "provenance.json"
_FORMER = "weights.safetensors"  # of networks that earlier versions imported
_CURE = "Take the folder from its source again, or pack or import its networks again"
_DTYPES = (np.float16, np.float32)
Found = TypeVar("Found")


class NetworkFolderError(CnnpoolError):
    """A folder of finished networks cannot be written or read."""


def holds_networks(folder: Path) -> bool:
    """Whether a folder holds finished networks, intact or damaged, and not a run."""
    return any((folder / name).is_file() for name in (SUMMARY, NETWORKS, _FORMER))


def check_holds_no_run(folder: Path) -> None:
    """Raises FileExistsError if a folder is a run, which writing networks there would damage."""
    if run_config.config_path(folder).exists() and not holds_networks(folder):
        raise FileExistsError(f"{folder} holds a run; write the networks into another folder")


def check_holds_no_networks(folder: Path) -> None:
    """Raises FileExistsError if a folder holds finished networks, where nothing can be trained."""
    if holds_networks(folder):
        raise FileExistsError(
            f"{folder} holds packed or imported networks, which are finished; choose another "
            "--workdir"
        )


def named_arrays(networks: Variables, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """The variables of all networks by "seedN/LAYER/NAME".

    Args:
      networks: stacked variables, the seed axis first.
      seeds: seeds of the networks, in the same order.
    """
    leaves = {path: np.asarray(leaf) for path, leaf in networks.by_path().items()}
    return {
        f"seed{seed}/{path}": leaf[row]
        for row, seed in enumerate(seeds)
        for path, leaf in leaves.items()
    }


def write(
    folder: Path,
    config: ConfigDict,
    networks: Variables,
    *,
    image_shape: Sequence[int],
    seeds: Sequence[Mapping[str, Any]],
    made_by: str,
    overwrite: bool,
    **facts: Any,
) -> dict[str, Any]:
    """Writes the folder; the same content written again changes nothing.

    Args:
      folder: the folder, created if missing.
      config: the networks' config; the folder that data was read from is left out.
      networks: stacked variables in float16 or float32, the seed axis first.
      image_shape: (height, width, channels) of the images that the networks take.
      seeds: what is known about each network, for summary.json; {"seed": N} at least.
      made_by: text of provenance.json.
      overwrite: whether to replace other networks.
      **facts: further fields of summary.json.

    Returns:
      The content of summary.json.

    Raises:
      FileExistsError: if the folder holds a run, or other networks and `overwrite` is False.
      OSError: if a file cannot be written.
    """
    arrays = _npz(named_arrays(networks, config.seeds))
    described = {
        **facts,
        "image_shape": list(image_shape),
        "networks_bytes": len(arrays),
        "networks_sha256": hashlib.sha256(arrays).hexdigest(),
        "seeds": list(seeds),
    }
    portable = run_config.with_data_dir(config, None)
    files = {
        NETWORKS: arrays,
        "config.json": f"{run_config.to_json(portable)}\n".encode(),
        PROVENANCE: made_by.encode(),
        SUMMARY: f"{json.dumps(described, indent=2)}\n".encode(),
    }
    if all(_is(folder / name, content) for name, content in files.items()):
        return described
    check_holds_no_run(folder)
    if holds_networks(folder) and not overwrite:
        raise FileExistsError(f"{folder} holds something else; give --overwrite to replace it")
    (folder / SUMMARY).unlink(missing_ok=True)  # so that half a write is seen
    for name, content in files.items():
        write_atomically(folder / name, functools.partial(Path.write_bytes, data=content))
    (folder / _FORMER).unlink(missing_ok=True)
    return described


def _is(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_summary(folder: Path, read: Callable[[Mapping[str, Any]], Found]) -> Found:
    """What `read` takes from the content of summary.json.

    Raises:
      NetworkFolderError: if the file is missing or damaged, or lacks what `read` asks for.
    """
    path = folder / SUMMARY
    if (folder / _FORMER).is_file() and not (folder / NETWORKS).is_file():
        raise NetworkFolderError(
            f"{folder} holds {_FORMER}, as earlier versions imported networks; expected "
            f"{NETWORKS}. Import the network again: cnnpool.import_weights --overwrite"
        )
    try:
        return read(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NetworkFolderError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected what cnnpool.pack "
            f"or cnnpool.import_weights leaves. {_CURE}"
        ) from error


def networks_checksum(folder: Path) -> str:
    """What identifies the networks of a folder.

    Raises:
      NetworkFolderError: if summary.json is missing or damaged.
    """
    return read_summary(folder, lambda found: found["networks_sha256"])


def load(folder: Path, config: ConfigDict) -> Variables:
    """The networks in a folder, stacked, in float32.

    Args:
      folder: a folder made by `write`.
      config: the config in it.

    Raises:
      NetworkFolderError: if a file or an array is missing, damaged or from another network.
    """
    image_shape, checksum, seeds = read_summary(folder, _described)
    if seeds != tuple(config.seeds):
        raise NetworkFolderError(
            f"{folder / SUMMARY} is of seeds {seeds}, config.json of {tuple(config.seeds)}. {_CURE}"
        )
    one = variable_shapes(models.build(config.model), image_shape)
    expected = {
        f"seed{seed}/{path}": leaf.shape for seed in seeds for path, leaf in one.by_path().items()
    }
    arrays = _read(folder / NETWORKS, expected, checksum)

    def stacked(path: str) -> np.ndarray:
        return np.stack([arrays[f"seed{seed}/{path}"] for seed in seeds]).astype(np.float32)

    return one.filled(stacked)


def _described(found: Mapping[str, Any]) -> tuple[list[int], str, tuple[int, ...]]:
    seeds = tuple(row["seed"] for row in found["seeds"])
    return found["image_shape"], found["networks_sha256"], seeds


def _read(
    path: Path, expected: Mapping[str, tuple[int, ...]], checksum: str
) -> dict[str, np.ndarray]:
    """The arrays of a file by name, if they have the expected shapes, and the file its checksum."""
    if not path.is_file():
        raise NetworkFolderError(f"{path} does not exist. {_CURE}")
    with storage.local_copy(path) as local:
        arrays = _arrays(local, path, expected)
        unchanged = storage.checksum(local) == checksum
    for name, array in arrays.items():
        if array.dtype not in _DTYPES or array.shape != expected[name]:
            raise NetworkFolderError(
                f"{path}: {name} is {array.dtype} of shape {array.shape}; expected float16 or "
                f"float32 of shape {expected[name]}, as the network in config.json has it"
            )
    if not unchanged:
        raise NetworkFolderError(
            f"{path} is not the file that {SUMMARY} describes: expected SHA-256 {checksum}. {_CURE}"
        )
    return arrays


def _arrays(
    local: Path, path: Path, expected: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    arrays, name = {}, "its list of arrays"
    try:
        # Opened here, because numpy does not close a file that it cannot read.
        with local.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [name for name in expected if name not in file.files]
            for name in expected.keys() - set(missing):
                arrays[name] = file[name]
    except Exception as error:  # numpy, zipfile and zlib each raise their own exceptions
        raise NetworkFolderError(
            f"{path} is damaged at {name} ({type(error).__name__}: {error}). {_CURE}"
        ) from error
    if missing:
        raise NetworkFolderError(
            f"{path} lacks {len(missing)} of {len(expected)} arrays of the network in "
            f"config.json: {', '.join(missing[:4])}{', ...' if missing[4:] else ''}. {_CURE}"
        )
    return arrays
