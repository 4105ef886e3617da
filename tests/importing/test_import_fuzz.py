"""Damaged files of weights: whatever the bytes are, arrays or one kind of error."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import safetensors.numpy

from cnnpool.importing import state_dict
from cnnpool.importing.unpickling import StateDictError
from tests.paths import GOLDENS

FOLDER = GOLDENS / "pth"
MANY = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# (place as a share of the file, byte to put there)
DAMAGE = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8
)


def whole(name):
    if name.endswith(".safetensors"):
        return safetensors.numpy.save({"a": np.arange(6.0).reshape(2, 3), "b": np.ones(4)})
    return (FOLDER / name).read_bytes()


def read_or_refuse(path):
    """Arrays, or `StateDictError` that names the file; any other error fails the test."""
    try:
        found = state_dict.read(path)
    except StateDictError as error:
        if path.name in str(error):
            return None
        raise
    assert all(isinstance(array, np.ndarray) for array in found.values())
    return found


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "file.safetensors"])
@MANY
@given(damage=DAMAGE, kept=st.sampled_from([1.0, 1.0, 0.9]))
def test_bytes_changed_and_cut_off(tmp_path, name, damage, kept):
    content = bytearray(whole(name))
    for share, value in damage:
        content[int(share * len(content))] = value
    (tmp_path / name).write_bytes(content[: int(kept * len(content))])
    read_or_refuse(tmp_path / name)


@pytest.mark.parametrize("name", ["noise.pth", "noise.safetensors"])
@MANY
@given(content=st.binary(max_size=200), head=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02"]))
def test_bytes_of_any_kind(tmp_path, name, content, head):
    (tmp_path / name).write_bytes(head + content)
    assert read_or_refuse(tmp_path / name) in (None, {})
