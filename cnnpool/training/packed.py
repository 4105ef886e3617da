"""The best networks of a run in a small folder: half precision, readable with numpy alone.

A folder holds `config.json` and `provenance.json` of the run, `networks.npz` (float16, by
"seedN/LAYER/NAME") and `summary.json`, which is written last and holds the others' numbers.
"""

from collections.abc import Mapping, Sequence
import functools
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from cnnpool import models
from cnnpool.data.images import ImageData
from cnnpool.errors import CnnpoolError
from cnnpool.files.atomic_write import write_atomically
from cnnpool.runs import run_config
from cnnpool.training.checkpoints import RunState
from cnnpool.training.classifier_progress import ClassifierProgress
from cnnpool.training.variables import Variables

NETWORKS, SUMMARY, PROVENANCE = "networks.npz", "summary.json", "provenance.json"


class PackedError(CnnpoolError):
    """A folder of packed networks cannot be made or read."""


def is_packed(folder: Path) -> bool:
    """Whether a folder holds packed networks, intact or damaged, and not a run."""
    return (folder / SUMMARY).is_file() or (folder / NETWORKS).is_file()


def check_is_no_run(folder: Path) -> None:
    """Raises FileExistsError if a folder is a run, which packing would damage."""
    if run_config.config_path(folder).exists() and not is_packed(folder):
        raise FileExistsError(f"{folder} holds a run; pack its networks into another folder")


def check_not_packed(folder: Path) -> None:
    """Raises FileExistsError if a folder holds packed networks, where nothing can be trained."""
    if is_packed(folder):
        raise FileExistsError(
            f"{folder} holds packed networks, which are finished; take another --workdir"
        )


def named_arrays(variables: Variables, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Parameters and batch statistics of all networks by "seedN/LAYER/NAME".

    Args:
      variables: stacked variables, the seed axis first.
      seeds: seeds of the networks, in the same order.
    """
    leaves = {
        path: np.asarray(leaf)
        for tree in variables
        for path, leaf in flatten_dict(tree, sep="/").items()
    }
    return {
        f"seed{seed}/{path}": leaf[row]
        for row, seed in enumerate(seeds)
        for path, leaf in leaves.items()
    }


def rounded(variables: Variables, seeds: Sequence[int]) -> Variables:
    """The networks in float16, the seed axis first.

    Raises:
      PackedError: if a value does not fit; the message names its array.
    """
    limit = float(np.finfo(np.float16).max)
    for name, array in named_arrays(variables, seeds).items():
        largest = np.abs(array).max(initial=0)
        if not largest <= limit:
            raise PackedError(
                f"{name} has a value of size {largest:.4g}; expected at most {limit:.0f}, the "
                "largest of float16. These networks cannot be packed; cnnpool.export writes "
                "float32"
            )
    return jax.tree.map(lambda a: np.asarray(a).astype(np.float16), variables)


def write(
    folder: Path,
    config: ConfigDict,
    *,
    state: RunState,
    rounded_errors: Sequence[float],
    data: ImageData,
    trained_by: str,
    overwrite: bool,
) -> dict[str, Any]:
    """Writes the folder; the same networks written again change nothing.

    Args:
      folder: the folder, created if missing.
      config: the run's config; the folder that its data was read from is left out.
      state: the run's state, with `networks` the result of `rounded` for the best networks.
      rounded_errors: test error of each network after rounding.
      data: the data of the test error; its name and the shape of its images are recorded.
      trained_by: text of the run's provenance.json.
      overwrite: whether to replace other networks.

    Returns:
      The contents of summary.json.

    Raises:
      FileExistsError: if the folder holds something else.
      OSError: if a file cannot be written.
    """
    networks = _npz(named_arrays(state.networks, config.seeds))
    summary = {
        "epoch": state.epoch,
        "training_seconds": state.seconds,
        "data_source": data.source,
        "image_shape": list(data.test.images.shape[1:]),
        "networks_bytes": len(networks),
        "networks_sha256": hashlib.sha256(networks).hexdigest(),
        "seeds": [_row(*one) for one in zip(state.progress, rounded_errors, strict=True)],
    }
    portable = run_config.with_data_dir(config, None)
    files = {
        NETWORKS: networks,
        "config.json": f"{run_config.to_json(portable)}\n".encode(),
        PROVENANCE: trained_by.encode(),
        SUMMARY: f"{json.dumps(summary, indent=2)}\n".encode(),
    }
    if all(_is(folder / name, content) for name, content in files.items()):
        return summary
    if is_packed(folder) and not overwrite:
        raise FileExistsError(f"{folder} holds something else; give --overwrite to replace it")
    for name, content in files.items():
        write_atomically(folder / name, functools.partial(Path.write_bytes, data=content))
    return summary


def _is(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _row(progress: Any, rounded_error: float) -> dict[str, Any]:
    return {
        "seed": progress.seed,
        "best_epoch": progress.best_epoch,
        "best_test_error": progress.best_error,
        "packed_test_error": rounded_error,
        "last_test_error": progress.test_error,
        "last_test_loss": progress.test_loss,
        "stopped_epoch": progress.stopped_epoch,
        "dead_epoch": progress.dead_epoch,
    }


def networks_checksum(folder: Path) -> str:
    """What identifies the networks of a folder.

    Raises:
      PackedError: if summary.json is missing or damaged.
    """
    return _summary(folder)["networks_sha256"]


def check_same_data(folder: Path, source: str) -> None:
    """Raises PackedError if the networks of a folder were trained on other data than `source`."""
    known = _summary(folder)["data_source"]
    if known != source:
        raise PackedError(
            f"the networks in {folder} were trained on other data: {known}; got {source}. Give "
            "--data_dir the folder of those data"
        )


def load(folder: Path, config: ConfigDict) -> RunState:
    """The best networks in a folder; `networks` is `Variables` in float32, the seed axis first.

    Args:
      folder: a folder made by `write`.
      config: the config in it.

    Raises:
      PackedError: if a file or an array is missing, damaged or from another network.
    """
    summary, path = _summary(folder), folder / NETWORKS
    found = tuple(row["seed"] for row in summary["seeds"])
    if found != tuple(config.seeds):
        raise PackedError(
            f"{folder / SUMMARY} is of seeds {found}, config.json of {tuple(config.seeds)}; "
            "take the folder from its source again"
        )
    shapes = _shapes(config, summary["image_shape"])
    arrays = _read(path, named_arrays(_with_seed_axis(shapes, len(found)), found))
    if hashlib.sha256(path.read_bytes()).hexdigest() != summary["networks_sha256"]:
        raise PackedError(
            f"{path} is not the file that {SUMMARY} describes: expected SHA-256 "
            f"{summary['networks_sha256']}; take the folder from its source again"
        )
    params = Variables(*(_stacked(tree, arrays, found) for tree in shapes))
    progress = tuple(_progress(row) for row in summary["seeds"])
    return RunState(summary["epoch"], params, progress, summary["training_seconds"])


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / SUMMARY
    try:
        summary = json.loads(path.read_text("utf-8"))
        for row in summary["seeds"]:
            _progress(row)
        for key in ("epoch", "training_seconds", "image_shape", "data_source", "networks_sha256"):
            summary[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackedError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected what "
            "cnnpool.pack leaves. Take the folder from its source again"
        ) from error
    return summary


def _progress(row: Mapping[str, Any]) -> ClassifierProgress:
    return ClassifierProgress(
        seed=row["seed"],
        stopped_epoch=row["stopped_epoch"],
        best_epoch=row["best_epoch"],
        best_error=row["best_test_error"],
        test_error=row["last_test_error"],
        test_loss=row["last_test_loss"],
        dead_epoch=row["dead_epoch"],
    )


def _shapes(config: ConfigDict, image_shape: Sequence[int]) -> Variables:
    """Shapes of one network's variables, from its config alone."""
    model: Any = models.build(config.model)
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), images
    )
    return Variables(variables["params"], variables.get("batch_stats", {}))


