"""Longest queue, EDF, round robin and a cache of models."""

from collections.abc import Mapping
from typing import Any

import pytest

from penstock.core.errors import InputError
from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.queues import INFEASIBLE
from support.multiplexing_cases import ALL_POLICIES, multiplexing
from support.small_hosts import USUAL, host, models, queued


def order(name: str, arrivals: list[tuple[float, int]], num: int = 3,
          settings: Mapping[str, Any] = USUAL) -> list[int]:
    run = host(name, models(num), queued(arrivals), settings=settings)
    return [load.model for load in run.loads]


def test_longest_queue_first() -> None:
    assert order("longest-queue", [(0.0, 0), *[(0.1, 1)] * 2, *[(0.1, 2)] * 3]) == [0, 2, 1]


def test_earliest_deadline_first() -> None:
    requests = queued([(0.0, 0), (0.1, 1), (0.1, 2)], 50.0)
    requests[2] = requests[2]._replace(deadline_s=20.0)
    run = host("edf", models(3), requests)
    assert [load.model for load in run.loads] == [0, 2, 1]


def test_first_come() -> None:
    assert order("first-come", [(0.0, 2), (0.1, 1), (0.2, 0)]) == [2, 1, 0]


def test_round_robin_stays_for_its_quantum() -> None:
    arrivals = [(0.0, 0), (0.0, 1), *[(5.5 + place, 0) for place in range(30)]]
    short = order("round-robin", arrivals, settings={"quantum_s": 6.0})
    long = order("round-robin", arrivals, settings={"quantum_s": 20.0})
    assert short[:3] == [0, 1, 0]
    run = host("round-robin", models(3), queued(arrivals),
               settings={"quantum_s": 20.0})
    assert long[:2] == [0, 1]
    assert run.loads[1].begin_s >= 20.0


def test_late_ones_are_shed_only_where_asked() -> None:
    arrivals = queued([*[(0.0, 0)] * 17, (0.0, 1)], 9.0)
    kept = host("longest-queue", models(2), arrivals)
    shed = host("longest-queue", models(2), arrivals, settings={"shed": True})
    assert kept.served.all()
    assert shed.reasons == (INFEASIBLE,)
    assert (shed.served | (shed.reason >= 0)).all()


def test_a_resident_that_leaves_no_memory_for_a_batch_is_dropped() -> None:
    hosted = models(2, request_bytes=4)
    # 20 bytes of weights and 5 free: room for one request; with 3 free there is none.
    run = host("first-come", hosted, queued([(0.0, 0), (20.0, 1), (40.0, 0)]), memory_bytes=24)
    assert run.served.all()


def test_every_name_is_built() -> None:
    for name in ALL_POLICIES:
        assert multiplexing(name, models(2), LoadTable([1.0, 1.0])).num_waiting == 0


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="longest-queue"):
        multiplexing("longest-queu", models(1), LoadTable([1.0]))
