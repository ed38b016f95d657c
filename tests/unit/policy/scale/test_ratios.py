"""Headroom from past ratios of actual over forecast demand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.scale.ratios import Ratios

pairs = st.lists(st.tuples(st.floats(0.1, 100.0), st.floats(0.1, 100.0)), min_size=1, max_size=30)


def after(rows, *, weight=1e-9):
    found = Ratios(1.0, 0.1, weight)
    for actual, forecast in rows:
        found.add(actual, forecast, actual)
    return found


def test_demand_beyond_the_headroom_is_the_shortfall():
    found = after([(10.0, 10.0)] * 9 + [(20.0, 10.0)])
    # 10 of 110 requests are beyond a headroom of 1, 5 beyond 1.5; bins are 2.5 % wide.
    assert found.shortfall(1.0) == pytest.approx(10.0 / 110.0, abs=0.003)
    assert found.shortfall(1.5) == pytest.approx(5.0 / 110.0, abs=0.003)
    assert found.headroom(5.0 / 110.0) == pytest.approx(1.5, rel=0.02)
    assert found.mean == pytest.approx(1.1, rel=0.02)


def test_nothing_known_is_the_prior():
    found = Ratios(1.0, 0.15, 10.0)
    assert found.mean == pytest.approx(1.0, abs=0.02)
    assert 1.1 < found.headroom(0.01) < 1.4


def test_old_ratios_are_forgotten():
    found = Ratios(0.5, 0.1, 1.0)
    for ratio in [3.0] * 10 + [1.0] * 20:
        found.add(ratio, 1.0, ratio)
    assert found.headroom(0.01) == pytest.approx(1.0, rel=0.03)


def test_demand_where_none_was_forecast_asks_for_the_most():
    assert after([(5.0, 0.0)]).headroom(0.01) == pytest.approx(8.0, rel=0.05)


@given(pairs, st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_the_headroom_keeps_the_shortfall_and_falls_with_what_is_allowed(rows, one, other):
    found = after(rows)
    low, high = sorted((one, other))
    assert found.shortfall(found.headroom(high)) <= high + 1e-9
    assert found.headroom(low) >= found.headroom(high) - 1e-9
