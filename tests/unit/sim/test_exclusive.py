"""Schedules by hand: when starts begin and end on devices that serve one at a time."""

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.policy.queue.by_set import DeviceSetQueue
from penstock.policy.queue.fifo import GlobalFifo
from penstock.policy.queue.values import Shared, Start, Waiting
from penstock.sim.exclusive import Dispatch, Served, serve

PAIR, ONE, OTHER = (Shared((frozenset(devices),)) for devices in ({0, 1}, {0}, {1}))


def waiting(*rows: tuple[int, float]) -> list[Waiting]:
    return [Waiting(place, deployment, arrival_s)
            for place, (deployment, arrival_s) in enumerate(rows)]


def two_seconds(start: Start) -> float:
    return 2.0


def test_one_after_the_other_with_what_dispatch_costs() -> None:
    found = serve(waiting((0, 0.0), (0, 1.0), (0, 9.0)), GlobalFifo([ONE]), two_seconds,
                  Dispatch([0.5]))
    assert found.start_s.tolist() == [0.5, 3.0, 9.5]
    assert found.end_s.tolist() == [2.5, 5.0, 11.5]
    assert found.e2e_s.tolist() == [2.5, 4.0, 2.5]
    assert found.work_s.tolist() == [2.0, 2.0, 2.0]


def test_a_queue_for_all_and_queues_per_set() -> None:
    requests = waiting((1, 0.0), (1, 0.5), (2, 1.0))
    dispatch = Dispatch([0.0] * 3)
    published = serve(requests, GlobalFifo([PAIR, ONE, OTHER]), two_seconds, dispatch)
    assert published.start_s.tolist() == [0.0, 2.0, 2.0]
    ours = serve(requests, DeviceSetQueue([PAIR, ONE, OTHER]), two_seconds, dispatch)
    assert ours.start_s.tolist() == [0.0, 2.0, 1.0]


def test_an_end_comes_before_an_arrival_of_the_same_instant() -> None:
    found = serve(waiting((1, 0.0), (1, 2.0)), GlobalFifo([PAIR, ONE]), two_seconds,
                  Dispatch([0.0, 0.0]))
    assert found.start_s.tolist() == [0.0, 2.0]


def test_nobody_is_given_a_turn_in_a_pause() -> None:
    found = serve(waiting((0, 0.0), (0, 0.5), (0, 20.0)), GlobalFifo([ONE]), two_seconds,
                  Dispatch([0.0], ((1.0, 11.0), (10.0, 12.0), (20.0, 21.0))))
    assert found.start_s.tolist() == [0.0, 12.0, 21.0]


def test_what_starts_together_ends_together() -> None:
    def by_size(start: Start) -> float:
        return 1.0 + len(start.request_ids)

    queue = DeviceSetQueue([Shared((frozenset({0}),), max_batch=2)])
    found = serve(waiting((0, 0.0), (0, 1.0), (0, 1.5)), queue, by_size, Dispatch([0.0]))
    assert found.end_s.tolist() == [2.0, 5.0, 5.0]
    assert found.batch.tolist() == [1, 2, 2]
    assert found.work_s.tolist() == [2.0, 3.0, 3.0]


def test_replicas_work_side_by_side() -> None:
    queue = DeviceSetQueue([Shared((frozenset({0}), frozenset({1})))])
    found = serve(waiting((0, 0.0), (0, 0.0), (0, 0.0)), queue, two_seconds, Dispatch([0.0]))
    assert found.set_index.tolist() == [0, 1, 0]
    assert found.end_s.tolist() == [2.0, 2.0, 4.0]


def test_nothing_asked_nothing_served() -> None:
    found: Served = serve([], GlobalFifo([ONE]), two_seconds, Dispatch([0.0]))
    assert len(found.e2e_s) == 0
    assert found.start_s.dtype == np.float64


@pytest.mark.parametrize("requests", [
    [Waiting(1, 0, 0.0)], [Waiting(0, 0, 1.0), Waiting(1, 0, 0.5)],
    [Waiting(0, 0, float("nan"))], [Waiting(0, 0, float("inf"))]])
def test_requests_out_of_order_are_refused(requests: list[Waiting]) -> None:
    with pytest.raises(InputError, match="expected requests in order of arrival"):
        serve(requests, GlobalFifo([ONE]), two_seconds, Dispatch([0.0]))
