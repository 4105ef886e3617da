"""Files of torch.save, read without torch: both formats, damage, and code that must not run."""

import collections
import io
import os
from pathlib import Path
import pickle
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from cnnpool.importing import pth
from cnnpool.importing.stand_ins import is_stand_in, stand_in
from cnnpool.importing.unpickling import StateDictError
from tests.paths import GOLDENS

FOLDER = GOLDENS / "pth"
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


@pytest.mark.parametrize("name", ["marked_zip.pth", "marked_legacy.pth"])
def test_signs_that_are_not_in_the_numbers_are_read(name):
    found, base = pth.read(FOLDER / name), np.arange(12.0, dtype=np.float32).reshape(3, 4)
    views = {"plain": base, "negative": base, "transposed": base.T[1:], "scalar": base[0, 3]}
    for key, expected in views.items():
        assert isinstance(found[key], np.ndarray)
        np.testing.assert_array_equal(found[key], expected, err_msg=key)


@pytest.mark.parametrize("name", ["training_zip.pth", "training_legacy.pth"])
def test_what_lies_beside_tensors_is_neither_needed_nor_looked_up(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "argparse", None)  # importing it would fail
    found = pth.read(FOLDER / name)
    np.testing.assert_array_equal(found["network"]["weight"], np.ones((2, 3)))
    np.testing.assert_array_equal(found["average"]["bias"], [3, 3])
    assert is_stand_in(found["args"])
    assert found["module"].label == "torch.nn.modules.activation.ReLU"
    assert found["optimizer"]["param_groups"][0]["betas"] == [0.9, 0.999]


def test_no_code_beside_good_tensors_is_run(tmp_path):
    bait, path = tmp_path / "ran", tmp_path / "evil.pth"
    content = rebuilt(6, 0, (2, 3), (3, 1), beside=Evil(bait))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", np.arange(6, dtype=np.float32).tobytes())
    found = pth.read(path)
    assert found["w"].shape == (2, 3)
    assert found["beside"].label == "posix.mkdir"
    assert not bait.exists()


def test_a_dict_with_defaults_is_a_dict():
    content = pickle.dumps(collections.defaultdict(list, a=[1]), protocol=2)
    found = pth._Unpickler(io.BytesIO(content), stand_ins=True).load()
    assert type(found) is dict
    assert found == {"a": [1]}


def test_marks_of_a_tensor_that_are_not_known_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        marked = rebuilt(6, 0, (2, 3), (3, 1), marks={"neg": False, "conj": True})
        archive.writestr("archive/data.pkl", marked)
        archive.writestr("archive/data/0", np.arange(6, dtype=np.float32).tobytes())
    with pytest.raises(StateDictError, match=r"flags \['conj'\]"):
        pth.read(path)


def rebuilt(storage_count, offset, shape, strides, *, beside=None, marks=None):
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

    def save_evil(pickler, obj):
        function, arguments = obj.__reduce__()
        pickler.save(Named(f"{function.__module__}.{function.__name__}"))
        pickler.save(arguments)
        pickler.write(pickle.REDUCE)

    own = {Named: save_named, Evil: save_evil}
    Pickler.dispatch = {**pickle._Pickler.dispatch, **own}

    class Tensor:
        pass

    def save_tensor(pickler, _):
        pickler.save(Named("torch._utils._rebuild_tensor_v2"))
        pickler.write(pickle.MARK)
        pickler.save(("storage", Named("torch.FloatStorage"), "0", "cpu", storage_count))
        pickler.write(pickle.BINPERSID)
        rest = () if marks is None else (False, None, marks)
        for value in (offset, shape, strides, *rest):
            pickler.save(value)
        pickler.write(pickle.TUPLE + pickle.REDUCE)

    Pickler.dispatch[Tensor] = save_tensor
    Pickler(buffer, protocol=2).dump({"w": Tensor(), "beside": beside})
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


@pytest.mark.parametrize(
    ("kind", "known"), [("torch.nn.parameter.Parameter", True), ("a.Sub", False)]
)
def test_a_tensor_of_another_type_is_not_known_by_its_numbers(kind, known):
    module, _, name = kind.rpartition(".")
    found = pth._rebuild_from_type(lambda *given: given, stand_in(module, name), (1, 2), {})
    assert (
        found == (1, 2) if known else found.label == "torch._tensor._rebuild_from_type_v2 as a.Sub"
    )


def test_a_pickle_that_asks_for_more_memory_than_there_is_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    numbered = pickle.dumps({"weight": 1}, protocol=2)
    assert b"q\x00" in numbered  # BINPUT 0, which becomes LONG_BINPUT of 2 ** 31 - 1
    path.write_bytes(numbered.replace(b"q\x00", b"r\xff\xff\xff\x7f"))
    with pytest.raises(StateDictError, match="object 2147483647 after"):
        pth.read(path)
