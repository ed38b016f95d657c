"""Context in which a router is built."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from penstock.policy.route.affinity import PrefixMemory
from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.live_index import LiveIndex
from penstock.policy.route.usual import UsualForecasts
from penstock.predict.length import HistoryLengths


def free_of_charge(_: str) -> float:
    """Return no markup, since no tenant has a budget."""
    return 0.0


class RouterContext(NamedTuple):
    """The replicas to route among, and sources for a router.

    ``draw(n)`` returns a random whole number below n, ``dual_price`` a tenant's markup on prices.
    ``live`` has the blocks that replicas report, None where none does.
    """

    facts: Sequence[ReplicaFacts]
    draw: Callable[[int], int]
    dual_price: Callable[[str], float] = free_of_charge
    live: LiveIndex | None = None

    def usual(self) -> UsualForecasts:
        """Forecasts for requests without their own, learned from finished requests."""
        return UsualForecasts(self.facts, HistoryLengths())

    def memory(self) -> PrefixMemory:
        """Return a new memory of the prompts that are sent to each replica."""
        return PrefixMemory(live=self.live)
