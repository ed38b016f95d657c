"""Rejects requests that no replica is likely to serve in time, before any work is spent on them."""

from collections.abc import Mapping, Sequence

from penstock.core.decision import NOWHERE, Reject, Route
from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.accounts import LatencyAccounts
from penstock.policy.route.affinity import PrefixMemory
from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.joint.options import JointOptions
from penstock.policy.route.joint.prospects import Scorer, rejection_reason, retry_after_s
from penstock.policy.route.protocol import Router
from penstock.policy.route.usual import UsualForecasts
from penstock.predict.latency import LatencyPredictor


class FeasibleOnly:
    """Passes to the router only replicas with at least a chance of ``min_chance`` to meet every
    target of the request, and rejects the request where there is none. A class without targets is
    always admitted.
    """

    learns = True

    def __init__(self, inner: Router, facts: Sequence[ReplicaFacts], usual: UsualForecasts,
                 min_chance: float = 0.5) -> None:
        self._inner = inner
        self._facts: Mapping[int, ReplicaFacts] = {fact.replica_id: fact for fact in facts}
        self._usual = usual
        predictors = {fact.kind: LatencyPredictor(fact.prior) for fact in facts}
        self._valuer = Scorer(self._facts, predictors, JointOptions(min_chance=min_chance),
                              PrefixMemory())
        self._accounts = LatencyAccounts(self._facts, predictors, self._valuer.paces)

    @property
    def looks_into_queues(self) -> bool:
        """Whether the router behind this one needs queues."""
        return self._inner.looks_into_queues

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        forecasts = self._usual.of(request)
        prospects = self._valuer.prospects(request, forecasts, replicas, 0.0, now_s)
        fair = [replica for replica, prospect in zip(replicas, prospects, strict=True)
                if not prospect.reason]
        late = {p.replica_id: rejection_reason(p, request) for p in prospects if p.reason}
        if not fair:
            reason = f"no replica is likely to keep the targets of {request.service_class.name}"
            return Route(NOWHERE, rejected=late, prospects=tuple(prospects),
                         admit=Reject(reason, retry_after_s(request, prospects)))
        route = self._inner.route(request, fair, now_s)
        if route.replica_id != NOWHERE:
            self._note(request, route.replica_id, replicas)
        return route.replace(rejected={**late, **route.rejected},
                              prospects=route.prospects or tuple(prospects))

    def ended(self, departure: Departure) -> None:
        if self._inner.learns:
            self._inner.ended(departure)
        self._usual.ended(departure)
        self._accounts.ended(departure)

    def _note(self, request: Request, replica_id: int,
              replicas: Sequence[ReplicaSnapshot]) -> None:
        fact = self._facts[replica_id]
        replica = next(r for r in replicas if r.replica_id == replica_id)
        output = min(self._usual.of(request)[fact.offer.model].output_tokens,
                     float(request.max_tokens))
        self._usual.sent(request)
        self._accounts.sent(request.request_id, replica, request.prompt_tokens, output)
