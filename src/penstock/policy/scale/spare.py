"""Spare capacity of a fleet: what its ready replicas could serve in time beyond what comes."""

from collections.abc import Sequence
from typing import Final

from penstock.policy.scale.history import History, rate_since
from penstock.policy.scale.protocol import ScalerContext, recent_loads
from penstock.policy.scale.rates import ReplicaRates
from penstock.policy.scale.values import Observation, SeenDemand

FILLED: Final = 0.9
"""Share of the rate within the objectives up to which ready replicas are filled."""

_WINDOWS_S: Final = (10.0, 60.0)
"""Windows of the present rate of arrivals: the larger of both rates counts."""


class SparePool:
    """Groups of one model that serve the same classes.

    ``grows`` says that a fleet without replicas may be asked to start one.
    """

    def __init__(self, numbers: Sequence[int], context: ScalerContext, *, grows: bool) -> None:
        self.numbers = tuple(numbers)
        self._context = context
        self._grows = grows
        self._model = context.groups[numbers[0]].model
        self._only = len({one.model for one in context.groups}) == 1
        self._rates = ReplicaRates(self.numbers, context)
        self._counts = History[float](2.0 * max(_WINDOWS_S))

    def per_s(self, seen: Observation, now_s: float, num_sent: int) -> float:
        """Return the spare requests per second. ``num_sent`` requests were sent into spare capacity
        so far, which this capacity does not count as used. Without metrics there is none."""
        if seen.demand is None:
            return 0.0
        demand = [one for one in seen.demand if self._counts_for(one)]
        self._counts.add(now_s, sum(one.num_arrived for one in demand) - num_sent)
        loads = recent_loads(demand)
        if not loads:
            return 0.0
        self._rates.update(seen, demand, loads, now_s, measures=True)
        used = self._arrivals_per_s(now_s)
        if not self._rates.known or used is None or self._waits(seen):
            return 0.0
        rates = self._rates.per_s
        whole = sum(seen.groups[number].num_ready * rate
                    for number, rate in zip(self.numbers, rates, strict=True))
        return max(0.0, FILLED * max(whole, max(rates) if self._grows else 0.0) - used)

    def _counts_for(self, one: SeenDemand) -> bool:
        """Whether these groups serve such requests."""
        return (one.model == self._model or (self._only and not one.model)) and any(
            self._context.groups[number].serves(one.service_class) for number in self.numbers)

    def _arrivals_per_s(self, now_s: float) -> float | None:
        """Return the present rate of arrivals, None where nothing is known of the time before."""
        found = [rate_since(self._counts, now_s - window_s, now_s) for window_s in _WINDOWS_S]
        return max((rate for rate in found if rate is not None), default=None)

    def _waits(self, seen: Observation) -> bool:
        """Whether requests wait at the mean ready replica. A missing gauge counts as a replica
        without spare capacity."""
        ready = [one for number in self.numbers for one in seen.groups[number].of("ready")]
        gauges = [one.gauges for one in ready if one.gauges is not None]
        return len(gauges) < len(ready) or (
            bool(ready) and sum(one.num_waiting for one in gauges) >= len(ready))
