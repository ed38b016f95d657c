"""Record of the prompts sent to each replica, as a guess at the replica's prefix cache."""

from collections import OrderedDict
from collections.abc import Sequence
from math import inf

from penstock.core.request import Request
from penstock.policy.kv.index import TIERS, PrefixIndex
from penstock.policy.kv.tiers import TierSpec

_MOST_COUNTED = 1 << 21


class SentPrefixes:
    """Keeps an index of what each replica has in its cache, from what was sent there.

    A replica's cache keeps the most recently sent blocks that fit the replica's capacity and are no
    older than ``ttl_s``, the beginning of a prompt longer than its end. Older blocks are in the
    replica's tiers, as far as they fit. Clients that send past this router are not seen.
    """

    def __init__(self, index: PrefixIndex, ttl_s: float = inf) -> None:
        self.index = index
        self._ttl_s = ttl_s
        # By replica and tier, the KV cache first: blocks with the time of their last use.
        self._recent: dict[int, list[OrderedDict[int, float]]] = {}
        self._branches: dict[int, int] = {}  # blocks that were seen to follow each block
        self._pool: OrderedDict[int, float] = OrderedDict()  # of the tier that replicas share

    def sent(self, request: Request, replica_id: int, capacity_tokens: int, now_s: float,
             tiers: Sequence[TierSpec] = ()) -> None:
        """A request went to a replica with a cache of ``capacity_tokens`` tokens and these tiers
        below."""
        hashes = usable_hashes(request)
        if not hashes:
            return
        own = [tier for tier in tiers if not tier.shared]
        recents = self._recent.get(replica_id)
        if recents is None:
            recents = self._recent[replica_id] = [OrderedDict() for _ in range(1 + len(own))]
        self._use(hashes, replica_id, recents, own, now_s)
        most = max(len(hashes), capacity_tokens // request.hash_block_tokens)
        moved = self._overflow(recents[0], most, replica_id, 0)
        for place, tier in enumerate(own):
            for key, used_s in moved:
                recents[place + 1][key] = used_s
            self.index.stored(replica_id, [key for key, _ in moved], TIERS.index(tier.name))
            moved = self._overflow(recents[place + 1],
                                   tier.capacity_tokens // request.hash_block_tokens, replica_id,
                                   TIERS.index(tier.name))
        for tier in tiers:
            if tier.shared:
                for key, used_s in moved:
                    self._pool[key] = used_s
                    self._pool.move_to_end(key)
                while len(self._pool) * request.hash_block_tokens > tier.capacity_tokens:
                    self._pool.popitem(last=False)

    def num_since(self, replica_id: int, hashes: Sequence[int], since_s: float) -> int:
        """Return how many leading blocks were sent to a replica since a time."""
        recents = self._recent.get(replica_id)
        found = 0
        if recents is not None:
            for key in hashes:
                if recents[0].get(key, -inf) < since_s:
                    break
                found += 1
        return found

    def _use(self, hashes: tuple[int, ...], replica_id: int,
             recents: list[OrderedDict[int, float]], own: Sequence[TierSpec],
             now_s: float) -> None:
        """Move these blocks to the newest end of the KV cache."""
        first = recents[0]
        new = [key for key in hashes if key not in first]
        for place, tier in enumerate(own):
            below = recents[place + 1]
            up = [key for key in new if key in below]
            for key in up:
                del below[key]
            self.index.removed(replica_id, up, TIERS.index(tier.name))
        # The first blocks are evicted last, because the others are useless without them.
        for key in reversed(hashes):
            first[key] = now_s
            first.move_to_end(key)
        self.index.stored(replica_id, new)
        self._count_branches(hashes)

    def _count_branches(self, hashes: tuple[int, ...]) -> None:
        branches, parent = self._branches, 0
        for place, key in enumerate(hashes):
            if key not in branches:
                branches[key] = 0
                if place:
                    branches[parent] += 1
            parent = key
        if len(branches) > _MOST_COUNTED:  # most are of blocks that no replica has any longer
            self._branches = {key: num for key, num in branches.items()
                              if self.index.num_holders(key)}

    def num_common(self, hashes: Sequence[int], branches_per_copy: float) -> int:
        """Return how many leading blocks are worth another copy, because prompts branch off behind
        them in many ways: more than ``branches_per_copy`` for each replica that has them and for
        each unit of the blocks' length over the length of the rest."""
        num = 0
        for depth, key in enumerate(hashes, 1):
            branches = self._branches.get(key, 0)
            if branches > branches_per_copy:
                rest = len(hashes) - depth + 1
                if branches > branches_per_copy * self.index.num_holders(key) * (
                        1.0 + depth / rest):
                    num = depth
        return num

    def _overflow(self, recent: OrderedDict[int, float], most: int, replica_id: int, tier: int
                  ) -> list[tuple[int, float]]:
        """Return the oldest blocks beyond ``most``, which leave a tier."""
        old: list[tuple[int, float]] = []
        while len(recent) > most:
            old.append(recent.popitem(last=False))
        if old:
            self.index.removed(replica_id, [key for key, _ in old], tier)
        return old

    def num_pooled(self, hashes: Sequence[int], depth: int) -> int:
        """Return how many blocks after the first ``depth`` the shared tier has."""
        end = depth
        while end < len(hashes) and hashes[end] in self._pool:
            end += 1
        return end - depth

    def expire(self, now_s: float) -> None:
        """Forget the blocks of KV caches that are too old."""
        for replica_id, recents in self._recent.items():
            recent = recents[0]
            old: list[int] = []
            while recent:
                key, sent_s = next(iter(recent.items()))
                if sent_s + self._ttl_s > now_s:
                    break
                del recent[key]
                old.append(key)
            if old:
                self.index.removed(replica_id, old)

    def forget(self, replica_id: int) -> None:
        """Forget a replica, which has restarted with an empty cache."""
        self._recent.pop(replica_id, None)
        self.index.cleared(replica_id)


def usable_hashes(request: Request) -> tuple[int, ...]:
    """Return the hashes of the whole blocks of a prompt."""
    if not request.prefix_hashes:
        return ()
    return request.prefix_hashes[:request.prompt_tokens // request.hash_block_tokens]


def cached_tokens(request: Request, depth: int) -> int:
    """Return the tokens of the first ``depth`` blocks of a prompt that need not be computed. At
    least one token remains to compute."""
    return max(0, min(depth * request.hash_block_tokens, request.prompt_tokens - 1))
