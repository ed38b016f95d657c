"""Rounding of what may be shown of confidential requests."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.disclosure import Disclosure, at_most, share_at_least


@given(st.integers(0, 10**9), st.sampled_from((1, 7, 16, 100)))
def test_a_count_is_never_less_than_it_was_nor_told_closer_than_its_bucket(number: int,
                                                                           least: int) -> None:
    shown = Disclosure(least_count=least).count(number)
    assert shown >= number
    assert (shown == 0) == (number == 0)
    if number:
        factor = shown / least
        assert factor >= 1
        assert factor.is_integer()
        assert (int(factor) & (int(factor) - 1)) == 0
        assert shown == least or shown < 2 * number


@given(st.floats(1e-9, 1e9))
def test_seconds_go_up_to_the_next_of_a_few_values(seconds: float) -> None:
    shown = at_most(seconds)
    assert shown is not None
    assert seconds * (1 - 1e-9) <= shown <= 2.5 * seconds * (1 + 1e-6)
    assert f"{shown:e}"[0] in "125"
    assert at_most(shown) == pytest.approx(shown)


def test_what_is_not_there_stays_so() -> None:
    assert [at_most(value) for value in (None, nan, 0.0, inf)] == [None, None, 0.0, inf]
    assert share_at_least(None) is None


@given(st.floats(0, 1))
def test_a_share_goes_down_to_a_multiple_of_a_twentieth(share: float) -> None:
    shown = share_at_least(share)
    assert shown is not None
    assert 0 <= shown <= share + 1e-9 < shown + 0.05 + 2e-9
    assert (shown * 20) == pytest.approx(round(shown * 20))
