"""Pickles of numpy arrays, read without running any code of theirs; numpy itself is the oracle."""

import contextlib
import os
import pickle

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from cnnpool.importing import numpy_pickle
from cnnpool.importing.unpickling import StateDictError

KINDS = ("<f2", "<f4", "<f8", ">f4", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "?")
OLD, NEW = b"numpy.core.multiarray", b"numpy._core.multiarray"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_are_what_numpy_pickled(kind, protocol):
    base = np.arange(24).reshape(2, 3, 4).astype(kind)
    value = {"a": [base, base.T], "b": {"empty": base[:0], "one": base[1, 2, 3, ...]}, "c": "text"}
    found = numpy_pickle.read(pickle.dumps(value, protocol=protocol))
    assert found["c"] == "text"
    arrays = [*found["a"], *found["b"].values()]
    expected = [base, base.T, base[:0], base[1, 2, 3, ...]]
    for ours, theirs in zip(arrays, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours, theirs)


def test_both_of_numpy_s_names_are_known():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = pickle.dumps({"a": array, "again": array}, protocol=3).replace(NEW, OLD)
    for version in (content, content.replace(OLD, NEW)):
        found = numpy_pickle.read(version)
        np.testing.assert_array_equal(found["a"], array)
        np.testing.assert_array_equal(found["again"], array)


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [3, 4])
def test_no_code_of_a_pickle_is_run(protocol, tmp_path):
    bait = tmp_path / "ran"
    evil = [np.ones(2), Calls(os.mkdir, (str(bait),))]
    with pytest.raises(StateDictError, match=r"its pickle asks for posix\.mkdir; expected only"):
        numpy_pickle.read(pickle.dumps(evil, protocol=protocol))
    text = f"__import__('os').mkdir({str(bait)!r})"
    with pytest.raises(StateDictError, match=r"asks for builtins\.eval"):
        numpy_pickle.read(pickle.dumps(Calls(eval, (text,)), protocol=protocol))
    shell = b"cos\nsystem\n" + pickle.dumps((f"mkdir {bait}",), protocol=2)[2:-1] + b"R."
    with pytest.raises(StateDictError, match=r"asks for os\.system"):
        numpy_pickle.read(shell)
    assert not bait.exists()


def test_a_pickle_inside_an_array_of_objects_is_not_run(tmp_path):
    bait = tmp_path / "ran"
    array = np.empty(1, object)
    array[0] = Calls(os.mkdir, (str(bait),))
    with pytest.raises(StateDictError, match=r"dtype 'O8'; expected numbers"):
        numpy_pickle.read(pickle.dumps(array, protocol=3))
    assert not bait.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array(["a", None], object), "dtype 'O8'"),
        (np.array(["text"]), "dtype 'U4'"),
        (np.array([1], "M8[s]"), "dtype 'M8'"),
        (np.array([(1, 2.0)], "i4,f4"), "dtype 'V8'"),
        (np.array([1j]), "dtype 'c16'"),
        (np.float32(1), r"asks for numpy\._core\.multiarray\.scalar"),
        (np.ma.masked_array([1.0]), r"asks for numpy\.ma"),
        ({1, 2}, "asks for builtins.set|cannot be read"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(value, message):
    with pytest.raises(StateDictError, match=message):
        numpy_pickle.read(pickle.dumps(value, protocol=3))


def test_out_of_band_arrays_are_refused_with_the_cure():
    with pytest.raises(StateDictError, match=r"_frombuffer; expected .* protocol 3 or 4"):
        numpy_pickle.read(pickle.dumps(np.ones(3), protocol=5))


FLOATS = np.dtype(np.float32)


def described(*state):
    """A pickle of an array with any state."""
    reconstruct = np.ones(1).__reduce__()[0]
    return pickle.dumps(Calls(reconstruct, (np.ndarray, (0,), b"b"), *state), protocol=3)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([(1, (2, 4), FLOATS, False, b"\0" * 24)], r"shape \(2, 4\) has 24 bytes, expected 32"),
        ([(1, (2, 2), FLOATS, False, b"\0" * 24)], r"has 24 bytes, expected 16"),
        ([(1, (2**70,), FLOATS, False, b"\0" * 24)], r"has 24 bytes"),
        ([(1, (-2, -3), FLOATS, False, b"\0" * 24)], r"the shape \(-2, -3\); expected sizes"),
        ([(1, ("6",), FLOATS, False, b"\0" * 24)], r"the shape \('6',\)"),
        ([(1, (True,), FLOATS, False, b"\0" * 4)], r"the shape \(True,\)"),
        ([(1, [6], FLOATS, False, b"\0" * 24)], r"the shape \[6\]"),
        ([(1, (6,), "f4", False, b"\0" * 24)], r"dtype and content are 'f4'"),
        ([(1, (6,), FLOATS, False, [None] * 6)], r"and \[None, None"),
        ([(1, (6,), FLOATS, False)], r"expected five fields"),
        ([], r"described as None"),
    ],
)
def test_arrays_that_are_not_what_they_say(state, message):
    with pytest.raises(StateDictError, match=message):
        numpy_pickle.read(described(*state))


def test_dtypes_that_are_not_plain():
    def of(*state):
        return pickle.dumps(Calls(np.dtype, ("f4", False, True), tuple(state)), protocol=3)

    with pytest.raises(StateDictError, match="byte order '!'"):
        numpy_pickle.read(of(3, "!", None, None, None, -1, -1, 0))
    with pytest.raises(StateDictError, match="expected plain numbers"):
        numpy_pickle.read(of(3, "<", (FLOATS, (2,)), None, None, -1, -1, 0))


def test_what_a_pickle_does_to_its_names_stays_in_it():
    """BUILD may set attributes of what a pickle gets; the next pickle sees nothing of it."""
    defaults = b"cnumpy\ndtype\n(N}X\x0c\x00\x00\x00__defaults__(I1\ntstb."
    numpy_pickle.read(defaults)
    np.testing.assert_array_equal(numpy_pickle.read(pickle.dumps(np.ones(3), 3)), np.ones(3))
    functions = [value for key, value in numpy_pickle._known().items() if key[1] == "dtype"]
    assert [function.__defaults__ for function in functions] == [None]


WHOLE = pickle.dumps({"a": np.arange(6.0).reshape(2, 3), "b": np.ones(4, np.float32)}, protocol=3)


@pytest.mark.parametrize("kept", range(0, len(WHOLE), 7))
def test_a_truncated_pickle_is_an_error(kept):
    with pytest.raises(StateDictError, match="damaged, truncated or another kind of file"):
        numpy_pickle.read(WHOLE[:kept])


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    damage=st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8
    )
)
def test_damaged_bytes_are_arrays_or_one_kind_of_error(damage):
    content = bytearray(WHOLE)
    for place, value in damage:
        content[place] = value
    with contextlib.suppress(StateDictError):
        numpy_pickle.read(bytes(content))
