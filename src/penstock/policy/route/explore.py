"""Random exploration of eligible replicas, with recorded propensities.

Without exploration, replicas that are never chosen teach nothing, and other policies cannot be
evaluated from the log. With every decision's propensity they can (Horvitz and Thompson, 1952).
"""

from collections.abc import Callable, Sequence

from penstock.core.decision import NOWHERE, Accept, Route
from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.protocol import Router

PROPENSITY = "propensity"
"""The name of the decision term with the propensity of the chosen replica."""

_FINE = 1 << 30


class Exploring:
    """For a share ``epsilon`` of the requests, chooses an eligible replica uniformly at random.

    A request whose requirements were relaxed is not used for exploration.
    """

    def __init__(self, inner: Router, epsilon: float, draw: Callable[[int], int]) -> None:
        self._inner = inner
        self._epsilon = epsilon
        self._draw = draw

    @property
    def looks_into_queues(self) -> bool:
        """Whether the router behind this one needs queues."""
        return self._inner.looks_into_queues

    @property
    def learns(self) -> bool:
        """Whether the router behind this one learns from ended requests."""
        return self._inner.learns

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        route = self._inner.route(request, replicas, now_s)
        barred = {prospect.replica_id for prospect in route.prospects if prospect.reason}
        barred.update(route.rejected)
        eligible = [r for r in replicas if r.replica_id not in barred]
        if route.replica_id == NOWHERE or not isinstance(route.admit, Accept) or len(eligible) < 2:
            return route.replace(terms={**route.terms, PROPENSITY: 1.0})
        best, each = route.replica_id, self._epsilon / len(eligible)
        if self._draw(_FINE) < self._epsilon * _FINE:
            other = eligible[self._draw(len(eligible))]
            if other.replica_id != best:
                # Routed again with only that replica, so that the router's accounts match the
                # choice.
                prospects = route.prospects
                route = self._inner.route(request, [other], now_s).replace(prospects=prospects)
        chance = each + (1.0 - self._epsilon) * (route.replica_id == best)
        return route.replace(terms={**route.terms, PROPENSITY: chance})

    def ended(self, departure: Departure) -> None:
        self._inner.ended(departure)
