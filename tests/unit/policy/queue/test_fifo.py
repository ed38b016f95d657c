"""MaverIQ's queue: one line for all, and only its head counts."""

import pytest

from penstock.core.errors import InputError
from penstock.policy.queue.fifo import GlobalFifo
from penstock.policy.queue.values import Shared, Start, Waiting


def deployments(*device_sets: set[int]) -> list[Shared]:
    return [Shared((frozenset(devices),)) for devices in device_sets]


def test_the_head_holds_up_those_whose_devices_are_idle() -> None:
    queue = GlobalFifo(deployments({0}, {1}))
    for request_id, deployment in enumerate((0, 0, 1)):
        queue.add(Waiting(request_id, deployment, 0.0))
    first = queue.next(0.0)
    assert first == Start(0, 0, (0,))
    assert queue.next(0.0) is None, "device 1 is idle, but the head wants device 0"
    assert queue.num_waiting == 2
    queue.ended(first)
    assert queue.next(1.0) == Start(0, 0, (1,))
    assert queue.next(1.0) == Start(1, 0, (2,))
    assert queue.num_waiting == 0
    assert queue.next(1.0) is None


def test_all_devices_must_be_idle() -> None:
    queue = GlobalFifo(deployments({0, 1}, {1}))
    queue.add(Waiting(0, 1, 0.0))
    queue.add(Waiting(1, 0, 0.0))
    start = queue.next(0.0)
    assert start is not None
    assert queue.next(0.0) is None
    queue.ended(start)
    assert queue.next(0.5) == Start(0, 0, (1,))


def test_the_latest_that_asks_to_be_ahead_is_first() -> None:
    queue = GlobalFifo(deployments({0}, {1}, {2}))
    queue.add(Waiting(0, 0, 0.0))
    queue.add(Waiting(1, 1, 1.0, ahead=True))
    queue.add(Waiting(2, 2, 2.0, ahead=True))
    order = []
    while (start := queue.next(2.0)) is not None:
        order.append(start.request_ids[0])
    assert order == [2, 1, 0]


def test_priorities_and_batches_mean_nothing_to_it() -> None:
    queue = GlobalFifo([Shared((frozenset({0}),), max_batch=4)])
    queue.add(Waiting(0, 0, 0.0, priority=3))
    queue.add(Waiting(1, 0, 0.0, priority=0))
    assert queue.next(0.0) == Start(0, 0, (0,))


def test_a_replica_that_is_idle_takes_the_head() -> None:
    queue = GlobalFifo([Shared((frozenset({0}), frozenset({1})))])
    for request_id in range(3):
        queue.add(Waiting(request_id, 0, 0.0))
    assert queue.next(0.0) == Start(0, 0, (0,))
    assert queue.next(0.0) == Start(0, 1, (1,))
    assert queue.next(0.0) is None


def test_who_waits_can_be_taken_back() -> None:
    queue = GlobalFifo(deployments({0}))
    queue.add(Waiting(0, 0, 0.0))
    queue.add(Waiting(1, 0, 0.0))
    assert queue.cancel(0)
    assert not queue.cancel(0)
    assert queue.next(0.0) == Start(0, 0, (1,))
    assert not queue.cancel(1)


@pytest.mark.parametrize("wrong", [Shared(()), Shared((frozenset(),)),
                                   Shared((frozenset({0}),), max_batch=0)])
def test_a_deployment_that_cannot_start_is_refused(wrong: Shared) -> None:
    with pytest.raises(InputError, match="deployment 1"):
        GlobalFifo([Shared((frozenset({0}),)), wrong])
