"""Converts torchvision's state_dicts to the parameters of cnnpool's networks."""

from collections.abc import Mapping, Sequence
import functools
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from cnnpool import models
from cnnpool.data import preparation
from cnnpool.importing import torchvision_names
from cnnpool.importing.state_dict import StateDict
from cnnpool.importing.unpickling import StateDictError
from cnnpool.training.variables import Variables

SIZE = 224  # pixels per side
IMAGE_SHAPE = (SIZE, SIZE, 3)
_COUNTER = ".num_batches_tracked"
_SHOWN = 3  # how many tensors of each kind of mismatch a message lists
# amdegroot's VGG16 without a classifier, torchvision's IMAGENET1K_FEATURES.
_FEATURES_MEAN, _FEATURES_STD = (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)


class Imported(NamedTuple):
    """An imported network.

    Attributes:
      model: the `model` section of a config.
      variables: parameters and batch statistics, as numpy arrays.
      notes: remarks on the conversion that a user should know.
      mean: mean of each channel of the training images, for pixels from 0 to 1.
      std: standard deviation of each channel.
    """

    model: ConfigDict
    variables: Variables
    notes: tuple[str, ...]
    mean: tuple[float, ...] = preparation.MEAN
    std: tuple[float, ...] = preparation.STD


def to_network(name: str, state: StateDict, *, dtype: Any = np.float32) -> Imported:
    """Converts a state_dict of one of torchvision's networks.

    If the state_dict has no classifier, or its classifier is all NaN (as in torchvision's VGG16
    with the weights IMAGENET1K_FEATURES), the network ends with its features.

    Args:
      name: torchvision's name of the network.
      state: {torchvision's name: tensor}, or names relative to `features` for features alone.
      dtype: the dtype of the parameters.

    Raises:
      StateDictError: if tensors are missing, unexpected, of another shape, or not finite.
    """
    state, notes = _whole_names({k: v for k, v in state.items() if not k.endswith(_COUNTER)})
    head = torchvision_names.head(name)
    behind = {key: array for key, array in state.items() if key.startswith(head)}
    empty = bool(behind) and all(_is_nan(array) for array in behind.values())
    if empty:
        notes.append(f"all tensors named {head}* are NaN and were ignored")
    features_only = not behind or empty
    if features_only:
        state = {key: array for key, array in state.items() if key not in behind}
        notes.append("the network ends with its features; it has no outputs")
    biases = [array for key, array in behind.items() if key.endswith(".bias")]
    outputs = 1 if features_only or not biases else max(1, len(np.atleast_1d(biases[-1])))
    fields = {"outputs": outputs, "features_only": features_only}
    config = ConfigDict({"name": torchvision_names.registry_name(name), **fields})
    variables, units = shapes(config)
    layers = torchvision_names.layer_names(name, units)
    converted = _converted(variables, layers, state, dtype)
    if empty and name == "vgg16":
        notes.append(
            f"torchvision's vgg16_features: the default --mean is {_shown(_FEATURES_MEAN)} and "
            "--std is 1/255 for each channel, as in its training"
        )
        return Imported(config, converted, tuple(notes), _FEATURES_MEAN, _FEATURES_STD)
    return Imported(config, converted, tuple(notes))


def _shown(numbers: tuple[float, ...]) -> str:
    return ",".join(map(str, numbers))


def _whole_names(state: StateDict) -> tuple[StateDict, list[str]]:
    """Adds the prefix `features.` to names relative to it, which begin with a number."""
    if state and all(key.split(".")[0].isdigit() for key in state):
        note = f"names have no prefix {torchvision_names.FEATURES!r}, which was added"
        return {f"{torchvision_names.FEATURES}{k}": v for k, v in state.items()}, [note]
    return state, []


def _is_nan(array: np.ndarray) -> bool:
    return array.dtype.kind in "fV" and bool(np.isnan(array.astype(np.float32)).all())


def shapes(config: ConfigDict) -> tuple[Variables, tuple[str, ...]]:
    """The shapes of a torchvision network's variables, and its units in forward order."""
    return _shapes(config.to_json())


@functools.cache  # tracing a deep network takes seconds
def _shapes(config: str) -> tuple[Variables, tuple[str, ...]]:
    model: Any = models.build(ConfigDict(json.loads(config)))
    images = jax.ShapeDtypeStruct((1, *IMAGE_SHAPE), jnp.float32)
    units: list[str] = []

    def initialize(key, images):
        (_, activations), variables = model.init_with_output(key, images, train=False)
        units.extend(activations)
        return variables

    variables = jax.eval_shape(initialize, jax.random.key(0), images)
    return Variables.of(variables), tuple(units)


def _converted(
    expected: Variables, layers: dict[str, str], state: StateDict, dtype: Any
) -> Variables:
    wanted = {
        torchvision_names.tensor_name(layers, path): _their_shape(path, leaf.shape)
        for path, leaf in expected.by_path().items()
    }
    _check_fit(wanted, {key: array.shape for key, array in state.items()})
    _check_values(state, dtype)

    def convert(path: str) -> np.ndarray:
        return _our_layout(path, state[torchvision_names.tensor_name(layers, path)].astype(dtype))

    return expected.filled(convert)


def _their_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """HWIO to OIHW, (in, out) to (out, in)."""
    if not path.endswith("/kernel"):
        return shape
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _our_layout(path: str, array: np.ndarray) -> np.ndarray:
    if not path.endswith("/kernel"):
        return array
    return np.ascontiguousarray(array.transpose((2, 3, 1, 0) if array.ndim == 4 else (1, 0)))


def _check_fit(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    kinds = {
        "missing": [f"{key} {shape}" for key, shape in wanted.items() if key not in found],
        "left over": [f"{key} {shape}" for key, shape in found.items() if key not in wanted],
        "shape": [
            f"{key} expected {wanted[key]}, got {shape}"
            for key, shape in found.items()
            if key in wanted and shape != wanted[key]
        ],
    }
    lines = [f"\n  {line}" for kind, misfits in kinds.items() for line in _some(kind, misfits)]
    if lines:
        count = sum(map(len, kinds.values()))
        tensors = f"{count} tensors do" if count > 1 else "1 tensor does"
        raise StateDictError(
            f"{tensors} not fit the network:{''.join(lines)}\n"
            "Check --model, and remove any prefix that all names share. A network with other "
            "layers cannot be imported, but can be measured from Python (cnnpool.measure)"
        )


def _some(kind: str, misfits: Sequence[str]) -> list[str]:
    more = len(misfits) - _SHOWN
    lines = [f"{kind}: {misfit}" for misfit in misfits[:_SHOWN]]
    return [*lines, f"{kind}: {more} more"] if more > 0 else lines


def _check_values(state: StateDict, dtype: Any) -> None:
    limit = float(np.finfo(dtype).max)
    for key, array in state.items():
        if array.dtype.kind not in "fV":
            raise StateDictError(f"{key} has dtype {array.dtype}; expected floating-point numbers")
        largest = float(np.abs(array.astype(np.float64)).max(initial=0))
        if not largest <= limit:
            raise StateDictError(
                f"{key} has a value of {largest}; expected finite numbers of at most {limit:.4g}"
            )
        if key.endswith(".running_var") and bool((array < 0).any()):
            raise StateDictError(f"{key} has negative variances; expected 0 or more")
