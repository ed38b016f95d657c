"""Context in which a router is built."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.usual import UsualForecasts
from penstock.predict.length import HistoryLengths


def free_of_charge(_: str) -> float:
    """Return no markup, since no tenant has a budget."""
    return 0.0


class RouterContext(NamedTuple):
    """The replicas to route among, and sources for a router.

    ``draw(n)`` returns a random whole number below n, ``dual_price`` a tenant's markup on prices.
    """

    facts: Sequence[ReplicaFacts]
    draw: Callable[[int], int]
    dual_price: Callable[[str], float] = free_of_charge

    def usual(self) -> UsualForecasts:
        """Forecasts for requests without their own, learned from finished requests."""
        return UsualForecasts(self.facts, HistoryLengths())