def _with_seed_axis(shapes: Variables, count: int) -> Variables:
    """Placeholders in float16 with the expected shapes, which take no memory."""
    return jax.tree.map(
        lambda a: np.broadcast_to(np.zeros((), np.float16), (count, *a.shape)), shapes
    )


def _read(path: Path, expected: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    arrays, name = {}, "its list of arrays"
    try:
        # Opened here, because numpy does not close a file that it cannot read.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [name for name in expected if name not in file.files]
            for name in expected.keys() - set(missing):
                arrays[name] = file[name]
    except Exception as error:  # numpy, zipfile and zlib each raise their own exceptions
        raise PackedError(
            f"{path} is damaged at {name} ({type(error).__name__}: {error}); take it from its "
            "source again"
        ) from error
    if missing:
        raise PackedError(
            f"{path} lacks {len(missing)} of {len(expected)} arrays of the network in "
            f"config.json: {', '.join(missing[:4])}{', ...' if missing[4:] else ''}"
        )
    for name, array in arrays.items():
        wanted = expected[name]
        if (array.shape, array.dtype) != (wanted.shape, wanted.dtype):
            raise PackedError(
                f"{path}: {name} is {array.dtype} of shape {array.shape}; expected {wanted.dtype} "
                f"of shape {wanted.shape}, as the network in config.json has it"
            )
    return arrays


def _stacked(tree: Any, arrays: Mapping[str, np.ndarray], seeds: Sequence[int]) -> Any:
    """The tree of one network's shapes, filled with the stacked arrays of all networks."""
    return unflatten_dict(
        {
            path: np.stack([arrays[f"seed{seed}/{path}"] for seed in seeds]).astype(np.float32)
            for path in flatten_dict(tree, sep="/")
        },
        sep="/",
    )
