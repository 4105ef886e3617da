"""A state_dict from a file: {PyTorch's name: numpy array}."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  makes numpy know bfloat16, which safetensors asks it for
import numpy as np
import safetensors.numpy

from cnnpool.importing import pth
from cnnpool.importing.unpickling import StateDictError

StateDict = dict[str, np.ndarray]

# What training programs put a state_dict under, beside epochs and optimizers.
_INNER = ("state_dict", "model", "model_state_dict", "net")
# What parallel training, torch.compile, Lightning and averaging put in front of all names.
_PREFIXES = ("module.", "_orig_mod.", "model.")
_AVERAGED = "n_averaged"  # a counter of torch.optim.swa_utils.AveragedModel
_SUFFIXES = {".safetensors": "safetensors", ".pth": "pth", ".pt": "pth", ".bin": "pth"}


def read(path: Path) -> StateDict:
    """The state_dict in a file, as it stands there.

    A dict of a training program is searched for one under `state_dict`, `model`, ...; the
    prefixes `module.`, `_orig_mod.` and `model.` are taken off where all names have them.

    Args:
      path: .pth, .pt or .bin as torch.save writes them, or .safetensors.

    Raises:
      StateDictError: if the file is absent, damaged, or holds something else.
    """
    kind = _SUFFIXES.get(path.suffix)
    if kind is None:
        raise StateDictError(
            f"{path} is called {path.suffix or 'nothing'}; expected one of {', '.join(_SUFFIXES)}"
        )
    found = _read_safetensors(path) if kind == "safetensors" else _innermost(pth.read(path), path)
    return _without_prefixes({k: v for k, v in found.items() if k.split(".")[-1] != _AVERAGED})


def _without_prefixes(found: StateDict) -> StateDict:
    """Without what all names begin with, one prefix after the other."""
    for prefix in _PREFIXES:
        if found and all(name.startswith(prefix) for name in found):
            return _without_prefixes({k.removeprefix(prefix): v for k, v in found.items()})
    return found


def _read_safetensors(path: Path) -> StateDict:
    if not path.is_file():
        raise StateDictError(f"{path} is not there")
    try:
        found = safetensors.numpy.load_file(path)
    except Exception as error:  # safetensors' own, OSError, KeyError or TypeError by the damage
        raise StateDictError(
            f"{path} cannot be read as safetensors ({type(error).__name__}: {error}); it is "
            "damaged, truncated or something else"
        ) from error
    return _checked(found, path)


def _innermost(value: Any, path: Path) -> StateDict:
    for name in _INNER:
        if isinstance(value, Mapping) and isinstance(value.get(name), Mapping):
            value = value[name]
    return _checked(value, path)


def _checked(value: Any, path: Path) -> StateDict:
    if not isinstance(value, Mapping) or not value:
        raise StateDictError(
            f"{path} holds {type(value).__name__ if value else 'nothing'}; expected a state_dict, "
            "names and their tensors"
        )
    others = [k for k, v in value.items() if not (isinstance(k, str) and isinstance(v, np.ndarray))]
    if others:
        raise StateDictError(
            f"{path} holds {others[0]!r}, which is no name of a tensor; expected a state_dict. "
            "Save that alone: torch.save(model.state_dict(), FILE)"
        )
    return dict(value)
