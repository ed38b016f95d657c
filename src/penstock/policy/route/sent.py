"""Record of the prompts sent to each replica, as a guess at the replica's prefix cache."""

from collections import OrderedDict
from math import inf

from penstock.core.request import Request
from penstock.policy.kv.index import PrefixIndex


class SentPrefixes:
    """Keeps an index of what each replica has in its cache, from what was sent there.

    A replica's cache keeps the most recently sent blocks that fit the replica's capacity and are no
    older than ``ttl_s``, the beginning of a prompt longer than its end. Clients that send past this
    router are not seen.
    """

    def __init__(self, index: PrefixIndex, ttl_s: float = inf) -> None:
        self.index = index
        self._ttl_s = ttl_s
        self._recent: dict[int, OrderedDict[int, float]] = {}

    def sent(self, request: Request, replica_id: int, capacity_tokens: int, now_s: float) -> None:
        """A request went to a replica with a cache of ``capacity_tokens`` tokens."""
        hashes = usable_hashes(request)
        if not hashes:
            return
        recent = self._recent.get(replica_id)
        if recent is None:
            recent = self._recent[replica_id] = OrderedDict()
        new = [key for key in hashes if key not in recent]
        # The first blocks are evicted last, because the others are useless without them.
        for key in reversed(hashes):
            recent[key] = now_s
            recent.move_to_end(key)
        self.index.stored(replica_id, new)
        most = max(len(hashes), capacity_tokens // request.hash_block_tokens)
        old: list[int] = []
        while len(recent) > most:
            old.append(recent.popitem(last=False)[0])
        if old:
            self.index.removed(replica_id, old)

    def expire(self, now_s: float) -> None:
        """Forget the blocks that are too old."""
        for replica_id, recent in self._recent.items():
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
