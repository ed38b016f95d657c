"""Laws of turns on shared devices: everybody once, no device twice, order, and no starvation."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.queue.by_set import DeviceSetQueue, Fairness
from penstock.policy.queue.fifo import GlobalFifo
from penstock.policy.queue.protocol import ExclusiveDeviceQueue
from penstock.policy.queue.values import Shared, Start, Waiting
from penstock.sim.exclusive import Dispatch, Served, serve
from support.scaled_examples import examples

Case = tuple[list[Shared], list[Waiting], list[float]]


@st.composite
def cases(draw: st.DrawFn, *, replicas: int = 2, classes: int = 3, batches: int = 3) -> Case:
    """Deployments on up to 4 devices, requests in order, and seconds of work of each; in eighths
    of a second, so that moments coincide and sums are exact."""
    device_sets = st.frozensets(st.integers(0, 3), min_size=1)
    shared = draw(st.lists(st.builds(
        Shared, st.lists(device_sets, min_size=1, max_size=replicas).map(tuple),
        st.sampled_from((0.0, 1.0)), st.integers(1, batches)), min_size=1, max_size=4))
    eighths = st.integers(0, 80).map(lambda number: number / 8.0)
    arrivals = sorted(draw(st.lists(eighths, max_size=25)))
    requests = [Waiting(place, draw(st.integers(0, len(shared) - 1)), arrival_s,
                        draw(st.integers(0, classes - 1)),
                        draw(st.sampled_from((float("inf"), arrival_s, arrival_s + 3.0))),
                        draw(st.booleans()))
                for place, arrival_s in enumerate(arrivals)]
    work_s = draw(st.lists(st.integers(1, 24).map(lambda number: number / 8.0),
                           min_size=len(requests), max_size=len(requests)))
    return shared, requests, work_s


def run(case: Case, queue: ExclusiveDeviceQueue,
        overhead_s: float = 0.0) -> tuple[Served, list[Start]]:
    shared, requests, work_s = case
    starts: list[Start] = []

    def longest(start: Start) -> float:
        starts.append(start)
        return max(work_s[request_id] for request_id in start.request_ids)

    return serve(requests, queue, longest, Dispatch([overhead_s] * len(shared))), starts


def taken(shared: Sequence[Shared], served: Served,
          starts: Sequence[Start], overhead_s: float = 0.0) -> list[tuple[int, float, float]]:
    """(device, from, until) of every start."""
    return [(device, served.start_s[start.request_ids[0]] - overhead_s,
             served.end_s[start.request_ids[0]])
            for start in starts for device in shared[start.deployment].device_sets[
                start.set_index]]


@pytest.mark.parametrize("queue", [GlobalFifo, DeviceSetQueue])
@given(case=cases(), overhead_s=st.sampled_from((0.0, 0.125)))
def test_everybody_is_served_once_and_no_device_by_two(
        queue: type[GlobalFifo] | type[DeviceSetQueue], case: Case, overhead_s: float) -> None:
    shared, requests, _ = case
    served, starts = run(case, queue(shared), overhead_s)
    order = [request_id for start in starts for request_id in start.request_ids]
    assert sorted(order) == list(range(len(requests)))
    assert all(requests[request_id].deployment == start.deployment
               for start in starts for request_id in start.request_ids)
    assert all(len(start.request_ids) <= shared[start.deployment].max_batch for start in starts)
    assert np.all(served.start_s >= served.arrival_s + overhead_s)
    intervals = sorted(taken(shared, served, starts, overhead_s))
    for (device, _, until_s), (following, from_s, _) in pairwise(intervals):
        assert device != following or until_s <= from_s


@given(case=cases())
def test_the_published_queue_starts_in_its_order(case: Case) -> None:
    shared, requests, work_s = case
    behind = [request._replace(ahead=False) for request in requests]
    _, starts = run((shared, behind, work_s), GlobalFifo(shared))
    order = [start.request_ids[0] for start in starts]
    assert order == sorted(order)
    assert all(len(start.request_ids) == 1 for start in starts)


@given(case=cases(classes=1, batches=1), patience_s=st.sampled_from((0.0, 1.0, float("inf"))))
def test_of_one_deployment_the_older_goes_first(case: Case, patience_s: float) -> None:
    shared, requests, work_s = case
    plain = [request._replace(deadline_s=float("inf"), ahead=False) for request in requests]
    queue = DeviceSetQueue(shared, Fairness(patience_s=patience_s))
    _, starts = run((shared, plain, work_s), queue)
    for deployment in range(len(shared)):
        order = [start.request_ids[0] for start in starts if start.deployment == deployment]
        assert order == sorted(order)


@given(case=cases())
def test_nothing_idles_beside_work_when_nobody_is_patient(case: Case) -> None:
    """With patience without end no device is kept: at any moment, every set of whoever waits has a
    device that works."""
    shared, requests, _ = case
    served, starts = run(case, DeviceSetQueue(shared, Fairness(patience_s=float("inf"))))
    intervals = taken(shared, served, starts)
    for request in requests:
        begins_s = served.start_s[request.request_id]
        moments = {from_s for _, from_s, _ in intervals} | {request.arrival_s}
        for now_s in (each for each in moments if request.arrival_s <= each < begins_s):
            working = {device for device, from_s, until_s in intervals if from_s <= now_s < until_s}
            assert all(working & devices for devices in shared[request.deployment].device_sets)


@examples(200)
@given(case=cases(), patience_s=st.sampled_from((0.0, 0.5, 2.0)))
def test_nobody_starves(case: Case, patience_s: float) -> None:
    """After its patience, a request waits for its own devices to be drained once, and once for each
    start of others that are more urgent."""
    shared, requests, work_s = case
    requests = [request._replace(ahead=False) for request in requests]
    case = (shared, requests, work_s)
    fairness = Fairness(aging_s=2.0, patience_s=patience_s)
    queue = DeviceSetQueue(shared, fairness)
    served, starts = run(case, queue)
    longest_s = max(work_s, default=0.0)
    urgency = {request.request_id: queue._urgency_s(request) for request in requests}
    for request in requests:
        own_s = urgency[request.request_id]
        from_s = max(request.arrival_s, own_s + patience_s)
        more_urgent = [start for start in starts if served.start_s[start.request_ids[0]] >= from_s
                       and min(urgency[one] for one in start.request_ids) <= own_s
                       and request.request_id not in start.request_ids]
        bound_s = from_s + longest_s * (1 + 2 * len(more_urgent))
        assert served.start_s[request.request_id] <= bound_s


def test_a_deployment_over_all_devices_gets_its_turn_beside_a_flood() -> None:
    """Small ones keep parts of the devices busy without a break; only patience makes them idle at
    the same moment."""
    shared = [Shared((frozenset(range(8)),), 1.0),
              *(Shared((frozenset({device}),), 1.0) for device in range(8))]
    flood = [(1 + device, 0.9 * turn + 0.1 * device) for turn in range(200)
             for device in range(8)]
    rows = sorted([*flood, (0, 3.0)], key=lambda row: row[1])
    requests = [Waiting(place, deployment, arrival_s)
                for place, (deployment, arrival_s) in enumerate(rows)]
    large = rows.index((0, 3.0))
    waits_s = {}
    for patience_s in (2.0, float("inf")):
        served = serve(requests, DeviceSetQueue(shared, Fairness(patience_s=patience_s)),
                       lambda _: 1.0, Dispatch([0.0] * 9))
        waits_s[patience_s] = served.start_s[large] - 3.0
    assert waits_s[2.0] <= 3.0
    assert waits_s[float("inf")] > 50.0
