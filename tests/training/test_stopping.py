"""The stopping rule of the protocol."""

import pytest

from cnnpool.training.stopping import RingProgress, StoppingRule

RULE = StoppingRule(check_every=10, multiple=5, max_epochs=600)
FRESH = RingProgress(0)


def observe(progress, epoch, hinge, error):
    return RULE.observe(epoch, progress, train_hinge=hinge, validation_error=error)


def test_interpolation_is_the_first_check_with_a_loss_of_exactly_zero():
    progress = observe(FRESH, 10, 1e-30, 0.0)
    assert progress.interpolation_epoch is None
    progress = observe(progress, 20, 0.0, 0.3)
    assert progress.interpolation_epoch == 20
    progress = observe(progress, 30, 0.0, 0.0)
    assert progress.interpolation_epoch == 20
    assert progress.stopped_epoch is None


def test_it_stops_only_when_loss_and_error_are_zero_after_the_multiple():
    progress = observe(FRESH, 20, 0.0, 0.0)
    assert RULE.earliest_stop(progress) == 100
    for epoch, hinge, error in ((90, 0.0, 0.0), (100, 0.1, 0.0), (110, 0.0, 0.1)):
        progress = observe(progress, epoch, hinge, error)
        assert progress.stopped_epoch is None, epoch
    assert observe(progress, 120, 0.0, 0.0).stopped_epoch == 120


def test_checks_come_every_ten_epochs_and_not_between_interpolation_and_multiple():
    assert RULE.next_check(0, FRESH) == 10
    assert RULE.next_check(13, FRESH) == 20
    interpolated = observe(FRESH, 20, 0.0, 0.0)
    assert RULE.next_check(20, interpolated) == 100
    assert RULE.next_check(100, interpolated) == 110
    assert RULE.next_check(100, FRESH) == 110
    assert RULE.next_check(596, FRESH) == 600


def test_the_cap_stops_a_network_that_never_interpolates():
    assert observe(FRESH, 590, 1.0, 0.5).stopped_epoch is None
    assert observe(FRESH, 600, 1.0, 0.5).stopped_epoch == 600
    late = observe(FRESH, 500, 0.0, 0.0)
    assert RULE.earliest_stop(late) == 600


@pytest.mark.parametrize("fields", [(0, 5, 600), (10, 0, 600), (10, 5, 605)])
def test_impossible_rules_are_refused(fields):
    with pytest.raises(ValueError, match=r"training\."):
        StoppingRule(*fields)
