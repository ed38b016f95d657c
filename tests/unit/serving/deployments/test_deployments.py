"""The states of a deployment and what follows what."""

from itertools import product

import pytest

from penstock.serving.deployments.deployments import (
    AT_WORK,
    FOLLOWING,
    HOLDING,
    Backoff,
    Instance,
    RefusedError,
    State,
    after_crash,
    failed_again,
    moved,
)
from support.simulated_deployments import PLACEMENT, deployment


def test_every_state_can_be_reached_and_left():
    assert set(FOLLOWING) == set(State)
    reached = {State.REGISTERED}
    while more := set().union(*(FOLLOWING[state] for state in reached)) - reached:
        reached |= more
    assert reached == set(State)
    assert all(FOLLOWING.values())


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_only_the_table_is_legal(before, after):
    one = deployment(state=before)
    if after in FOLLOWING[before]:
        found = moved(one, after, 7.0, "why")
        assert (found.state, found.since_s, found.reason) == (after, 7.0, "why")
        return
    with pytest.raises(RefusedError, match=f"is {before}: it cannot become {after}") as told:
        moved(one, after, 7.0)
    assert told.value.code == "state"
    assert told.value.details == {"name": "a", "state": str(before)}


@pytest.mark.parametrize("state", State)
def test_memory_is_held_in_no_other_state(state):
    for before in State:
        one = deployment(state=before, placement=PLACEMENT, instance=Instance("http://x", 7))
        if state in FOLLOWING[before]:
            found = moved(one, state, 1.0)
            assert (found.placement is None) == (state not in HOLDING)
            assert (found.instance is None) == (state not in HOLDING)
            assert found.devices == ((0, 1) if state in HOLDING else ())


@pytest.mark.parametrize(("after", "num"), [(State.RUNNING, 3), (State.FAILED, 0)])
def test_failures_count_on_until_it_ran_well_for_a_while(after, num):
    one = deployment(state=State.UNHEALTHY, num_failures=3, retry_s=9.0)
    assert moved(one, after, 5.0).num_failures == num


def test_each_failure_waits_twice_as_long_and_the_last_gives_up():
    backoff = Backoff(first_s=1.0, longest_s=5.0, most=4)
    assert [backoff.delay_s(num) for num in range(1, 6)] == [1.0, 2.0, 4.0, 5.0, None]
    one = deployment(state=State.UNHEALTHY, placement=PLACEMENT)
    waits = []
    for now_s in range(4):
        one = failed_again(one, float(now_s), "crashed", backoff)
        assert (one.state, one.placement) == (State.UNHEALTHY, PLACEMENT)
        waits.append(one.retry_s - now_s)
    assert waits == [1.0, 2.0, 4.0, 5.0]
    one = failed_again(one, 4.0, "crashed", backoff)
    assert (one.state, one.placement) == (State.FAILED, None)
    assert one.reason == "given up after 4 starts: crashed"


@pytest.mark.parametrize(("before", "after"), [
    (State.PROFILING, State.FAILED), (State.DEPLOYING, State.FAILED),
    (State.REMOVING, State.REMOVED), (State.RUNNING, State.RUNNING),
    (State.UNHEALTHY, State.UNHEALTHY), (State.REGISTERED, State.REGISTERED)])
def test_what_a_crash_leaves(before, after):
    found = after_crash(deployment(state=before, placement=PLACEMENT), 3.0)
    assert found.state == after
    assert (found.placement is None) or before not in AT_WORK
    assert after_crash(found, 4.0) == found
