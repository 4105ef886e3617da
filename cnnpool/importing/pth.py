"""Reads files written by `torch.save`, without torch and without running any code in them.

A .pth file is a pickle in which tensors, their storages and plain containers are allowed; any other
object is replaced by a placeholder that does nothing (`cnnpool.importing.stand_ins`). Reading the
pickle gives descriptions of tensors; the tensors are then built from the bytes stored after it.
Both formats are supported: zip archives (since PyTorch 1.6), and the older sequence of pickles
followed by the storages.
"""

from collections import OrderedDict
from collections.abc import Callable
import dataclasses
import io
import math
from pathlib import Path
import struct
from typing import Any
import zipfile

import ml_dtypes
import numpy as np

from cnnpool.importing.stand_ins import is_stand_in, stand_in
from cnnpool.importing.unpickling import Known, StateDictError, Unpickler, replaced

_ELEMENTS: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


@dataclasses.dataclass(frozen=True)
class _Storage:
    """The description of a flat array of numbers, which is read after the pickle."""

    key: str
    dtype: np.dtype
    count: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """The description of a view of a storage, perhaps negated; strides are in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    negative: bool = False


def read(path: Path) -> Any:
    """The object in a file, with tensors as numpy arrays (bfloat16 as `ml_dtypes.bfloat16`).

    Args:
      path: the file.

    Raises:
      StateDictError: if the file is absent or damaged, or contains other objects but no tensors.
    """
    try:
        with path.open("rb") as file:
            return _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
    except StateDictError as error:
        raise StateDictError(f"{path}: {error}") from error
    except Exception as error:  # unpickling damaged data can raise anything
        raise StateDictError(
            f"{path} cannot be read as a file of torch.save ({type(error).__name__}: {error}): it "
            "is absent, damaged, truncated or another kind of file"
        ) from error


class _Unpickler(Unpickler):
    """Reads descriptions of tensors and of their storages."""

    def __init__(self, file: Any, *, stand_ins: bool = False):
        expected = (
            "tensors in dicts and lists. Save the state_dict: torch.save(model.state_dict(), FILE)"
        )
        super().__init__(file, _known(), expected=expected, stand_ins=stand_ins)
        self.storages: dict[str, _Storage] = {}

    def described(self) -> Any:
        """The object; raises StateDictError if it contains unknown objects but no tensors."""
        found = self.load()
        if self.asked and (not self.storages or is_stand_in(found)):
            raise self.unwanted(self.asked[0])
        return found

    def persistent_load(self, pid: Any) -> Any:
        if is_stand_in(pid[1]):  # an unsupported type of storage, or the class of a module
            return pid[1] if pid[0] == "module" else pid[1]()
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(v is not None for v in view):
            raise StateDictError(f"it refers to {pid!r}; expected a storage of numbers")
        storage = _Storage(str(key), dtype, int(count))
        if self.storages.setdefault(storage.key, storage) != storage:
            raise StateDictError(
                f"storage {key} has two descriptions, {storage} and {self.storages[storage.key]}; "
                "the file is damaged"
            )
        return storage


def _rebuild_tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _requires_grad: Any = None,
    _hooks: Any = None,
    metadata: Any = None,
) -> Any:
    """The description of a tensor; `metadata` has flags such as a lazy negation."""
    if is_stand_in(storage):  # an unsupported type of storage
        return storage
    marks = {name for name, value in (metadata or {}).items() if value}
    if marks - {"neg"}:
        raise StateDictError(f"a tensor has the flags {sorted(marks)}; expected none, or 'neg'")
    return _checked(_Tensor(storage, offset, tuple(shape), tuple(strides), "neg" in marks))


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, _attributes: Any) -> Any:
    """A tensor with Python attributes; subclasses of torch.Tensor become placeholders.

    The meaning of a subclass may not be given by its numbers.
    """
    label = kind.label if is_stand_in(kind) else ""
    if label.rpartition(".")[2] in ("Tensor", "Parameter", "Buffer"):
        return function(*arguments)
    return stand_in("torch._tensor", f"_rebuild_from_type_v2 as {label}")()


def _known() -> Known:
    elements = {
        (module, name): np.dtype(kind)
        for module in ("torch", "torch.storage")
        for name, kind in _ELEMENTS.items()
    }
    return elements | {
        ("collections", "OrderedDict"): OrderedDict,
        ("collections", "defaultdict"): lambda *_: {},
        ("torch._utils", "_rebuild_tensor"): lambda *args: _rebuild_tensor(*args),
        ("torch._utils", "_rebuild_tensor_v2"): lambda *args: _rebuild_tensor(*args),
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        ("torch._utils", "_rebuild_parameter_with_state"): lambda tensor, *_: tensor,
        ("torch._tensor", "_rebuild_from_type_v2"): lambda *args: _rebuild_from_type(*args),
    }


def _checked(tensor: _Tensor) -> _Tensor:
    """Returns the tensor; raises StateDictError unless it lies inside its storage."""
    storage, sizes = tensor.storage, (*tensor.shape, *tensor.strides, tensor.offset)
    if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in sizes):
        raise StateDictError(f"a tensor is described as {tensor}; expected sizes and strides")
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if math.prod(tensor.shape) and tensor.offset + last >= storage.count:
        raise StateDictError(
            f"a tensor of shape {tensor.shape} reaches beyond its storage of {storage.count} "
            "elements; the file is damaged"
        )
    return tensor


def _read_zip(file: Any) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        if len(names) != 1:
            raise StateDictError(
                "a zip archive without data.pkl; expected what torch.save writes (not a "
                "TorchScript module, and not a folder of other files)"
            )
        folder = names[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise StateDictError("it was saved on a big-endian machine; expected little-endian")
        unpickler = _Unpickler(io.BytesIO(archive.read(names[0])), stand_ins=True)
        described = unpickler.described()

        def load(storage: _Storage) -> bytes:
            return archive.read(f"{folder}data/{storage.key}")

        return _built(described, load)


def _read_legacy(file: Any) -> Any:
    file.seek(0)
    magic, protocol = _Unpickler(file).load(), _Unpickler(file).load()
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        raise StateDictError("neither a zip archive nor PyTorch's older format")
    _Unpickler(file).load()  # sizes of C's types on the machine that wrote it
    unpickler = _Unpickler(file, stand_ins=True)
    described = unpickler.described()
    raw: dict[str, bytes] = {}
    for key in _Unpickler(file).load():
        if str(key) not in unpickler.storages:
            raise StateDictError(
                f"storage {key} has an unsupported type; expected one of {', '.join(_ELEMENTS)}"
            )
        storage = unpickler.storages[str(key)]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.count:
            raise StateDictError(
                f"storage {key} has {count} elements, expected {storage.count} from its "
                "description; the file is damaged"
            )
        raw[storage.key] = file.read(count * storage.dtype.itemsize)
    return _built(described, lambda storage: raw[storage.key])


def _built(described: Any, load: Callable[[_Storage], bytes]) -> Any:
    """The object, with every description of a tensor replaced by an array."""
    held: dict[str, np.ndarray] = {}

    def numbers(storage: _Storage) -> np.ndarray:
        if storage.key not in held:
            raw, expected = load(storage), storage.count * storage.dtype.itemsize
            if len(raw) != expected:
                raise StateDictError(
                    f"storage {storage.key} has {len(raw)} bytes, expected {expected}; the file "
                    "is truncated"
                )
            held[storage.key] = np.frombuffer(raw, storage.dtype)
        return held[storage.key]

    def build(tensor: _Tensor) -> np.ndarray:
        start = numbers(tensor.storage)[tensor.offset :]
        strides = [s * start.itemsize for s in tensor.strides]
        if not math.prod(tensor.shape):
            return np.empty(tensor.shape, start.dtype)
        view = np.lib.stride_tricks.as_strided(start, tensor.shape, strides, writeable=False)
        return np.asarray(-view) if tensor.negative else view  # -view of a 0-d array is a scalar

    return replaced(described, _Tensor, build)
