"""Reuse of prompt prefixes by a fleet: how much there was to gain, how much the routes gained."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from penstock.core.request import Request
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.kv.shared import SharedKv


class PrefixReuse(NamedTuple):
    """Prompt tokens of a run's routed requests, and how many of them had been computed before.

    ``available_tokens`` would have been found in one endless cache of all replicas of the model,
    ``pooled_tokens`` in one cache of the size of all their caches together, which evicts the least
    recently used block. ``captured_tokens`` lay on the chosen replica when the request was routed.
    ``delivered_tokens`` were not computed. A request that is sent again counts again.
    ``tier_tokens`` were loaded from each tier below the KV caches, in ``load_s`` seconds.
    """

    prompt_tokens: int
    available_tokens: int
    pooled_tokens: int
    captured_tokens: int
    delivered_tokens: int
    tier_tokens: Mapping[str, int] | None = None
    load_s: float | None = None


class _ModelCache:
    """The blocks of one model's prompts so far: all of them, and those that a cache of
    ``capacity_tokens`` tokens has."""

    def __init__(self, capacity_tokens: int) -> None:
        self.all: set[int] = set()
        self.pooled: OrderedDict[int, None] = OrderedDict()
        self.capacity_tokens = capacity_tokens

    def look_up(self, hashes: tuple[int, ...], most: int, block_tokens: int) -> tuple[int, int]:
        """Return the leading blocks, ``most`` at most, of a prompt that were in each of the two
        caches, and put the prompt into both."""
        seen = pooled = 0
        while seen < most and hashes[seen] in self.all:
            seen += 1
        while pooled < seen and hashes[pooled] in self.pooled:
            pooled += 1
        self.all.update(hashes)
        # The first blocks are evicted last, because the others are useless without them.
        for block in reversed(hashes):
            self.pooled[block] = None
            self.pooled.move_to_end(block)
        while len(self.pooled) * block_tokens > self.capacity_tokens:
            self.pooled.popitem(last=False)
        return seen, pooled


class ReuseMeter:
    """Counts the reuse of routed requests. ``kvs`` are the present caches by replica, ``models``
    the models of the replicas, in order.

    The caches that the meter compares with know a prompt as soon as the prompt is routed. So the
    counts of available tokens follow from the order of arrivals alone, and no router changes them.
    """

    def __init__(self, kvs: Mapping[int, KvAllocator], models: Sequence[str]) -> None:
        self._kvs = kvs
        self._models = models
        self._caches: dict[str, _ModelCache] = {}
        self._prompt_tokens = 0
        self._available_tokens = 0
        self._pooled_tokens = 0
        self._captured_tokens = 0

    def routed(self, request: Request, replica_id: int) -> None:
        """Count a request at the moment at which it is sent to a replica."""
        kv = self._kvs[replica_id]
        if not isinstance(kv, SharedKv):
            return
        self._prompt_tokens += request.prompt_tokens
        per_hash = request.hash_block_tokens or kv.block_tokens
        usable = min(len(request.prefix_hashes), request.prompt_tokens // per_hash)
        if not usable:
            return
        hashes = request.prefix_hashes[:usable]
        seen, pooled = self._cache(self._models[replica_id]).look_up(
            hashes, min(usable, (request.prompt_tokens - 1) // per_hash), per_hash)
        self._available_tokens += seen * per_hash
        self._pooled_tokens += pooled * per_hash
        self._captured_tokens += kv.found_tokens(request.prompt_tokens, hashes, per_hash)

    def _cache(self, model: str) -> _ModelCache:
        cache = self._caches.get(model)
        if cache is None:
            caches = [kv for number, kv in self._kvs.items() if self._models[number] == model]
            capacity = sum([kv.total_blocks * kv.block_tokens for kv in caches])
            stores = {id(store): store.capacity_blocks * kv.block_tokens for kv in caches
                      if isinstance(kv, SharedKv) and kv.tiers is not None
                      for store in kv.tiers.stores}
            capacity += sum(stores.values())
            cache = self._caches[model] = _ModelCache(capacity)
        return cache

    def reuse(self, delivered_tokens: int) -> PrefixReuse | None:
        """Return the counts so far, None where no replica's cache got a prompt with hashes."""
        if not self._caches:
            return None
        tiers = {id(kv): (kv.tiers, kv.block_tokens) for kv in self._kvs.values()
                 if isinstance(kv, SharedKv) and kv.tiers is not None}
        loaded: dict[str, int] = {}
        for store, block_tokens in {id(store): (store, block_tokens)
                                    for own, block_tokens in tiers.values()
                                    for store in own.stores}.values():
            loaded[store.name] = loaded.get(store.name, 0) + store.hit_blocks * block_tokens
        load_s = sum([own.loaded_s for own, _ in tiers.values()])
        return PrefixReuse(self._prompt_tokens, self._available_tokens, self._pooled_tokens,
                           self._captured_tokens, delivered_tokens, loaded or None,
                           load_s if loaded else None)
