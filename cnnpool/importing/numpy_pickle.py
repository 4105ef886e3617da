"""Reads pickles of numpy arrays without running any of their code.

An array is pickled as an empty array, created by `_reconstruct`, and a state with its shape, dtype
and bytes. None of this is passed to numpy's own functions: the state is stored unchanged and
checked before an array is created from it. Supported are arrays of plain numbers in pickles of
protocols 3 and 4.
"""

import io
import math
from typing import Any

import numpy as np

from cnnpool.importing.unpickling import Known, StateDictError, Unpickler, replaced

_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # numpy 1 and numpy 2
_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
_BYTE_ORDERS = ("<", ">", "|")
_SHOWN = 80  # how many characters of an unexpected value a message shows


class _Dtype:
    """The description of a dtype in a pickle.

    Attributes:
      name: kind and number of bytes, such as "f4".
      byte_order: one of `_BYTE_ORDERS`.
    """

    def __init__(self, name: object):
        if name not in _NUMBERS:
            raise StateDictError(
                f"it has an array of dtype {_short(name)}; expected numbers, one of "
                f"{', '.join(_NUMBERS)}"
            )
        self.name, self.byte_order = name, "|"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[2:5] != (None, None, None):
            raise StateDictError(f"a dtype is described as {_short(state)}; expected plain numbers")
        if state[1] not in _BYTE_ORDERS:
            raise StateDictError(f"a dtype has the byte order {_short(state[1])}; expected < or >")
        self.byte_order = state[1]


class _Array:
    """The description of an array in a pickle.

    Attributes:
      state: version, shape, dtype, whether the array is in Fortran order, and bytes; None until
        it has been read.
    """

    def __init__(self) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


def read(content: bytes) -> Any:
    """The object in a pickle: containers of read-only numpy arrays.

    Args:
      content: the pickle.

    Raises:
      StateDictError: if the pickle is damaged, or refers to anything but arrays of numbers.
    """
    expected = (
        "only numpy arrays in dicts and lists, pickled with protocol 3 or 4 (no JAX or PyTorch "
        "objects, no numpy scalars)"
    )
    try:
        described = Unpickler(io.BytesIO(content), _known(), expected=expected).load()
        return replaced(described, _Array, _built)
    except StateDictError:
        raise
    except Exception as error:  # unpickling damaged data can raise anything
        raise StateDictError(
            f"it cannot be read as a pickle of numpy arrays ({type(error).__name__}: {error}): it "
            "is damaged, truncated or another kind of file"
        ) from error


def _known() -> Known:
    reconstruct = {(module, "_reconstruct"): lambda *_: _Array() for module in _MODULES}
    return {
        **reconstruct,
        ("numpy", "ndarray"): None,  # an argument of _reconstruct, for subclasses
        ("numpy", "dtype"): lambda name, *_: _Dtype(name),
    }


def _built(described: _Array) -> np.ndarray:
    state = described.state
    if not isinstance(state, tuple) or len(state) != 5:
        raise StateDictError(f"an array is described as {_short(state)}; expected five fields")
    _, shape, dtype, first_fastest, raw = state
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
        raise StateDictError(
            f"an array's dtype and content are {_short(dtype)} and {_short(raw)}; expected a dtype "
            "of numbers, and bytes"
        )
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise StateDictError(f"an array has the shape {_short(shape)}; expected sizes")
    numbers = np.dtype(f"{dtype.byte_order}{dtype.name}")
    expected = math.prod(shape) * numbers.itemsize
    if len(raw) != expected:
        raise StateDictError(
            f"an array of shape {shape} has {len(raw)} bytes, expected {expected}; the file is "
            "damaged"
        )
    return np.frombuffer(raw, numbers).reshape(shape, order="F" if first_fastest else "C")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
