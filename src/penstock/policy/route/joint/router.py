"""Joint choice of model and replica by utility in one unit: money."""

from collections.abc import Callable, Mapping, Sequence
from math import inf

from penstock.core.decision import ACCEPT, NOWHERE, Admit, Reject, Relax, Route, ScoredCandidate
from penstock.core.departure import Departure
from penstock.core.forecast import Forecast
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.accounts import LatencyAccounts
from penstock.policy.route.affinity import PrefixMemory
from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.joint.assign import assign
from penstock.policy.route.joint.options import JointOptions
from penstock.policy.route.joint.prospects import (
    BUDGET,
    CHANCE,
    QUALITY,
    Scorer,
    affordable_tokens,
    rejection_reason,
    retry_after_s,
)
from penstock.policy.route.usual import UsualForecasts
from penstock.predict.latency import LatencyPredictor


class JointRouter:
    """For every request, chooses the eligible replica of the highest utility.

    ``dual_price`` returns a tenant's present markup on prices. Requests without a forecast get the
    models' mean quality and the observed lengths of their class.
    """

    looks_into_queues = False
    learns = True

    def __init__(self, facts: Sequence[ReplicaFacts], options: JointOptions,
                 usual: UsualForecasts, dual_price: Callable[[str], float],
                 memory: PrefixMemory | None = None) -> None:
        self._facts = {fact.replica_id: fact for fact in facts}
        self._options = options
        self._usual = usual
        self._dual_price = dual_price
        predictors = {fact.kind: LatencyPredictor(fact.prior) for fact in facts}
        self._memory = memory or PrefixMemory()
        self._valuer = Scorer(self._facts, predictors, options, self._memory)
        self._accounts = LatencyAccounts(self._facts, predictors, self._valuer.paces)

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        forecasts = self._usual.of(request)
        prospects = self._prospects(request, forecasts, replicas, now_s)
        eligible, admit = self._eligible(request, prospects)
        if not eligible:
            return Route(NOWHERE, admit=admit, prospects=tuple(prospects),
                         rejected={p.replica_id: rejection_reason(p, request) for p in prospects})
        best = eligible[0]
        for one in eligible:  # equal utilities: the replica with the lower number
            if one.utility > best.utility or (one.utility == best.utility
                                              and one.replica_id < best.replica_id):
                best = one
        return self._settled(request, forecasts, replicas, prospects, best, admit, now_s)

    def route_many(self, requests: Sequence[Request],
                   replicas: Sequence[Sequence[ReplicaSnapshot]], now_s: float) -> list[Route]:
        """Route requests of the same moment, each with its own candidates, by the assignment of the
        highest total utility. Every request on a replica delays the next one there.
        """
        forecasts = [self._usual.of(request) for request in requests]
        tables = [self._prospects(request, own, seen, now_s)
                  for request, own, seen in zip(requests, forecasts, replicas, strict=True)]
        verdicts = [self._eligible(request, prospects)
                    for request, prospects in zip(requests, tables, strict=True)]
        ids = sorted({p.replica_id for eligible, _ in verdicts for p in eligible})
        column = {replica_id: i for i, replica_id in enumerate(ids)}
        costs = [[inf] * len(ids) for _ in requests]
        for row, (eligible, _) in zip(costs, verdicts, strict=True):
            for prospect in eligible:
                row[column[prospect.replica_id]] = -prospect.utility
        chosen = assign(costs, self._surcharges(ids, requests, replicas))
        routes: list[Route] = []
        for request, own, seen, prospects, verdict, at in zip(
                requests, forecasts, replicas, tables, verdicts, chosen, strict=True):
            if at < 0:
                routes.append(Route(NOWHERE, admit=verdict[1], prospects=tuple(prospects),
                                    rejected={p.replica_id: rejection_reason(p, request)
                                              for p in prospects}))
                continue
            best = next(p for p in prospects if p.replica_id == ids[at])
            admit = verdict[1]
            if isinstance(admit, Relax):  # the reason against the replica that it got
                admit = Relax(_relaxed(request, [best]))
            routes.append(self._settled(request, own, seen, prospects, best, admit, now_s))
        return routes

    def ended(self, departure: Departure) -> None:
        self._usual.ended(departure)
        self._accounts.ended(departure)

    # -- eligibility and surcharges -------------------------------------------------------------

    def _prospects(self, request: Request, forecasts: Mapping[str, Forecast],
                   replicas: Sequence[ReplicaSnapshot], now_s: float) -> list[ScoredCandidate]:
        return self._valuer.prospects(request, forecasts, replicas,
                                      self._dual_price(request.tenant), now_s)

    def _eligible(self, request: Request,
                  prospects: Sequence[ScoredCandidate]) -> tuple[list[ScoredCandidate], Admit]:
        """Return the prospects that may be taken, after relaxing as few requirements as
        possible."""
        eligible = [p for p in prospects if not p.reason]
        if eligible:
            return eligible, ACCEPT
        given_up: list[str] = []
        for demand in self._options.relax:
            given_up.append(demand)
            eligible = [p for p in prospects if self._may_do(p, given_up)]
            if eligible:
                return eligible, Relax(_relaxed(request, eligible))
        return [], Reject(_refused(request, prospects),
                          retry_after_s(request, prospects)
                          if any(p.reason == CHANCE for p in prospects) else None)

    def _may_do(self, prospect: ScoredCandidate, given_up: Sequence[str]) -> bool:
        """Whether only relaxed requirements are violated; ``reason`` names the first."""
        return prospect.reason in given_up and (
            CHANCE in given_up or prospect.chance >= self._options.min_chance)

    def _settled(self, request: Request, forecasts: Mapping[str, Forecast],
                 replicas: Sequence[ReplicaSnapshot], prospects: Sequence[ScoredCandidate],
                 best: ScoredCandidate, admit: Admit, now_s: float) -> Route:
        fact = self._facts[best.replica_id]
        replica = next(r for r in replicas if r.replica_id == best.replica_id)
        prompt_tokens = request.prompt_tokens
        if self._options.affinity and self._memory.knows(request):
            prompt_tokens -= self._memory.cached_tokens(request, best.replica_id, now_s)
            self._memory.sent(request, best.replica_id, now_s)
        forecast = forecasts[fact.offer.model]
        self._usual.sent(request)
        affordable = affordable_tokens(request, fact)
        output = min(forecast.output_tokens, float(affordable))
        self._accounts.sent(request.request_id, replica, prompt_tokens, output)
        return Route(best.replica_id, admit=admit, prospects=tuple(prospects),
                     max_tokens=affordable if affordable < request.max_tokens else None)

    def _surcharges(self, ids: Sequence[int], requests: Sequence[Request],
                    replicas: Sequence[Sequence[ReplicaSnapshot]]) -> list[float]:
        """Return the cost that a request of this batch adds to the next one on the same replica.
        Its prompt delays the next, and its sequence lengthens every step. Both requests are
        delayed, so the cost counts twice."""
        seen = {r.replica_id: r for many in replicas for r in many}
        prompt = sum(request.prompt_tokens for request in requests) / len(requests)
        outputs = [forecast.output_tokens for request in requests
                   for forecast in self._usual.of(request).values()]
        output = sum(outputs) / len(outputs)
        surcharges: list[float] = []
        for replica_id in ids:
            pace = self._valuer.paces.of(seen[replica_id])
            delay_s = prompt * pace.token_s + output * (pace.seq_s + pace.context_s * prompt)
            surcharges.append(2.0 * self._options.second_value * delay_s)
        return surcharges


def _relaxed(request: Request, eligible: Sequence[ScoredCandidate]) -> str:
    best = max(eligible, key=lambda p: p.utility)
    if best.reason == CHANCE:
        # Without the chance, which tells a tenant the load of others.
        return f"no replica is likely to keep the targets of {request.service_class.name}"
    return f"no model is expected to reach the quality asked for; {best.quality:.3g} is expected"


def _refused(request: Request, prospects: Sequence[ScoredCandidate]) -> str:
    reasons = {prospect.reason for prospect in prospects}
    if BUDGET in reasons and not reasons & {CHANCE, QUALITY}:
        return "the budget does not pay for the prompt on any model"
    if QUALITY in reasons and CHANCE not in reasons:
        return "no model is expected to reach the quality asked for"
    return f"no replica is likely to keep the targets of {request.service_class.name}"
