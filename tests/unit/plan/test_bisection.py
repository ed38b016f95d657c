"""Searches that end where something no longer holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.plan.bisection import largest_count, largest_near, largest_part


@given(st.integers(0, 5000))
def test_the_largest_count_that_holds(limit):
    assert largest_count(lambda count: count <= limit, 10_000) == limit


@given(st.integers(1, 3000))
def test_the_search_ends_soon_after_the_most(most):
    assert most <= largest_count(lambda count: True, most) < 2 * most + 1


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_number_near_the_most_is_found_whereever_it_is(limit, most):
    tried = []
    found = largest_near(lambda count: bool(tried.append(count)) or count <= limit, most)
    assert found == min(limit, most)
    assert all(0 < count <= most for count in tried)
    assert len(tried) <= (1 if limit >= most else 2 + 2 * (most - limit).bit_length())


@given(st.floats(0.0, 1.0), st.integers(1, 12))
def test_the_largest_part_is_near_and_holds(limit, steps):
    found = largest_part(lambda part: part <= limit, 0.0, 1.0, steps)
    assert found <= limit
    assert limit - found <= 0.5**steps


def test_a_part_that_never_holds_is_the_low_end():
    assert largest_part(lambda part: False, 0.25, 1.0, 5) == pytest.approx(0.25)


@pytest.mark.parametrize("limit", [0, 1, 6, 9])
def test_a_number_that_is_known_to_miss_is_not_tried_again(limit):
    tried = []
    assert largest_count(lambda count: bool(tried.append(count)) or count <= limit, 100,
                         10) == limit
    assert all(count < 10 for count in tried)
    assert len(tried) <= 4
