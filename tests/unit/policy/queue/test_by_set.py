"""Queues per device set: nobody waits for what is not theirs, and nobody for ever."""

import pytest

from penstock.core.errors import InputError
from penstock.policy.queue.by_set import DeviceSetQueue, Fairness
from penstock.policy.queue.values import Shared, Start, Waiting


def deployments(*device_sets: set[int], expected_s: float = 1.0) -> list[Shared]:
    return [Shared((frozenset(devices),), expected_s) for devices in device_sets]


def order_at(queue: DeviceSetQueue, now_s: float) -> list[int]:
    """Requests in the order in which they start, each ending at once."""
    order = []
    while (start := queue.next(now_s)) is not None:
        order += start.request_ids
        queue.ended(start)
    return order


def test_an_idle_set_is_not_held_up_by_another() -> None:
    queue = DeviceSetQueue(deployments({0}, {1}))
    for request_id, deployment in enumerate((0, 0, 1)):
        queue.add(Waiting(request_id, deployment, 0.0))
    assert queue.next(0.0) == Start(0, 0, (0,))
    assert queue.next(0.0) == Start(1, 0, (2,))
    assert queue.next(0.0) is None
    assert queue.num_waiting == 1


def test_equal_requests_go_in_the_order_in_which_they_came() -> None:
    queue = DeviceSetQueue(deployments({0}, {0, 1}, {1}))
    for request_id, deployment in enumerate((2, 1, 0, 1)):
        queue.add(Waiting(request_id, deployment, 5.0))
    assert order_at(queue, 5.0) == [0, 1, 2, 3]


def test_who_waits_long_enough_keeps_devices_free() -> None:
    queue = DeviceSetQueue(deployments({0, 1}, {0}, {1}), Fairness(patience_s=2.0))
    queue.add(Waiting(0, 1, 0.0))
    on_0 = queue.next(0.0)
    queue.add(Waiting(1, 0, 0.5))
    queue.add(Waiting(2, 2, 1.0))
    on_1 = queue.next(1.0)
    assert on_1 == Start(2, 0, (2,)), "within its patience, others use what is idle"
    queue.add(Waiting(3, 1, 2.0))
    queue.add(Waiting(4, 2, 2.0))
    assert on_0 is not None
    queue.ended(on_0)
    assert queue.next(3.0) is None, "device 0 is idle and is kept for the pair"
    queue.ended(on_1)
    both = queue.next(3.1)
    assert both == Start(0, 0, (1,))
    queue.ended(both)
    assert order_at(queue, 4.0) == [3, 4]


def test_without_end_to_patience_nothing_is_kept() -> None:
    queue = DeviceSetQueue(deployments({0, 1}, {0}), Fairness(patience_s=float("inf")))
    queue.add(Waiting(0, 1, 0.0))
    first = queue.next(0.0)
    queue.add(Waiting(1, 0, 0.5))
    queue.add(Waiting(2, 1, 900.0))
    assert first is not None
    queue.ended(first)
    assert queue.next(1000.0) == Start(0, 0, (1,)), "it is the older of the two"


def test_a_class_behind_goes_first_once_it_has_aged() -> None:
    queue = DeviceSetQueue(deployments({0}), Fairness(aging_s=10.0))
    queue.add(Waiting(0, 0, 0.0, priority=1))
    queue.add(Waiting(1, 0, 9.0))
    queue.add(Waiting(2, 0, 11.0))
    assert order_at(queue, 11.0) == [1, 0, 2]


def test_a_deadline_in_reach_counts_and_one_out_of_reach_does_not() -> None:
    fairness = Fairness(patience_s=1.0)
    near = DeviceSetQueue(deployments({0}, expected_s=2.0), fairness)
    near.add(Waiting(0, 0, 0.0))
    near.add(Waiting(1, 0, 1.0, deadline_s=4.0))
    assert order_at(near, 1.0) == [1, 0]
    gone = DeviceSetQueue(deployments({0}, expected_s=2.0), fairness)
    gone.add(Waiting(0, 0, 0.0))
    gone.add(Waiting(1, 0, 1.0, deadline_s=2.5))
    assert order_at(gone, 1.0) == [0, 1]
    far = DeviceSetQueue(deployments({0}, expected_s=2.0), fairness)
    far.add(Waiting(0, 0, 0.0))
    far.add(Waiting(1, 0, 1.0, deadline_s=400.0))
    assert order_at(far, 1.0) == [0, 1]


def test_the_set_listed_first_is_taken_and_else_the_other() -> None:
    queue = DeviceSetQueue([Shared((frozenset({2}), frozenset({0})))])
    for request_id in range(3):
        queue.add(Waiting(request_id, 0, 0.0))
    assert queue.next(0.0) == Start(0, 0, (0,))
    assert queue.next(0.0) == Start(0, 1, (1,))
    assert queue.next(0.0) is None


def test_of_several_sets_the_one_with_fewest_taken_is_kept() -> None:
    shared = [Shared((frozenset({0, 1}), frozenset({2, 3}))),
              *deployments({0}, {1}, {2}, {3})]
    queue = DeviceSetQueue(shared, Fairness(patience_s=1.0))
    starts = []
    for request_id, deployment in enumerate((1, 2, 3)):
        queue.add(Waiting(request_id, deployment, 0.0))
        starts.append(queue.next(0.0))
    queue.add(Waiting(3, 0, 0.0))
    queue.add(Waiting(4, 1, 0.5))
    queue.add(Waiting(5, 4, 0.5))
    assert queue.next(1.0) is None, "device 3 is kept: of its set only device 2 is taken"
    assert starts[2] is not None
    queue.ended(starts[2])
    assert queue.next(1.1) == Start(0, 1, (3,))


def test_what_waits_together_starts_together() -> None:
    queue = DeviceSetQueue([Shared((frozenset({0}),), max_batch=2)])
    for request_id in range(5):
        queue.add(Waiting(request_id, 0, float(request_id), priority=int(request_id == 0) * 9))
    assert order_at(queue, 5.0) == [1, 2, 3, 4, 0]
    queue.add(Waiting(5, 0, 6.0))
    queue.add(Waiting(6, 0, 6.0))
    assert queue.next(6.0) == Start(0, 0, (5, 6))


def test_who_waits_can_be_taken_back() -> None:
    queue = DeviceSetQueue(deployments({0}, {1}))
    for request_id in range(4):
        queue.add(Waiting(request_id, 0, float(request_id)))
    assert queue.cancel(1)
    assert not queue.cancel(1)
    assert order_at(queue, 4.0) == [0, 2, 3]


@pytest.mark.parametrize("fairness", [Fairness(aging_s=-1.0), Fairness(patience_s=-1.0),
                                      Fairness(patience_s=float("nan"))])
def test_senseless_fairness_is_refused(fairness: Fairness) -> None:
    with pytest.raises(InputError, match="expected both to be at least 0"):
        DeviceSetQueue(deployments({0}), fairness)
