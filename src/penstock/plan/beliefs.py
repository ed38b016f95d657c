"""Beliefs about replicas: the rate that one replica sustains, corrected by simulations."""

from collections.abc import Sequence
from math import inf

from penstock.plan.propose import Choice, Counts

OPTIMISM = 1.15
"""Initial factor on estimates. The analytic model errs to both sides. Simulation finds a rate that
is too high; a rate that is too low would never be tried."""

CUT = 1e-3
"""The part by which the believed rate is set below a rate that a simulation refuted."""


class Beliefs:
    """Requests per second that one replica sustains, by (demand, variant).

    Where traffic is lasting, no rate passes the throughput bound, because requests beyond the bound
    only pile up in the queue. A rate that a simulation refuted is never believed again.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._ceilings: dict[tuple[str, str], float] = {}
        self.rates: dict[tuple[str, str], float] = {}
        self._refuted: dict[str, list[tuple[Counts, float]]] = {}
        for choice in choices:
            for candidate in choice.candidates:
                key = (choice.demand.name, candidate.variant.name)
                bound = candidate.bound_per_s
                # A trace at its own times ends, so replicas may take it faster than they could
                # sustain.
                self._ceilings[key] = bound if bound and choice.demand.lasting else inf
                self.rates[key] = min(OPTIMISM * candidate.rate_per_s, self._ceilings[key])

    def capacity_per_s(self, demand: str, counts: Counts) -> float:
        """Return the rate that these replicas are believed to carry together."""
        return sum(count * self.rates[demand, variant] for variant, count in counts)

    def rule_out(self, demand: str, variant: str) -> None:
        """Set the believed rate to 0: no number of these replicas meets the objectives."""
        self.rates[demand, variant] = 0.0

    def refute(self, demand: str, counts: Counts, rate_per_s: float) -> None:
        """Lower the rates: simulation refuted that these replicas carry ``rate_per_s``."""
        self._refuted.setdefault(demand, []).append((counts, (1.0 - CUT) * rate_per_s))
        self._respect(demand)

    def raise_to(self, demand: str, counts: Counts, rate_per_s: float) -> None:
        """Raise the rates: simulation confirmed that these replicas carry ``rate_per_s``.

        All variants of the demand are raised by the same factor, because their estimates may be too
        low for the same reason.
        """
        capacity = self.capacity_per_s(demand, counts)
        if not 0.0 < capacity < rate_per_s:
            return
        factor = rate_per_s / capacity
        for key in self.rates:
            if key[0] == demand:
                self.rates[key] = min(factor * self.rates[key], self._ceilings[key])
        self._respect(demand)

    def _respect(self, demand: str) -> None:
        """Lower rates until no refuted replicas are believed to carry a refuted rate."""
        for counts, most_per_s in self._refuted.get(demand, ()):
            capacity = self.capacity_per_s(demand, counts)
            if capacity > most_per_s:
                for variant, _ in counts:
                    self.rates[demand, variant] *= most_per_s / capacity
