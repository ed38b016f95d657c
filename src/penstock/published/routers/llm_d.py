"""llm-d's scorers of queue, KV cache and prefix with the default weights, and its picker.

Source: llm-d/llm-d-router@ebab68792, the plug-ins queue-scorer, kv-cache-utilization-scorer,
prefix-cache-scorer (approximate) and max-score-picker. The record of prefixes has 31,250 blocks of
64 tokens for each replica; at most 131,072 tokens of a prompt are matched.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.kv.index import PrefixIndex
from penstock.policy.route.context import RouterContext
from penstock.policy.route.protocol import PlainRouter, Router
from penstock.policy.route.sent import SentPrefixes, usable_hashes

RECORD_TOKENS = 31_250 * 64
MOST_MATCHED_TOKENS = 131_072


class LlmdScorers(PlainRouter):
    """The highest weighted sum of scores from 0 to 1; one of the equals at random."""

    def __init__(self, draw: Callable[[int], int], queue: float = 2.0, kv: float = 2.0,
                 prefix: float = 3.0) -> None:
        self._draw = draw
        self._queue = queue
        self._kv = kv
        self._prefix = prefix
        self._record = SentPrefixes(PrefixIndex())

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        hashes = usable_hashes(request)
        if hashes:
            hashes = hashes[:MOST_MATCHED_TOKENS // request.hash_block_tokens]
        depths = self._record.index.depths(hashes)
        queues = [one.num_waiting for one in replicas]
        least, most = min(queues), max(queues)
        scores = []
        for one in replicas:
            queue = (most - one.num_waiting) / (most - least) if most > least else 1.0
            use = one.kv_used_tokens / max(1, one.kv_total_tokens)
            match = depths.get(one.replica_id, 0) / len(hashes) if hashes else 0.0
            scores.append(self._queue * queue + self._kv * (1.0 - use) + self._prefix * match)
        best = max(scores)
        equals = [one.replica_id for one, score in zip(replicas, scores, strict=True)
                  if score == best]
        chosen = equals[self._draw(len(equals))] if len(equals) > 1 else equals[0]
        self._record.sent(request, chosen, RECORD_TOKENS, now_s)
        return Route(chosen, {"score": best})


def llm_d(settings: Mapping[str, Any], context: RouterContext) -> Router:
    """Return llm-d's router with these weights."""
    return LlmdScorers(context.draw, **settings)
