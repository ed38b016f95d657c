"""RouteBalance: one greedy argmax per request over all pairs of model and replica."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.core.decision import Relax, Route
from penstock.core.departure import Departure
from penstock.core.money import Price
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.context import RouterContext
from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.protocol import Router
from penstock.policy.route.usual import UsualForecasts
from penstock.published.routebalance import filters
from penstock.published.routebalance.filters import FilterName, ResidualCdf, targets_of
from penstock.published.routebalance.score import (
    PRESETS,
    Pair,
    QualityNorm,
    Weights,
    pair,
    scores,
)

_MOST_SENT = 1 << 17
_DEVIATION_S = (0.5, 0.02)  # of TTFT and TPOT, for the qlm filter


def routebalance(settings: Mapping[str, Any], context: RouterContext) -> Router:
    """RouteBalance with a preset's weights, each of which the settings may replace."""
    weights = PRESETS[settings.get("preset", "balance")]
    own = {key: float(settings[key]) for key in weights._fields if key in settings}
    return RouteBalance({fact.replica_id: fact for fact in context.facts}, weights._replace(**own),
                        context.usual(), settings.get("norm", "minmax"),
                        settings.get("filter", "none"))


class RouteBalance:
    """The compatibility mode: score, filter, clamp and tie-break as published.

    Ties go to the replica with fewer requests, then to the one chosen least recently. Where a
    filter leaves nobody, the cheapest in the worst case is taken if a budget was given, otherwise
    the filter is ignored.
    """

    looks_into_queues = False
    learns = True

    def __init__(self, facts: Mapping[int, ReplicaFacts], weights: Weights,
                 usual: UsualForecasts, norm: QualityNorm = "minmax",
                 filter_name: FilterName = "none") -> None:
        self._facts = facts
        self._weights = weights
        self._usual = usual
        self._norm: QualityNorm = norm
        self._filter: FilterName = filter_name
        self._turn = 0
        self._last_turn: dict[int, int] = {}
        self._sent: OrderedDict[int, Pair] = OrderedDict()
        self._residuals = (ResidualCdf(), ResidualCdf())

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        forecasts = self._usual.of(request)
        pairs = [pair(request, forecasts[replica.model], replica, self._facts[replica.replica_id])
                 for replica in replicas]
        kept, relaxed = self._kept(request, pairs)
        found = scores(kept, self._weights, self._norm)
        best = max(range(len(kept)), key=lambda i: (
            found[i], -kept[i].num_requests, -self._last_turn.get(kept[i].replica_id, -1), -i))
        chosen = kept[best]
        self._turn += 1
        self._last_turn[chosen.replica_id] = self._turn
        self._sent[request.request_id] = chosen
        if len(self._sent) > _MOST_SENT:
            self._sent.popitem(last=False)
        self._usual.sent(request)
        route = Route(chosen.replica_id, {
            "score": found[best], "quality": chosen.quality, "cost": chosen.cost,
            "e2e_s": chosen.e2e_s}, max_tokens=self._clamped(request, chosen.replica_id))
        return route.replace(admit=Relax(relaxed)) if relaxed else route

    def route_many(self, requests: Sequence[Request],
                   replicas: Sequence[Sequence[ReplicaSnapshot]], now_s: float) -> list[Route]:
        """The published batch: the longest expected answer first, each choice added to the picture
        of its replica before the next."""
        added: dict[int, tuple[int, int, float]] = {}
        routes: dict[int, Route] = {}
        seen_by = {request.request_id: seen for request, seen in zip(requests, replicas,
                                                                     strict=True)}
        for request in longest_first(requests):
            route = self.route(request, [_with(replica, added) for replica in
                                         seen_by[request.request_id]], now_s)
            num, prompt, output = added.get(route.replica_id, (0, 0, 0.0))
            added[route.replica_id] = (num + 1, prompt + request.prompt_tokens,
                                       output + self._sent[request.request_id].output_tokens)
            routes[request.request_id] = route
        return [routes[request.request_id] for request in requests]

    def ended(self, departure: Departure) -> None:
        self._usual.ended(departure)
        sent = self._sent.pop(departure.request_id, None)
        if sent is None or not departure.finished or departure.ttft_s is None:
            return
        self._residuals[0].add(departure.ttft_s - sent.ttft_s)
        if departure.output_tokens > 1:
            tpot_s = (departure.e2e_s - departure.ttft_s) / (departure.output_tokens - 1)
            self._residuals[1].add(tpot_s - sent.tpot_s)

    def _kept(self, request: Request, pairs: list[Pair]) -> tuple[list[Pair], str]:
        targets = targets_of(request)
        if self._filter == "none":
            return pairs, ""
        lowered = 0
        if self._filter == "cdf":
            kept, lowered = filters.cdf(pairs, targets, *self._residuals)
        elif self._filter == "qlm":
            kept = [p for p in pairs if filters.qlm(p, targets, _DEVIATION_S)]
        else:
            keeps = filters.slos_serve if self._filter == "slos_serve" else filters.polyserve
            kept = [p for p in pairs if keeps(p, targets)]
        if kept:
            return kept, "targets were lowered" if lowered else ""
        if targets.cost is not None:
            cheapest = min(pairs, key=lambda p: (self._worst_cost(request, p.replica_id),
                                                 p.replica_id))
            return [cheapest], "no replica keeps all targets; the cheapest is taken"
        return pairs, "no replica keeps all targets"

    def _worst_cost(self, request: Request, replica_id: int) -> float:
        price = self._facts[replica_id].offer.price
        return (request.prompt_tokens * price.input_per_token
                + request.max_tokens * price.output_per_token)

    def _clamped(self, request: Request, replica_id: int) -> int | None:
        if request.needs.max_cost is None:
            return None
        return clamp(request.needs.max_cost, request.prompt_tokens, request.max_tokens,
                     self._facts[replica_id].offer.price)


def _with(replica: ReplicaSnapshot, added: Mapping[int, tuple[int, int, float]]) -> ReplicaSnapshot:
    if replica.replica_id not in added:
        return replica
    num, prompt, output = added[replica.replica_id]
    return replica.replace(num_waiting=replica.num_waiting + num,
                            queued_prompt_tokens=replica.queued_prompt_tokens + prompt,
                            pending_output_tokens=replica.pending_output_tokens + output)


def clamp(budget: float, prompt_tokens: int, max_tokens: int, price: Price) -> int:
    """Output tokens that a budget pays for after the prompt: at least 1, at most ``max_tokens``."""
    left = budget - prompt_tokens * price.input_per_token
    if left < 0.0:
        return 1
    if price.output_per_token <= 0.0:
        return max_tokens
    return min(max_tokens, max(1, int(left / price.output_per_token + 1e-9)))


def longest_first(requests: Sequence[Request]) -> list[Request]:
    """A batch in the published order: the largest predicted output (over models) first."""
    return sorted(requests, key=lambda r: (-max(
        (f.output_tokens for f in r.forecasts.values()), default=0.0), r.request_id))
