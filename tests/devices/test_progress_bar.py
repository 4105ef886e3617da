"""Where progress bars are shown, and the time left, with a clock of the test's own."""

import sys

import pytest

from cnnpool.devices import distributed, progress_bar
from cnnpool.devices.progress_bar import ProgressBar


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress_bar, "time", clock)
    return clock


def bar_of(total, *, compiles=True):
    return ProgressBar(total, "measuring", "image", compiles=compiles)


def rate(bar):
    return bar.format_dict["rate"]


def test_compilation_in_the_first_piece_does_not_count(clock):
    bar = bar_of(400)
    clock.now += 120
    bar.update(100)
    assert rate(bar) is None
    assert "<?" in str(bar), "nothing is known yet"
    clock.now += 5
    bar.update(100)
    assert rate(bar) == 20
    assert "<00:10" in str(bar)


def test_what_was_there_from_an_earlier_start_does_not_count(clock):
    bar = bar_of(1000)
    bar.found(300)
    clock.now += 60
    bar.update(100)
    assert rate(bar) is None
    bar.found(200)
    assert rate(bar) is None
    clock.now += 10
    bar.update(100)
    assert rate(bar) == 10
    assert "<00:30" in str(bar)


def test_without_compilation_the_first_piece_counts(clock):
    """Else two jobs that end side by side would promise an end at once."""
    bar = bar_of(8, compiles=False)
    clock.now += 60
    bar.update()
    clock.now += 1
    bar.update()
    assert rate(bar) == pytest.approx(2 / 61)


@pytest.mark.parametrize(
    ("terminal", "first", "interval", "shown"),
    [
        (True, True, 30.0, True),
        (False, True, 30.0, False),  # done before the first line is due
        (False, True, 0.0, True),
        (True, False, 30.0, False),
        (False, False, 0.0, False),
    ],
)
def test_where_bars_are_shown(terminal, first, interval, shown, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(distributed, "is_first", lambda: first)
    monkeypatch.setattr(progress_bar, "LOG_SECONDS", interval)
    with bar_of(4) as bar:
        bar.update(4)
    said = capsys.readouterr().err
    assert ("measuring: 100%" in said) == shown
    assert shown or not said
