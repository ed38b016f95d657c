"""Exploration: another eligible replica now and then, and how likely that was."""

from collections.abc import Callable

import numpy as np
import pytest

from penstock.core.decision import NOWHERE, Reject, Relax, Route, ScoredCandidate
from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.explore import Exploring
from penstock.policy.route.protocol import PlainRouter
from penstock.policy.route.simple import LeastLoaded

REPLICAS = [ReplicaSnapshot(i, "m", 0.0, 0, 0, 100 * i, 0, 10_000) for i in range(4)]


def request(number: int) -> Request:
    return Request(number, 0.0, 10, 10, ServiceClass("any"))


def draws(seed: int) -> Callable[[int], int]:
    rng = np.random.default_rng(seed)
    return lambda n: int(rng.integers(n))


class Fixed(PlainRouter):
    """Answers what it was given, or the only replica it is shown."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self.asked: list[int] = []

    def route(self, request: Request, replicas: list[ReplicaSnapshot], now_s: float) -> Route:
        self.asked.append(len(replicas))
        return self._route if len(replicas) > 1 else Route(replicas[0].replica_id)


def test_propensities_are_how_often_replicas_are_taken() -> None:
    router = Exploring(LeastLoaded(), 0.2, draws(1))
    routes = [router.route(request(i), REPLICAS, 0.0) for i in range(20_000)]
    rejection_reason = {route.replica_id: route.terms["propensity"] for route in routes}
    assert rejection_reason == pytest.approx({0: 0.85, 1: 0.05, 2: 0.05, 3: 0.05})
    for replica_id, chance in rejection_reason.items():
        share = sum(route.replica_id == replica_id for route in routes) / len(routes)
        assert share == pytest.approx(chance, abs=0.01)


def test_a_value_can_be_estimated_from_what_was_explored() -> None:
    """Weighted by 1 / propensity, rewards of a replica estimate what always taking it earns."""
    router = Exploring(LeastLoaded(), 0.5, draws(2))
    reward = {0: 1.0, 1: 5.0, 2: 2.0, 3: 0.0}
    total = 0.0
    for i in range(20_000):
        route = router.route(request(i), REPLICAS, 0.0)
        if route.replica_id == 1:
            total += reward[1] / route.terms["propensity"]
    assert total / 20_000 == pytest.approx(reward[1], rel=0.1)


def test_only_eligible_replicas_are_explored() -> None:
    prospects = tuple(ScoredCandidate(i, 0.0, 1.0, 0.0, 1.0, 1.0, 2.0,
                                      reason="chance" if i == 2 else "")
                      for i in range(4))
    router = Exploring(Fixed(Route(0, prospects=prospects, rejected={3: "is full"})), 1.0, draws(3))
    routes = [router.route(request(i), REPLICAS, 0.0) for i in range(200)]
    assert {route.replica_id for route in routes} == {0, 1}
    assert all(route.prospects == prospects for route in routes)


@pytest.mark.parametrize("route", [
    Route(NOWHERE, admit=Reject("full")), Route(1, admit=Relax("late"))])
def test_nobody_experiments_with_what_is_refused_or_relaxed(route: Route) -> None:
    inner = Fixed(route)
    found = Exploring(inner, 1.0, draws(4)).route(request(0), REPLICAS, 0.0)
    assert found.replica_id == route.replica_id
    assert found.terms["propensity"] == 1.0
    assert inner.asked == [4]
