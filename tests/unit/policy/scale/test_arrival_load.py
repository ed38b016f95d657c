"""Loads at which requests arrived, of requests that end later."""

import pytest

from penstock.policy.scale.arrival_load import DELAY_S, LOAD_S, ArrivalLoads, ReadyLoad
from penstock.policy.scale.values import SeenDemand

PERIOD_S = 10.0
RATE_PER_S = 5.0


def run(capacity, waiting, *, residence_s=20.0, for_s=900.0, missed=lambda arrived_s: False,
        num_ready=lambda now_s: 4):
    """Return what is counted where a request of work 1 arrives 5 times a second and stays for a
    time; ``capacity``, ``waiting`` and ``num_ready`` are functions of the time."""
    loads, found = ArrivalLoads(wait_s=5.0), []
    arrived = num_ended = num_met = 0
    for step in range(int(for_s / PERIOD_S)):
        now_s = step * PERIOD_S
        arrived = round(RATE_PER_S * now_s)
        while num_ended < RATE_PER_S * (now_s - residence_s):
            num_met += not missed(num_ended / RATE_PER_S)
            num_ended += 1
        found += loads.add(ReadyLoad(
            arrived, waiting(now_s), capacity(now_s), num_ready(now_s), arrived / 1000.0), [
            SeenDemand("m", "chat", arrived, 0, num_ended, 0, num_met=num_met)], now_s)
    return found


def constant(value):
    return lambda now_s: value


def test_requests_count_to_a_steady_load_after_the_delay() -> None:
    found = run(constant(10.0), constant(0.0))
    assert {round(one.load, 6) for one in found} == {0.5}
    assert max(one.at_s for one in found) <= 900.0 - DELAY_S
    ended = RATE_PER_S * (900.0 - PERIOD_S - DELAY_S - 20.0)
    # Requests of the first minute are not counted: their load is not known.
    assert ended - RATE_PER_S * LOAD_S <= sum(one.num_ended for one in found) <= ended


def test_requests_count_to_the_load_of_their_arrival() -> None:
    """Capacity doubles at 400 s; requests that end in the 200 s after arrived before."""
    found = run(lambda now_s: 6.0 if now_s < 400.0 else 12.0, constant(0.0), residence_s=200.0,
                missed=lambda arrived_s: arrived_s < 360.0)
    high = sum(one.num_missed for one in found if one.load > 0.8)
    assert high == sum(one.num_missed for one in found) > 0
    assert all(one.load == pytest.approx(5.0 / 12.0) for one in found if one.at_s > 660.0)


def test_the_queue_of_an_overload_counts_to_the_overload() -> None:
    """Load 2 until 300 s; then replicas suffice, while the queue lasts until 500 s."""
    found = run(lambda now_s: 2.5 if now_s < 300.0 else 10.0,
                lambda now_s: 200.0 if 100.0 <= now_s < 500.0 else 0.0)
    in_queue = [one.load for one in found if 330.0 < one.at_s < 520.0]
    assert min(in_queue) > 2.0
    after = [one.load for one in found if one.at_s > 600.0]
    assert after == pytest.approx([0.5] * len(after))


def test_requests_at_replicas_that_get_company_are_not_counted() -> None:
    """Four replicas become six at 400 s. Until their requests have ended, the four are slower than
    the load of all six says."""
    found = run(constant(10.0), constant(0.0), num_ready=lambda now_s: 4 if now_s < 400.0 else 6)
    at_s = [one.at_s - 20.0 for one in found]  # of the arrival
    assert not [at for at in at_s if 375.0 < at < 475.0]
    assert [at for at in at_s if 340.0 < at <= 370.0]
    assert [at for at in at_s if at > 480.0]


def test_a_replica_more_among_many_changes_no_load() -> None:
    found = run(constant(10.0), constant(0.0), num_ready=lambda now_s: 40 if now_s < 400.0 else 41)
    assert len(found) == len(run(constant(10.0), constant(0.0)))


def test_requests_bring_the_mean_work_of_their_arrival() -> None:
    found = run(constant(10.0), constant(0.0))
    assert [one.work for one in found] == pytest.approx(
        [RATE_PER_S * (one.at_s - 20.0 + 0.5 * LOAD_S) / 1000.0 for one in found], rel=0.05)


def test_a_short_queue_is_none() -> None:
    assert max(one.load for one in run(constant(10.0), constant(2.0))) < 0.51


def test_without_replicas_there_is_no_load() -> None:
    assert run(constant(0.0), constant(0.0)) == []


def test_requests_that_were_lost_have_ended() -> None:
    loads = ArrivalLoads(wait_s=5.0)
    found = []
    for step in range(40):
        num = 50 * step
        seen = SeenDemand("m", "chat", num, 0, num // 2, 0, num_met=num // 2, num_lost=num // 2)
        found += loads.add(ReadyLoad(num, 0.0, 10.0), [seen], step * PERIOD_S)
    assert {one.num_missed for one in found} == {25}
