"""Predicted shares of requests in time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.scale.prediction import covered_share, next_best


@pytest.mark.parametrize(("rate", "spread", "in_time"), [
    (10.0, 0.3, 12.0), (10.0, 0.3, 8.0), (10.0, 0.05, 10.0), (3.0, 1.0, 1.0)])
def test_the_share_is_the_mean_over_drawn_demands(rate, spread, in_time):
    rng = random.Random(4)
    num = 40_000
    drawn = sum(min(1.0, in_time / (rate * rng.lognormvariate(0.0, spread))) for _ in range(num))
    assert covered_share(rate, spread, in_time) == pytest.approx(drawn / num, abs=0.004)


@pytest.mark.parametrize(("arguments", "share"), [
    ((0.0, 0.3, 0.0), 1.0), ((5.0, 0.3, 0.0), 0.0), ((5.0, 0.0, 4.0), 0.8), ((5.0, 0.0, 6.0), 1.0),
    ((5.0, 1e-9, 6.0), 1.0)])
def test_edges(arguments, share):
    assert covered_share(*arguments) == pytest.approx(share)


@given(st.floats(0.01, 1e3), st.floats(0.0, 2.0), st.floats(0.0, 1e3), st.floats(0.0, 100.0))
def test_more_replicas_never_cover_less(rate, spread, in_time, more):
    low, high = (covered_share(rate, spread, one) for one in (in_time, in_time + more))
    assert 0.0 <= low <= high + 1e-12 <= 1.0 + 1e-12


def worth(counts):
    return counts[0] * 1.0 + counts[1] * 2.0


@pytest.mark.parametrize(("counts", "bounds", "found"), [
    ((3, 2), [(1, 4), (0, 4)], (2, 2)),       # the smaller loss
    ((1, 2), [(1, 4), (0, 4)], (1, 1)),       # the first is at its floor
    ((1, 0), [(1, 4), (0, 4)], (2, 0)),       # both are: the cheapest more
    ((1, 0), [(1, 1), (0, 4)], (1, 1)),
    ((1, 0), [(1, 1), (0, 0)], None)])
def test_the_next_best_has_one_fewer_or_at_the_floors_one_more(counts, bounds, found):
    assert next_best(counts, bounds, [5.0, 7.0], worth) == found
