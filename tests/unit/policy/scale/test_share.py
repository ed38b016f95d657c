"""Loads at which objectives hold, from requests that missed."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.scale.arrival_load import Ended
from penstock.policy.scale.share import LoadShare

BELIEVED = 0.8


def at_load(load, num_ended, num_missed, *, at_s=0.0, work=1.0):
    return Ended("chat", at_s, load, num_ended, num_missed, work)


seen = st.lists(st.builds(
    lambda load, ended, share: at_load(load, ended, share * ended),
    st.floats(0.0, 20.0), st.floats(0.0, 1e4), st.floats(0.0, 1.0)), max_size=20)


def after(*rows):
    found = LoadShare(0.02)
    for row in rows:
        found.add(at_load(*row))
    return found.largest(BELIEVED, 1.0, 0.0)


def test_the_belief_holds_before_anything_is_seen():
    assert after() == pytest.approx(BELIEVED, rel=0.05)


def test_loads_without_misses_raise_the_share():
    assert after((0.9, 50_000.0, 0.0)) == pytest.approx(0.9, rel=0.05)


def test_misses_lower_the_share():
    assert after((0.5, 1e4, 10.0), (0.6, 1e4, 5_000.0)) == pytest.approx(0.55, rel=0.1)


def test_misses_of_idle_replicas_do_not_lower_the_share():
    # As many requests miss at any load, so more replicas would not help.
    rows = [(load, 1e5, 1e4) for load in (0.1, 0.2, 0.4, 0.6, 0.7)]
    assert after(*rows) >= 0.7


def test_old_misses_are_forgotten():
    found = LoadShare(0.02)
    found.add(at_load(0.5, 1e4, 1e4))
    assert found.largest(BELIEVED, 1.0, 0.0) < 0.5
    assert found.largest(BELIEVED, 1.0, 30 * 86400.0) > 0.7


def test_misses_of_requests_of_much_more_work_say_little():
    """Long prompts missed at a load at which short ones are known to be in time."""
    found = LoadShare(0.02)
    found.add(at_load(0.7, 1e5, 0.0))
    found.add(at_load(0.4, 1e4, 1e4, work=20.0))
    assert found.largest(BELIEVED, 1.0, 0.0) > 0.7
    assert found.largest(BELIEVED, 20.0, 0.0) < 0.4


@given(seen, st.floats(0.1, 2.0), st.floats(0.1, 2.0))
def test_the_share_is_positive_and_rises_with_the_belief(rows, one, other):
    found = LoadShare(0.02)
    for number, row in enumerate(rows):
        found.add(row._replace(at_s=10.0 * number))
    shares = [found.largest(believed, 1.0, 10.0 * len(rows)) for believed in sorted((one, other))]
    assert all(0.0 < share <= 9.0 for share in shares)
    assert all(low <= high + 1e-9 for low, high in pairwise(shares))


def test_doubt_takes_the_weight_of_what_was_seen_at_higher_loads() -> None:
    known = LoadShare(0.05)
    for load in (0.6, 0.8, 0.95):
        known.add(at_load(load, 50_000, 0))
    assert known.largest(0.5, 1.0, 0.0) > 0.9
    known.doubt(0.7, 0.0, 1.0)
    assert 0.55 < known.largest(0.5, 1.0, 0.0) < 0.7


def test_doubt_of_long_prompts_leaves_what_was_seen_with_short_ones() -> None:
    known = LoadShare(0.05)
    known.add(at_load(0.9, 50_000, 0))
    known.doubt(0.7, 0.5, 50.0)
    assert known.largest(0.5, 1.0, 0.0) > 0.85
