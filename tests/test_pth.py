"""Files of torch.save, read without torch: both formats, damage, and code that must not run."""

import io
import os
from pathlib import Path
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from cnnpool.importing import pth
from cnnpool.importing.unpickling import StateDictError

FOLDER = Path(__file__).parent / "goldens" / "pth"
BASE = np.arange(24, dtype=np.float32).reshape(4, 6)
EXPECTED = {
    "float32": BASE,
    "transposed": BASE.T,
    "strided": BASE[1::2, ::3],
    "float64": np.array([1 / 3, 1e300]),
    "float16": np.array([0.5, 65504.0], np.float16),
    "bfloat16": np.array([1.0, 3.0e38], ml_dtypes.bfloat16),
    "int64": np.array(7),
    "uint8": np.array([[1, 2]], np.uint8),
    "flag": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
    "parameter": np.array([-1.0], np.float32),
}


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_every_tensor_is_what_torch_saved(name):
    found = pth.read(FOLDER / name)
    assert list(found) == list(EXPECTED)
    for key, array in EXPECTED.items():
        assert found[key].dtype == array.dtype, key
        np.testing.assert_array_equal(found[key], array, err_msg=key)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_an_error_that_names_it(name, share, tmp_path):
    whole = (FOLDER / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(StateDictError, match=name):
        pth.read(path)


def test_an_absent_file_is_an_error():
    with pytest.raises(StateDictError, match="FileNotFoundError"):
        pth.read(Path("nowhere.pth"))


class Evil:
    """Would create a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def as_zip(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)


@pytest.mark.parametrize("where", ["zip", "magic", "object"])
def test_no_code_of_a_file_is_run(where, tmp_path):
    bait, path = tmp_path / "ran", tmp_path / "evil.pth"
    content = pickle.dumps({"weight": Evil(bait)}, protocol=2)
    if where == "zip":
        as_zip(path, content)
    else:
        head = [pickle.dumps(n, protocol=2) for n in (0x1950A86A20F9469CFC6C, 1001, {})]
        path.write_bytes(content if where == "magic" else b"".join(head) + content)
    with pytest.raises(StateDictError, match=r"evil.pth: its pickle asks for posix.mkdir"):
        pth.read(path)
    assert not bait.exists()


def test_a_whole_module_is_refused_by_name():
    with pytest.raises(StateDictError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
        pth.read(FOLDER / "code.pth")


def rebuilt(storage_count, offset, shape, strides):
    """A pickle of one tensor, written by hand, in a zip archive with its storage."""
    buffer = io.BytesIO()

    class Pickler(pickle._Pickler):
        def save_global(self, obj, name=None):
            module, _, function = obj.label.rpartition(".")
            self.write(pickle.GLOBAL + f"{module}\n{function}\n".encode())

    class Named:
        def __init__(self, label):
            self.label = label

        def __reduce__(self):
            raise AssertionError

    def save_named(pickler, obj):
        pickler.save_global(obj)

    Pickler.dispatch = {**pickle._Pickler.dispatch, Named: save_named}

    class Tensor:
        pass

    def save_tensor(pickler, _):
        pickler.save(Named("torch._utils._rebuild_tensor"))
        pickler.write(pickle.MARK)
        pickler.save(("storage", Named("torch.FloatStorage"), "0", "cpu", storage_count))
        pickler.write(pickle.BINPERSID)
        for value in (offset, shape, strides):
            pickler.save(value)
        pickler.write(pickle.TUPLE + pickle.REDUCE)

    Pickler.dispatch[Tensor] = save_tensor
    Pickler(buffer, protocol=2).dump({"w": Tensor()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "fits"),
    [
        (0, (2, 3), (3, 1), True),
        (1, (2, 3), (3, 1), False),
        (0, (2, 4), (3, 1), False),
        (0, (2,), (10**9,), False),
        (-1, (2,), (1,), False),
        (0, (2,), (-1,), False),
        (0, (2,), (1, 1), False),
        (0, ("2",), (1,), False),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(offset, shape, strides, fits, tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", rebuilt(6, offset, shape, strides))
        archive.writestr("archive/data/0", np.arange(6, dtype=np.float32).tobytes())
    if fits:
        np.testing.assert_array_equal(pth.read(path)["w"], np.arange(6).reshape(2, 3))
    else:
        with pytest.raises(StateDictError, match=r"a.pth"):
            pth.read(path)


def test_a_storage_that_is_too_short_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", rebuilt(6, 0, (2, 3), (3, 1)))
        archive.writestr("archive/data/0", b"\0" * 20)
    with pytest.raises(StateDictError, match="has 20 bytes, expected 24"):
        pth.read(path)
