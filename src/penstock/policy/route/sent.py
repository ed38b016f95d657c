"""Record of the prompts sent to each replica, as a guess at the replica's prefix cache."""

from collections import OrderedDict

from penstock.core.request import Request
from penstock.policy.kv.index import PrefixIndex


class SentPrefixes:
    """Keeps an index of what each replica has in its cache, from what was sent there.

    A replica's cache keeps the most recently sent blocks that fit the replica's capacity, the
    beginning of a prompt longer than its end. Clients that send past this router are not seen.
    """

    def __init__(self, index: PrefixIndex) -> None:
        self.index = index
        self._recent: dict[int, OrderedDict[int, None]] = {}

    def sent(self, request: Request, replica_id: int, capacity_tokens: int) -> None:
        """A request went to a replica with a cache of ``capacity_tokens`` tokens."""
        if not request.prefix_hashes:
            return
        recent = self._recent.get(replica_id)
        if recent is None:
            recent = self._recent[replica_id] = OrderedDict()
        hashes = usable_hashes(request)
        new = [key for key in hashes if key not in recent]
        # The first blocks are evicted last, because the others are useless without them.
        for key in reversed(hashes):
            recent[key] = None
            recent.move_to_end(key)
        self.index.stored(replica_id, new)
        most = max(len(hashes), capacity_tokens // request.hash_block_tokens)
        old: list[int] = []
        while len(recent) > most:
            old.append(recent.popitem(last=False)[0])
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
