"""Admission: what nobody can serve in time is refused before any work."""

import pytest

from penstock.core.decision import NOWHERE, Reject
from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.core.snapshot import ReplicaSnapshot
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.admit.feasible import FeasibleOnly
from penstock.policy.route.facts import Offer, ReplicaFacts
from penstock.policy.route.simple import RoundRobin
from penstock.policy.route.usual import UsualForecasts
from penstock.predict.latency import LatencyPrior
from penstock.predict.length import HistoryLengths
from support.strategies import EVIDENCE

STEP = LinearStepTime(0.01, 1e-4, 0.0, 1e-5, 0.0, EVIDENCE)
FACTS = [ReplicaFacts(i, Offer("m"), "only", LatencyPrior(STEP, 8)) for i in range(3)]
HURRIED = ServiceClass("hurried", Slo(ttft_s=0.5))


def admission(min_chance: float = 0.5) -> FeasibleOnly:
    return FeasibleOnly(RoundRobin(), FACTS, UsualForecasts(FACTS, HistoryLengths()), min_chance)


def replica(number: int, queued: int) -> ReplicaSnapshot:
    return ReplicaSnapshot(number, "m", 0.0, 1 if queued else 0, 0, queued, 0, 1_000_000)


def request(number: int, service_class: ServiceClass = HURRIED) -> Request:
    return Request(number, 0.0, 100, 50, service_class)


def test_the_router_is_shown_those_that_are_in_time() -> None:
    router = admission()
    replicas = [replica(0, 0), replica(1, 50_000), replica(2, 0)]
    chosen = [router.route(request(i), replicas, 0.0).replica_id for i in range(4)]
    assert chosen == [0, 2, 0, 2]
    rejected = router.route(request(9), replicas, 0.0).rejected
    assert set(rejected) == {1}
    assert "hurried" in rejected[1]


def test_what_nobody_can_do_in_time_is_refused_with_when_to_come_back() -> None:
    route = admission().route(request(0), [replica(i, 50_000) for i in range(3)], 0.0)
    assert route.replica_id == NOWHERE
    assert isinstance(route.admit, Reject)
    # 50,100 prompt tokens at 0.1 ms and 98 steps of 10 ms: about 6 s, of which 0.5 s are granted.
    assert route.admit.retry_after_s == pytest.approx(5.5, rel=0.1)
    assert "hurried" in route.admit.reason


def test_a_class_without_targets_always_enters() -> None:
    full = [replica(i, 500_000) for i in range(3)]
    assert admission(1.0).route(request(0, ServiceClass("patient")), full, 0.0).replica_id == 0


def test_a_request_that_has_waited_has_less_time_left() -> None:
    router, near = admission(), [replica(0, 2000)]
    assert router.route(request(0), near, 0.0).replica_id == 0
    assert router.route(request(1), near, 0.4).replica_id == NOWHERE
