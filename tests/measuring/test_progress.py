"""The time left of a measurement, with a clock of the test's own."""

import io

from cnnpool.measuring.progress import MeasuringBar


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def bar_with_clock(total):
    clock, written = Clock(), io.StringIO()
    bar = MeasuringBar(total=total, file=written, mininterval=0)
    bar._time = clock
    bar.start_t = bar.last_print_t = clock.now
    return bar, clock


def rate(bar):
    return bar.format_dict["rate"]


def test_compilation_in_the_first_piece_does_not_count():
    bar, clock = bar_with_clock(400)
    clock.now += 120
    bar.computed(100)
    assert rate(bar) is None
    assert "<?" in str(bar), "nothing is known yet"
    clock.now += 5
    bar.computed(100)
    assert rate(bar) == 20
    assert "<00:10" in str(bar)


def test_what_was_there_from_an_earlier_start_does_not_count():
    bar, clock = bar_with_clock(1000)
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
