"""Numbers of replicas of several groups: growth, reduction and exchange."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.scale.mix import Mix, size
from penstock.policy.scale.protocol import GroupFacts

START_S = 120.0


def facts(cost: float, *, floor: int = 0, ceiling: int = 20) -> GroupFacts:
    return GroupFacts("m", floor, ceiling, floor, cost, START_S, 100_000)


def mix(*costs: float) -> Mix:
    return Mix([facts(cost) for cost in costs])


counts = st.tuples(st.integers(0, 8), st.integers(0, 8))
worths = st.tuples(st.sampled_from([0.5, 1.0, 1.5, 2.0]), st.sampled_from([0.5, 1.0, 1.5, 2.0]))


@given(counts, worths, st.floats(0.0, 60.0))
def test_growth_keeps_every_replica(present, worth, need) -> None:
    found = mix(1.0, 1.5).grown(present, worth, need)
    assert all(one >= count for one, count in zip(found, present, strict=True))
    assert size(found, worth) >= need - 1e-9 or found == (20, 20)


@given(counts, counts, worths, st.floats(0.0, 20.0))
def test_reduction_starts_nothing_and_keeps_what_is_needed(present, ready, worth, need) -> None:
    ready = tuple(map(min, ready, present))
    found = mix(1.0, 1.5).reduced(present, ready, worth, need, 0.0)
    if found is None:
        return
    assert all(one <= count for one, count in zip(found, present, strict=True))
    assert size(found, worth) >= need - 1e-9
    # Ready replicas that suffice stay: none goes for one that starts.
    if size(ready, worth) >= need:
        assert all(one <= count for one, count in zip(found, ready, strict=True))


def test_the_cheapest_replicas_are_added_and_the_dearest_given_up() -> None:
    assert mix(1.0, 3.0).grown((2, 2), (1.0, 2.0), 8.0) == (4, 2)
    assert mix(1.0, 3.0).reduced((4, 2), (4, 2), (1.0, 2.0), 5.0, 0.0) == (3, 1)


def exchanged_after(one: Mix, worth: tuple[float, float], for_s: float) -> float | None:
    """Return the time of the first exchange of four replicas of the first group."""
    now_s = 0.0
    while now_s <= for_s:
        if one.exchanged((4, 0), worth, 4.0, now_s) is not None:
            return now_s
        now_s += 10.0
    return None


def test_replicas_are_exchanged_once_they_have_cost_too_much_by_the_others_starts() -> None:
    # Two replicas of the second group cost 3 instead of 4; their starts cost 3 times 120 s.
    found = exchanged_after(mix(1.0, 1.5), (1.0, 2.0), 3600.0)
    assert found is not None
    assert 300.0 <= found <= 420.0


def test_a_small_saving_is_no_reason_to_start_others() -> None:
    assert exchanged_after(mix(1.0, 1.96), (1.0, 2.0), 24 * 3600.0) is None


def test_an_exchange_keeps_the_present_replicas_until_the_others_are_ready() -> None:
    one = mix(1.0, 1.5)
    now_s = exchanged_after(one, (1.0, 2.0), 3600.0)
    assert now_s is not None
    worth, both = (1.0, 2.0), (4, 2)
    assert one.reduced(both, (4, 0), worth, 4.0, now_s + 10.0) is None
    assert one.reduced(both, (4, 2), worth, 4.0, now_s + 130.0) == (0, 2)


def test_replicas_that_never_start_are_given_up_for_those_that_serve() -> None:
    one = mix(1.0, 1.5)
    now_s = exchanged_after(one, (1.0, 2.0), 3600.0)
    assert now_s is not None
    assert one.reduced((4, 2), (4, 0), (1.0, 2.0), 4.0, now_s + 2.5 * START_S) == (4, 0)


@pytest.mark.parametrize("present", [(2, 1), (0, 0)])
def test_bounds_hold(present) -> None:
    one = Mix([facts(1.0, floor=1, ceiling=3), facts(9.0, ceiling=1)])
    assert one.grown(present, (1.0, 1.0), 100.0) == (3, 1)
    assert one.reduced((3, 1), (3, 1), (1.0, 1.0), 0.0, 0.0) == (1, 0)
