"""A state_dict from a file: {PyTorch's name: numpy array}."""

from collections.abc import Iterator, Mapping
from pathlib import Path
import re
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  makes numpy know bfloat16, which safetensors asks it for
import numpy as np
import safetensors.numpy

from cnnpool.importing import pth
from cnnpool.importing.stand_ins import is_stand_in
from cnnpool.importing.unpickling import StateDictError

StateDict = dict[str, np.ndarray]

# What training programs put a state_dict under, beside epochs and optimizers.
_INNER = ("state_dict", "model", "model_state_dict", "net")
# What parallel training, torch.compile, Lightning and averaging put in front of all names, and
# what a module of a user's own calls the network in it.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
_OF_LAYERS = ("weight", "bias", "running_")  # and not scores, steps and states of generators
_AVERAGED = "n_averaged"  # a counter of torch.optim.swa_utils.AveragedModel
_SUFFIXES = {".safetensors": "safetensors", ".pth": "pth", ".pt": "pth", ".bin": "pth"}
# What files begin with that come in place of others.
_STRANGERS = {
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with `git lfs pull`",
    b"\x1f\x8b": "compressed; unpack it with gunzip",
    b"BZh": "compressed; unpack it with bunzip2",
    b"\xfd7zXZ": "compressed; unpack it with unxz",
    b"<": "a page of the web, not what its link promised; download the file again",
    b"\x89HDF": "HDF5, as Keras writes it",
}


class Found(NamedTuple):
    """A state_dict in a file.

    Attributes:
      state: it.
      key: where it stands in the file, "model.ema" of nested dicts; empty at its root.
      others: where others stand.
    """

    state: StateDict
    key: str
    others: tuple[str, ...]


def read(path: Path) -> StateDict:
    """The state_dict in a file; see `find`."""
    return find(path).state


def find(path: Path, key: str | None = None) -> Found:
    """The state_dict in a file, whatever the file is called.

    A dict of a training program is searched for one under `state_dict`, `model`, ..., then for the
    only one in it; what lies beside tensors is left out. Prefixes as `module.`, `_orig_mod.` and
    `model.` are taken off where all names have them.

    Args:
      path: as torch.save writes it, or safetensors.
      key: where it stands in the file; None searches.

    Raises:
      StateDictError: if the file is absent, damaged, or holds something else, or several
        state_dicts under names that say nothing.
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
    """What a file is by its first bytes; of a damaged one by its name."""
    if not path.is_file():
        what = "is a folder; expected the file in it" if path.is_dir() else "is not there"
        raise StateDictError(f"{path} {what}")
    with path.open("rb") as file:
        head = file.read(512)
    # First: the length of its header, in front, may begin as a pickle or a zip archive does.
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith((b"PK", b"\x80")):
        return "pth"
    for beginning, what in _STRANGERS.items():
        if head.startswith(beginning):
            raise StateDictError(f"{path} is {what}")
    if head[257:262] == b"ustar":
        raise StateDictError(f"{path} is a tar archive; unpack it and give the file in it")
    if path.suffix not in _SUFFIXES:
        raise StateDictError(
            f"{path} is neither what torch.save writes nor safetensors; expected one of "
            f"{', '.join(_SUFFIXES)}, whatever it is called"
        )
    return _SUFFIXES[path.suffix]


def _without_prefixes(found: StateDict) -> StateDict:
    """Without what all names begin with, one prefix after the other."""
    for prefix in _PREFIXES:
        if found and all(name.startswith(prefix) for name in found):
            return _without_prefixes({k.removeprefix(prefix): v for k, v in found.items()})
    return found


def _read_safetensors(path: Path) -> StateDict:
    try:
        return safetensors.numpy.load_file(path)
    except AttributeError as error:  # it looks numpy's types up by their names
        raise StateDictError(
            f"{path} holds numbers of a kind that is not read ({error}); expected float64, "
            "float32, float16 or bfloat16"
        ) from error
    except Exception as error:  # safetensors' own, OSError, KeyError or TypeError by the damage
        raise StateDictError(
            f"{path} cannot be read as safetensors ({type(error).__name__}: {error}); it is "
            "damaged, truncated or something else"
        ) from error


def _is_tensor(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, np.ndarray)


def _state_dicts(value: Any, key: str = "") -> Iterator[tuple[str, Mapping]]:
    """All dicts in an object that hold more tensors than other things, by where they stand."""
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
    """Raises StateDictError where a tensor is stored in a way that is not read: not left out."""
    for name, value in found.items():
        if is_stand_in(value) and re.match(r"torch\._(utils|tensor)\.|.*Storage$", value.label):
            raise StateDictError(
                f"{path}: {name} is stored by {value.label}; expected a dense tensor of floating-"
                "point numbers, neither quantized nor sparse nor complex"
            )


def _chosen(value: Any, known: Mapping[str, Mapping], path: Path) -> str:
    """Where the state_dict stands that is meant: under a usual name, or the only one."""
    inner, place = value, []
    for name in _INNER:
        if isinstance(inner, Mapping) and isinstance(inner.get(name), Mapping):
            inner = inner[name]
            place.append(name)
    if (usual := ".".join(place)) in known:
        return usual
    if len(known) == 1:
        return next(iter(known))
    raise StateDictError(f"{path} holds {_described(value)}; {_listed(known)}")


def _listed(known: Mapping[str, Mapping]) -> str:
    if not known:
        return "expected a state_dict, names and their tensors"
    names = ", ".join(f"--key={name}" for name in known if name)
    return f"expected one of its state_dicts: {names or 'the one at its root'}"


def _described(value: Any) -> str:
    if is_stand_in(value):
        return value.label
    if not isinstance(value, Mapping) or not value:
        return "nothing" if not value else f"a {type(value).__name__}"
    return ", ".join(
        f"{name!r}" + (f" ({item.label})" if is_stand_in(item) else "")
        for name, item in value.items()
    )
