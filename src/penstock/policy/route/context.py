"""The surroundings that a router is built in."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.usual import UsualForecasts
from penstock.predict.length import HistoryLengths


def free_of_charge(_: str) -> float:
    """No tenant has a budget, so nobody's prices are marked up."""
    return 0.0


class RouterContext(NamedTuple):
    """The replicas to route among, and the sources that a router may draw on.

    ``draw(n)`` gives a random whole number below n; ``dual_price`` a tenant's markup on prices.
    """

    facts: Sequence[ReplicaFacts]
    draw: Callable[[int], int]
    dual_price: Callable[[str], float] = free_of_charge

    def usual(self) -> UsualForecasts:
        """Forecasts for requests that carry none, learnt from finished requests."""
        return UsualForecasts(self.facts, HistoryLengths())
