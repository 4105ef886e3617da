"""The time left of a measurement, with a clock of the test's own."""

import io

import pytest

from cnnpool.measuring import progress
from cnnpool.measuring.progress import MeasuringBar


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def bar_of(total):
    return MeasuringBar(total=total, file=io.StringIO())


def rate(bar):
    return bar.format_dict["rate"]


def test_compilation_in_the_first_piece_does_not_count(clock):
    bar = bar_of(400)
    clock.now += 120
    bar.computed(100)
    assert rate(bar) is None
    assert "<?" in str(bar), "nothing is known yet"
    clock.now += 5
    bar.computed(100)
    assert rate(bar) == 20
    assert "<00:10" in str(bar)


def test_what_was_there_from_an_earlier_start_does_not_count(clock):
    bar = bar_of(1000)
    bar.found(300)
    clock.now += 60
    bar.computed(100)
    assert rate(bar) is None
    bar.found(200)
    assert rate(bar) is None
    clock.now += 10
    bar.computed(100)
    assert rate(bar) == 10
    assert "<00:30" in str(bar)
