"""Sizes from which a fleet grew."""

from penstock.policy.scale.grown import FORGET_S, SETTLE_S, Grown, Growth


def test_a_fleet_that_just_grew_does_not_shrink_back_at_any_rate():
    found = Grown()
    found.add(0.0, Growth(4.0, 2.0, 10.5))
    assert found.largest(SETTLE_S - 10.0, 1.0, 2.0) == 4.0


def test_the_rate_after_the_growth_is_the_one_that_counts():
    found = Grown()
    found.add(0.0, Growth(4.0, 2.0, 10.5))
    assert found.largest(SETTLE_S, 10.0, 2.0) == 4.0  # settled at 10 requests/s
    assert found.largest(1000.0, 9.5, 2.0) == 4.0
    assert found.largest(1000.0, 9.0, 2.0) == 0.0


def test_requests_of_other_work_do_not_count():
    found = Grown()
    found.add(0.0, Growth(4.0, 2.0, 10.5))
    found.largest(SETTLE_S, 10.0, 2.0)
    assert found.largest(1000.0, 10.0, 2.2) == 4.0
    assert found.largest(1000.0, 10.0, 3.0) == 0.0


def test_a_growth_is_forgotten_after_a_day():
    found = Grown()
    found.add(0.0, Growth(4.0, 2.0, 10.5))
    found.largest(SETTLE_S, 10.0, 2.0)
    assert found.largest(FORGET_S, 10.0, 2.0) == 4.0
    assert found.largest(FORGET_S + 10.0, 10.0, 2.0) == 0.0


def test_a_burst_that_has_passed_is_no_reason_to_stay():
    found = Grown()
    found.add(0.0, Growth(4.0, 2.0, 20.0))
    assert found.largest(SETTLE_S, 10.0, 2.0) == 0.0
    assert found.largest(1000.0, 30.0, 2.0) == 0.0
