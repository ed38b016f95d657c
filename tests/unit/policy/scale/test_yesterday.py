"""Yesterday's change of a rate."""

import pytest

from penstock.policy.scale.yesterday import DAY_S, Yesterday


def fed(rate_at, until_s, lead_s=120.0):
    found, count, now_s = Yesterday(lead_s), 0.0, 0.0
    while now_s <= until_s:
        found.add(now_s, count)
        count += 10.0 * rate_at(now_s)
        now_s += 10.0
    return found


def rising_at_noon(now_s):
    return 30.0 if now_s % DAY_S >= 0.5 * DAY_S else 10.0


def test_nothing_is_known_on_the_first_day():
    assert fed(rising_at_noon, DAY_S - 60.0).ratio(DAY_S - 60.0) is None


def test_a_rise_is_told_a_lead_ahead():
    noon_s = 1.5 * DAY_S
    found = fed(rising_at_noon, noon_s - 120.0)
    assert found.ratio(noon_s - 120.0) == pytest.approx(3.0)
    found = fed(rising_at_noon, noon_s - 600.0)
    assert found.ratio(noon_s - 600.0) == pytest.approx(1.0)


def test_no_rate_yesterday_tells_nothing():
    found = fed(lambda now_s: 5.0 if now_s > DAY_S else 0.0, 1.2 * DAY_S)
    assert found.ratio(1.2 * DAY_S) is None


def test_long_gaps_between_observations_are_bridged():
    found = Yesterday(60.0)
    for now_s in (0.0, 30_000.0, 90_000.0, 100_000.0):
        found.add(now_s, now_s)
    found.ratio(100_000.0)  # known or not, no error
