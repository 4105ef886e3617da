"""Configs, pictures and result files of any kind: a right answer, or an error that names the cause.

Damaged files of weights are in test_import_fuzz.py.
"""

import io
import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from cnnpool import command_line
from cnnpool.configs import scale1d, scale2d
from cnnpool.data import preparation
from cnnpool.files import results
from cnnpool.launch.jobs import with_fields
from cnnpool.runs.running import Running
from cnnpool.training import fit
from tests import classifier_results
from tests.tiny_sweep import TINY


def many(examples):
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=quiet
    )


CONFIGS = {
    "simple": with_fields(scale1d.get_config("quick"), **TINY),
    "classifier": with_fields(
        scale2d.get_config("cpu"),
        model__name="lenet",
        data__train_size=32,
        data__test_size=16,
        training__batch_size=16,
        runtime__tensorboard=False,
    ),
}
NAMES = [
    "",
    "nope",
    "lenet",
    "vgg11",
    "adam",
    "sgd",
    "hinge",
    "cross_entropy",
    "scale1d",
    "scale2d",
    "wrap",
]
VALUES = {
    bool: st.booleans(),
    int: st.sampled_from([-1, 0, 1, 2, 3, 7]),
    float: st.sampled_from([-1.0, 0.0, 0.5, math.nan, math.inf]),
    str: st.sampled_from(NAMES) | st.text(max_size=5),
    tuple: st.lists(st.integers(-1, 3), max_size=3).map(tuple),
}


class BegunError(Exception):
    """Stands for a training: the config was accepted."""


def leaves(config, prefix=""):
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from leaves(value, f"{prefix}{name}__")
        elif type(value) in VALUES:
            yield prefix + name, VALUES[type(value)]


def fields(config):
    """One to three fields of a config with other values of their types."""
    known = dict(leaves(config))
    names = st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=3, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({one: known[one] for one in chosen}))


@pytest.mark.parametrize("which", CONFIGS)
@many(60)
@given(data=st.data())
def test_a_config_begins_or_is_refused(tmp_path_factory, monkeypatch, which, data):
    base = CONFIGS[which]
    changed = data.draw(fields(base))
    monkeypatch.setattr(Running, "call", lambda *_: (_ for _ in ()).throw(BegunError))
    folder = tmp_path_factory.mktemp("run")
    with pytest.raises((BegunError, *command_line.EXPECTED_ERRORS)) as caught:
        fit.train(with_fields(base, **changed), folder / "w")
    assert caught.type is BegunError or str(caught.value), f"an error without a word: {changed}"
    assert {path.name for path in folder.iterdir()} <= {"w"}, "something else was written"


PICTURES = st.tuples(
    st.sampled_from(["RGB", "L", "RGBA", "CMYK", "P", "LA", "1", "I;16", "F", "YCbCr"]),
    st.sampled_from([(1, 1), (1, 9), (300, 2), (16, 16), (260, 250), (2000, 3)]),
    st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF"]),
)


def picture(mode, size, kind, exif):
    """The bytes of a picture, or of a text where the format knows no such mode."""
    file = io.BytesIO()
    try:
        Image.new(mode, size, 1).save(file, kind, **({"exif": exif} if exif else {}))
    except (OSError, ValueError, KeyError):
        return b"no picture"
    return file.getvalue()


@many(300)
@given(
    made=PICTURES,
    exif=st.sampled_from([b"", b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01"]),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    kept=st.sampled_from([1.0, 1.0, 0.9, 0.3]),
)
@pytest.mark.filterwarnings("ignore")  # of Pillow; `read_many` silences them
def test_a_picture_is_read_or_refused(made, exif, damage, kept):
    content = bytearray(picture(*made, exif))
    for share, value in damage:
        content[int(share * len(content))] = value
    found = read_or_refuse(bytes(content[: int(kept * len(content))]))
    if isinstance(found, str):
        assert found
        assert " at 0x" not in found
    else:
        assert found.shape == (32, 32, 3)
        assert found.dtype == np.uint8


def read_or_refuse(content):
    """The picture, or the message of an `UnreadableError`; any other error fails the test."""
    try:
        return preparation.read(content, preparation.Sizes(36, 32))
    except preparation.UnreadableError as error:
        return str(error)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "whole.nc"
    results.write(path, classifier_results.network("lenet"))
    return path


@many(200)
@given(
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    kept=st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.3]),
)
def test_a_result_file_is_read_or_refused(tmp_path, whole, damage, kept):
    """What is read is what was written: HDF5 keeps checksums of the arrays."""
    content = bytearray(whole.read_bytes())
    for share, value in damage:
        content[int(share * len(content))] = value
    path = tmp_path / "damaged.nc"
    path.write_bytes(content[: int(kept * len(content))])
    try:
        found = results.read(path)
    except results.ResultsError as error:
        found = str(error)
    if isinstance(found, str):
        assert path.name in found
        return
    expected = results.read(whole)
    for name in results.SENSITIVITIES:
        assert found[name].identical(expected[name])
