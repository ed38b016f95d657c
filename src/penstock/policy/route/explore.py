"""Now and then another eligible replica, with the chance of that written down.

Without it, what was never chosen is never learned, and another policy could not be judged from the
log: with every decision's propensity it can (Horvitz and Thompson, 1952).
"""

from collections.abc import Callable, Sequence

from penstock.core.decision import NOWHERE, Accept, Route
from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.protocol import Router

PROPENSITY = "propensity"
"""The term with the chance that the taken replica had."""

_FINE = 1 << 30


class Exploring:
    """Takes, for a share ``epsilon`` of the requests, any eligible replica, each as likely.

    A request for which something had to be given up is not experimented with.
    """

    def __init__(self, inner: Router, epsilon: float, draw: Callable[[int], int]) -> None:
        self._inner = inner
        self._epsilon = epsilon
        self._draw = draw

    @property
    def looks_into_queues(self) -> bool:
        """As the router behind it asks."""
        return self._inner.looks_into_queues

    @property
    def learns(self) -> bool:
        """As the router behind it asks."""
        return self._inner.learns

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        route = self._inner.route(request, replicas, now_s)
        barred = {prospect.replica_id for prospect in route.prospects if prospect.reason}
        barred.update(route.rejected)
        eligible = [r for r in replicas if r.replica_id not in barred]
        if route.replica_id == NOWHERE or not isinstance(route.admit, Accept) or len(eligible) < 2:
            return route._replace(terms={**route.terms, PROPENSITY: 1.0})
        best, each = route.replica_id, self._epsilon / len(eligible)
        if self._draw(_FINE) < self._epsilon * _FINE:
            other = eligible[self._draw(len(eligible))]
            if other.replica_id != best:
                # Asked again with only that replica, so that its accounts are of what happens.
                prospects = route.prospects
                route = self._inner.route(request, [other], now_s)._replace(prospects=prospects)
        chance = each + (1.0 - self._epsilon) * (route.replica_id == best)
        return route._replace(terms={**route.terms, PROPENSITY: chance})

    def ended(self, departure: Departure) -> None:
        self._inner.ended(departure)
