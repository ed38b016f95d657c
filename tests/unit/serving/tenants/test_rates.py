from math import inf

from hypothesis import given
from hypothesis import strategies as st

from penstock.serving.tenants.rates import Bucket


def test_a_minute_passes_at_once_and_then_evenly() -> None:
    bucket = Bucket(60, 100.0)
    for _ in range(60):
        assert bucket.wait_s(1, 100.0) == 0
        bucket.take(1, 100.0)
    assert round(bucket.wait_s(1, 100.0), 6) == 1
    assert round(bucket.wait_s(1, 100.25), 6) == 0.75
    assert bucket.wait_s(1, 101.0) == 0
    assert round(bucket.wait_s(30, 101.0), 6) == 29


def test_more_than_ever_fits_is_told() -> None:
    assert Bucket(10, 0.0).wait_s(11, 0.0) == inf
    assert Bucket(10, 0.0).wait_s(10, 0.0) == 0


def test_what_was_not_used_is_given_back_and_a_debt_is_waited_for() -> None:
    bucket = Bucket(60, 0.0)
    bucket.take(50, 0.0)
    bucket.take(-50, 0.0)
    assert bucket.wait_s(60, 0.0) == 0
    bucket.take(-50, 0.0)
    bucket.take(60, 0.0)
    assert bucket.wait_s(1, 0.0) > 0, "it never holds more than a minute"
    bucket.take(60, 0.0)
    assert round(bucket.wait_s(1, 0.0), 6) == 61


def test_a_clock_that_stands_or_goes_back_fills_nothing() -> None:
    bucket = Bucket(60, 100.0)
    bucket.take(60, 100.0)
    assert bucket.wait_s(1, 50.0) > 0
    assert round(bucket.wait_s(1, 100.5), 6) == 0.5


@given(st.integers(1, 600), st.lists(st.tuples(
    st.floats(0, 30, allow_nan=False), st.integers(1, 40)), max_size=60))
def test_no_span_of_time_passes_more_than_the_law_says(limit, steps) -> None:
    bucket, now_s, passed = Bucket(limit, 0.0), 0.0, []
    for gap_s, amount in steps:
        now_s += gap_s
        if bucket.wait_s(amount, now_s) == 0:
            bucket.take(amount, now_s)
            passed.append((now_s, amount))
    for i, (start_s, _) in enumerate(passed):
        for j in range(i, len(passed)):
            total = sum(amount for _, amount in passed[i:j + 1])
            assert total <= limit * (1 + (passed[j][0] - start_s) / 60) + 1e-6


@given(st.integers(1, 600), st.integers(1, 600), st.floats(0, 100))
def test_who_waits_as_told_is_let_in(limit, amount, level_time_s) -> None:
    bucket = Bucket(limit, 0.0)
    bucket.take(limit, 0.0)
    wait_s = bucket.wait_s(amount, level_time_s)
    if wait_s < inf:
        assert bucket.wait_s(amount, level_time_s + wait_s + 1e-6) == 0
