"""Intervals of medians."""

from random import Random

import pytest

from penstock.perf.profiles.stability import COVERAGE, median_interval


def test_few_values_give_all_that_they_can() -> None:
    assert median_interval([3.0]).low == median_interval([3.0]).high == 3.0
    assert median_interval([3.0]).coverage == 0.0
    three = median_interval([1.0, 2.0, 9.0])
    assert (three.median, three.low, three.high, three.coverage) == (2.0, 1.0, 9.0, 0.75)
    five = median_interval([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (five.low, five.high) == (1.0, 5.0)
    assert five.coverage == pytest.approx(0.9375)
    assert five.relative_half_width == pytest.approx(2 / 3)


def test_many_values_leave_the_outer_ones_out() -> None:
    found = median_interval([float(value) for value in range(1, 101)])
    assert found.median == 50.5
    assert (found.low, found.high) == (42.0, 59.0)
    assert COVERAGE <= found.coverage < 0.95


def test_one_outlier_does_not_widen_it() -> None:
    calm = [1.0] * 20
    assert median_interval([*calm, 1e9]).relative_half_width == 0.0


def test_it_covers_the_true_median_as_often_as_it_says() -> None:
    rng = Random(5)
    for num in (5, 9, 30):
        covered = expected = 0.0
        for _ in range(2000):
            found = median_interval([rng.lognormvariate(0.0, 1.0) for _ in range(num)])
            covered += found.low <= 1.0 <= found.high
            expected += found.coverage
        assert covered / 2000 == pytest.approx(expected / 2000, abs=0.02)


def test_nothing_has_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        median_interval([])
