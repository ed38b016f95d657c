"""Dynamo's KV router: the least cost in blocks of prefill and decode.

Source: ai-dynamo kv-router selector.rs and kv_router_args.py 1.6.1. Without events of engines,
Dynamo predicts the caches from what it sent, for 120 s. Only the device tier is known then. Prefill
blocks are those that the router knows as unfinished, decode blocks those that a replica has booked.
"""

from collections.abc import Callable, Mapping, Sequence
from math import exp
from typing import Any, NamedTuple

from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.kv.index import PrefixIndex
from penstock.policy.route.context import RouterContext
from penstock.policy.route.outstanding import Outstanding
from penstock.policy.route.protocol import PlainRouter, Router
from penstock.policy.route.sent import SentPrefixes, cached_tokens, usable_hashes

BLOCK_TOKENS = 16
_FINE = 1 << 30
_NO_LIMIT = 1 << 60


class DynamoWeights(NamedTuple):
    """Weights of the cost: credit for cached blocks, decay of the credit with the backlog, prefill
    and requests. A ``temperature`` above 0 draws the replica at random."""

    overlap_credit: float = 1.0
    decay: float = 0.0
    prefill: float = 1.0
    requests: float = 0.0
    temperature: float = 0.0


DEFAULTS = DynamoWeights()


def cost(weights: DynamoWeights, prefill_blocks: float, credit_blocks: float, decode_blocks: float,
         num_requests: int = 0) -> float:
    """Return the cost of a replica with these blocks of prefill, the request's own included."""
    return (weights.prefill * max(0.0, prefill_blocks - credit_blocks) + decode_blocks
            + weights.requests * num_requests)


class DynamoKv(PlainRouter):
    """The replica with the least cost."""

    def __init__(self, draw: Callable[[int], int], weights: DynamoWeights = DEFAULTS,
                 ttl_s: float = 120.0) -> None:
        self._draw = draw
        self._weights = weights
        self._record = SentPrefixes(PrefixIndex(), ttl_s)
        self._outstanding = Outstanding()

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        self._record.expire(now_s)
        depths = self._record.index.depths(usable_hashes(request))
        active = [sum([prompt.tokens_left for prompt in self._outstanding.of(one)]) / BLOCK_TOKENS
                  for one in replicas]
        incoming = request.prompt_tokens / BLOCK_TOKENS
        cached = [cached_tokens(request, depths.get(one.replica_id, 0)) for one in replicas]
        least = min(active)
        costs = []
        for one, backlog, tokens in zip(replicas, active, cached, strict=True):
            decay = 1.0 / (1.0 + self._weights.decay * (backlog - least) / incoming)
            credit = self._weights.overlap_credit * decay * tokens / BLOCK_TOKENS
            costs.append(cost(self._weights, backlog + incoming, credit,
                              one.kv_used_tokens / BLOCK_TOKENS, one.num_running + one.num_waiting))
        place = self._pick(costs)
        chosen = replicas[place].replica_id
        self._record.sent(request, chosen, _NO_LIMIT, now_s)
        self._outstanding.sent(chosen, request.prompt_tokens, request.prompt_tokens - cached[place])
        return Route(chosen, {"cost": costs[place], "cached_tokens": cached[place]})

    def _pick(self, costs: Sequence[float]) -> int:
        least, most = min(costs), max(costs)
        if self._weights.temperature <= 0 or most <= least:
            return costs.index(least)
        scale = (most - least) * self._weights.temperature
        shares = [exp((least - one) / scale) for one in costs]
        left = self._draw(_FINE) / _FINE * sum(shares)
        for place, share in enumerate(shares):
            left -= share
            if left < 0:
                return place
        return costs.index(least)


def dynamo_kv(settings: Mapping[str, Any], context: RouterContext) -> Router:
    """Return Dynamo's router with these settings."""
    own = dict(settings)
    ttl_s = own.pop("ttl_s", 120.0)
    return DynamoKv(context.draw, DynamoWeights(**own), ttl_s)
