"""What is finished of a measurement outlives an interruption."""

import dataclasses
import json

import numpy as np
import pytest

from cnnpool.instruments.moments import ImageMoments
from cnnpool.measuring.journal import Journal, of_parts
from cnnpool.measuring.settings import Settings


def moments(scale):
    arrays = [scale * np.arange(3.0), scale * np.ones(3), np.array([1.0, 2.0, scale])]
    return {"b/conv": ImageMoments(*arrays, 0.1 * scale), "a": ImageMoments(*arrays, 2.0)}


def never():
    raise AssertionError("computed again")


def test_what_is_there_is_not_computed_again(tmp_path):
    out = tmp_path / "a.nc"
    kept = Journal(out, "record").keep("one", lambda: moments(1.0))
    found = Journal(out, "record").keep("one", never)
    assert list(found) == list(kept) == ["b/conv", "a"]
    for layer, expected in kept.items():
        for value, wanted in zip(found[layer], expected, strict=True):
            np.testing.assert_array_equal(value, wanted)
    with pytest.raises(AssertionError, match="computed again"):
        Journal(out, "record").keep("two", never)


def test_another_measurement_starts_anew_and_says_so(tmp_path, capsys):
    out = tmp_path / "a.nc"
    Journal(out, '{"seed": 0}').keep("one", lambda: moments(1.0))
    assert capsys.readouterr().err == ""
    found = Journal(out, '{"seed": 1}').keep("one", lambda: moments(2.0))
    assert found["a"].noise[0] == 2.0
    assert "deleted, this one begins anew: seed: 0 -> 1\n" in capsys.readouterr().err
    with pytest.raises(AssertionError, match="computed again"):
        Journal(out, '{"seed": 0}').keep("one", never)


def test_what_names_of_parts_say_may_differ():
    def record(transforms=(), weights="a", **settings):
        settings = dataclasses.asdict(Settings(**settings))
        fields = {"transforms": transforms, "weights": weights, "settings": settings}
        return of_parts(json.dumps(fields))

    same = record(["none"], shuffles=2, deltas=(3.0,), cutoffs=(5,))
    assert record() == same
    for other in ({"weights": "b"}, {"images": 4}, {"draws": 3}, {"seed": 1}):
        assert record(**other) != same


def test_half_a_file_is_computed_again(tmp_path):
    out = tmp_path / "a.nc"
    Journal(out, "record").keep("one", lambda: moments(1.0))
    (path,) = (tmp_path / ".a.nc.parts").glob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    assert Journal(out, "record").keep("one", lambda: moments(3.0))["a"].noise[0] == 3.0
    Journal(out, "record").remove()
    assert list(tmp_path.iterdir()) == []
