"""Reads a state_dict from a file: {PyTorch's name: numpy array}."""

from collections.abc import Iterator, Mapping
from pathlib import Path
import re
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  registers bfloat16 with numpy, for safetensors
import numpy as np
import safetensors.numpy

from cnnpool.importing import pth
from cnnpool.importing.stand_ins import is_stand_in
from cnnpool.importing.unpickling import StateDictError

StateDict = dict[str, np.ndarray]

# Keys under which training programs store a state_dict, next to epochs and optimizers.
_INNER = ("state_dict", "model", "model_state_dict", "net")
# Prefixes that parallel training, torch.compile, Lightning and weight averaging add to all names,
# and common names of the attribute under which a user's module holds the network.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
_OF_LAYERS = ("weight", "bias", "running_")  # unlike scores, steps and states of generators
_AVERAGED = "n_averaged"  # a counter of torch.optim.swa_utils.AveragedModel
_SUFFIXES = {".safetensors": "safetensors", ".pth": "pth", ".pt": "pth", ".bin": "pth"}
# First bytes of other kinds of files that users may pass by mistake.
_STRANGERS = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with `git lfs pull`",
    b"\x1f\x8b": "compressed; unpack it with gunzip",
    b"BZh": "compressed; unpack it with bunzip2",
    b"\xfd7zXZ": "compressed; unpack it with unxz",
    b"<": "a web page instead of the file that it should link to; download the file again",
    b"\x89HDF": "HDF5, as written by Keras; expected safetensors or a file of torch.save",
}


class Found(NamedTuple):
    """A state_dict found in a file.

    Attributes:
      state: the state_dict.
      key: its location in the file, such as "model.ema" in nested dicts; empty at the root.
      others: the locations of the file's other state_dicts.
    """

    state: StateDict
    key: str
    others: tuple[str, ...]


def read(path: Path) -> StateDict:
    """The state_dict in a file; see `find`."""
    return find(path).state


def find(path: Path, key: str | None = None) -> Found:
    """Finds the state_dict in a file; the file's name does not matter.

    In the checkpoint of a training program, it is searched under `state_dict`, `model`, ...; if it
    is not there, it must be the only one in the checkpoint. Values other than tensors are ignored.
    Prefixes such as `module.`, `_orig_mod.` and `model.` are removed if all names have them.

    Args:
      path: a file written by torch.save, or safetensors.
      key: the state_dict's location in the file, such as "model_ema"; None searches.

    Raises:
      StateDictError: if the file is absent, damaged or of another kind, or contains several
        state_dicts, none of them under a usual key.
    """
    if _kind(path) == "safetensors":
        value: Any = _read_safetensors(path)
    else:
        value = pth.read(path)
    known = dict(_state_dicts(value))
    if key is None:
        key = _chosen(value, known, path)
    if key not in known:
        raise StateDictError(f"{path} has no state_dict {key!r}; {_listed(known)}")
    _check_readable(known[key], path)
    tensors = {name: array for name, array in known[key].items() if _is_tensor(name, array)}
    kept = {name: a for name, a in tensors.items() if name.split(".")[-1] != _AVERAGED}
    return Found(_without_prefixes(kept), key, tuple(name for name in known if name != key))


def _kind(path: Path) -> str:
    """The format of a file by its first bytes; by its suffix if these are unknown."""
    if not path.is_file():
        what = "is a folder; expected the file in it" if path.is_dir() else "does not exist"
        raise StateDictError(f"{path} {what}")
    with path.open("rb") as file:
        head = file.read(512)
    # Checked first: the header's length, at the start, may look like a pickle or a zip archive.
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith((b"PK", b"\x80")):
        return "pth"
    for beginning, what in _STRANGERS.items():
        if head.startswith(beginning):
            raise StateDictError(f"{path} is {what}")
    if head[257:262] == b"ustar":
        raise StateDictError(f"{path} is a tar archive; unpack it and pass the file in it")
    if path.suffix not in _SUFFIXES:
        raise StateDictError(
            f"{path} is neither a file of torch.save nor safetensors; expected the content of one "
            f"of {', '.join(_SUFFIXES)}, under any name"
        )
    return _SUFFIXES[path.suffix]


def _without_prefixes(found: StateDict) -> StateDict:
    """Removes the prefixes that all names share, one after the other."""
    for prefix in _PREFIXES:
        if found and all(name.startswith(prefix) for name in found):
            return _without_prefixes({k.removeprefix(prefix): v for k, v in found.items()})
    return found


def _read_safetensors(path: Path) -> StateDict:
    try:
        return safetensors.numpy.load_file(path)
    except AttributeError as error:  # raised when numpy has no type of the name in the file
        raise StateDictError(
            f"{path} has numbers of an unsupported type ({error}); expected float64, float32, "
            "float16 or bfloat16"
        ) from error
    except Exception as error:  # damaged: SafetensorError, OSError, KeyError or TypeError
        raise StateDictError(
            f"{path} cannot be read as safetensors ({type(error).__name__}: {error}): it is "
            "damaged, truncated or another kind of file"
        ) from error


def _is_tensor(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, np.ndarray)


def _state_dicts(value: Any, key: str = "") -> Iterator[tuple[str, Mapping]]:
    """The location and content of every dict in an object of which more than half are tensors."""
    if isinstance(value, list):
        value = {str(place): item for place, item in enumerate(value)}
        value = {place: item for place, item in value.items() if not isinstance(item, np.ndarray)}
    if not isinstance(value, Mapping):
        return
    tensors = [name for name, item in value.items() if _is_tensor(name, item)]
    of_layers = [name for name in tensors if name.rpartition(".")[2].startswith(_OF_LAYERS)]
    if 2 * len(tensors) > len(value) and (of_layers or not key):
        yield key, value
    for name, item in value.items():
        if isinstance(name, str):  # numbers count the parameters of an optimizer
            yield from _state_dicts(item, f"{key}.{name}" if key else name)


def _check_readable(found: Mapping, path: Path) -> None:
    """Raises StateDictError if a tensor is stored in an unsupported way, so that none is missed."""
    for name, value in found.items():
        if is_stand_in(value) and re.match(r"torch\._(utils|tensor)\.|.*Storage$", value.label):
            raise StateDictError(
                f"{path}: {name} is stored by {value.label}; expected a dense tensor of floating-"
                "point numbers, neither quantized nor sparse nor complex"
            )


def _chosen(value: Any, known: Mapping[str, Mapping], path: Path) -> str:
    """The location of the state_dict to use: one with a usual key, or the only one."""
    inner, place = value, []
    for name in _INNER:
        if isinstance(inner, Mapping) and isinstance(inner.get(name), Mapping):
            inner = inner[name]
            place.append(name)
    if (usual := ".".join(place)) in known:
        return usual
    if len(known) == 1:
        return next(iter(known))
    raise StateDictError(f"{path} contains {_described(value)}; {_listed(known)}")


def _listed(known: Mapping[str, Mapping]) -> str:
    if not known:
        return "expected a state_dict: tensors by name"
    names = ", ".join(f"--key={name}" for name in known if name)
    return f"expected one of its state_dicts: {names or 'the one at its root'}"


def _described(value: Any) -> str:
    if is_stand_in(value):
        return value.label
    if isinstance(value, np.ndarray):
        return "a single tensor"
    if not isinstance(value, Mapping) or not value:
        return "nothing" if not value else f"a {type(value).__name__}"
    return ", ".join(
        f"{name!r}" + (f" ({item.label})" if is_stand_in(item) else "")
        for name, item in value.items()
    )
