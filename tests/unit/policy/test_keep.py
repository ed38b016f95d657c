"""Value of keeping what is loaded."""

import pytest

from penstock.policy.keep import ArrivalRate, Demand, reload_wait


def test_a_rate_is_known_from_two_moments_on() -> None:
    rate = ArrivalRate(0.1)
    assert rate.rate_per_s(1.0) == 0.0
    rate.note(1.0)
    rate.note(1.0)
    assert rate.rate_per_s(1.0) == 0.0, "both came at once"
    rate.note(3.0)
    assert rate.rate_per_s(3.0) == pytest.approx(0.5)


def test_a_rate_follows_and_falls_while_none_arrives() -> None:
    rate = ArrivalRate(0.1)
    for second in range(10):
        rate.note(float(second))
    assert rate.rate_per_s(9.0) == pytest.approx(1.0)
    assert rate.rate_per_s(14.0) == pytest.approx(1.0), "a gap of five may be chance"
    assert rate.rate_per_s(29.0) == pytest.approx(0.25)
    rate.note(19.0)
    assert rate.rate_per_s(19.0) == pytest.approx(1.0 / (0.9 * 1.0 + 0.1 * 10.0))


def test_a_load_that_more_requests_wait_for_is_worth_more() -> None:
    assert reload_wait(2.0, 3.0, 4.0) == pytest.approx(1.5)
    demand = Demand()
    demand.note("rare", 0.0)
    for second in range(6):
        demand.note("often", float(second))
    demand.note("rare", 5.0)
    assert demand.keep("often", 1.0) > demand.keep("rare", 1.0) > demand.keep("never", 9.0) == 0.0
    assert demand.keep("rare", 6.0) > demand.keep("often", 1.0), "it takes so long to load"


def test_a_late_note_counts_as_of_the_latest() -> None:
    demand = Demand()
    for moment in (1.0, 5.0, 3.0):
        demand.note("a", moment)
    assert demand.keep("a", 1.0) == pytest.approx(1.0 / (0.9 * 4.0))
