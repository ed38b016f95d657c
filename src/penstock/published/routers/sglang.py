"""SGLang's cache_aware policy: the tree with the longest match, unless loads are unbalanced.

Source: sglang-router 0.3.2, router_args.py and the cache-aware policy. SGLang keeps a tree of
characters for each worker. Here a tree consists of the blocks of prompts that the requests' hashes
name, and a token counts as four characters. Where several workers match equally, the first is
taken. Known defects stay: a miss goes to the smallest tree whatever the load, and the trees do not
follow the evictions of engines.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.kv.index import PrefixIndex
from penstock.policy.route.context import RouterContext
from penstock.policy.route.protocol import PlainRouter, Router
from penstock.policy.route.sent import SentPrefixes, cached_tokens, usable_hashes

CHARACTERS_PER_TOKEN = 4
MAX_TREE_TOKENS = 2**26 // CHARACTERS_PER_TOKEN


class SglangCacheAware(PlainRouter):
    """The least loaded worker where loads differ by more than ``balance_abs`` and ``balance_rel``;
    else the longest match above ``cache_threshold`` of the prompt, else the smallest tree."""

    def __init__(self, cache_threshold: float = 0.3, balance_abs: float = 64,
                 balance_rel: float = 1.5) -> None:
        self._cache_threshold = cache_threshold
        self._balance_abs = balance_abs
        self._balance_rel = balance_rel
        self._trees = SentPrefixes(PrefixIndex())

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        counts = [(one.num_running + one.num_waiting, one.replica_id) for one in replicas]
        least, most = min(counts), max(counts)
        match = 0.0
        if most[0] - least[0] > self._balance_abs and most[0] > self._balance_rel * least[0]:
            chosen = least[1]
        else:
            chosen, match = self._by_cache(request, replicas)
        self._trees.sent(request, chosen, MAX_TREE_TOKENS, now_s)
        return Route(chosen, {"match": match})

    def _by_cache(self, request: Request, replicas: Sequence[ReplicaSnapshot]
                  ) -> tuple[int, float]:
        depths = self._trees.index.depths(usable_hashes(request))
        depth, first = max([(depths.get(one.replica_id, 0), -one.replica_id) for one in replicas])
        match = cached_tokens(request, depth) / max(1, request.prompt_tokens)
        if match > self._cache_threshold:
            return -first, match
        smallest = min([(self._trees.index.num_blocks(one.replica_id), one.replica_id)
                        for one in replicas])
        return smallest[1], match


def sglang_cache_aware(settings: Mapping[str, Any], _context: RouterContext) -> Router:
    """Return SGLang's router with these settings."""
    return SglangCacheAware(**settings)
