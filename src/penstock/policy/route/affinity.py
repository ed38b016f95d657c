"""Memory of the replica to which each prompt prefix was sent."""

from collections import OrderedDict
from collections.abc import Sequence

from penstock.core.request import Request
from penstock.policy.route.live_index import LiveIndex

REPORTED_S = 2.0
"""Time after which a replica that reports its blocks has reported those of a request, as llm-d's
index assumes."""


class PrefixMemory:
    """Remembers the prompts (and sessions) sent to each replica.

    The last ``max_blocks`` blocks of each replica are kept, as in the replica's own cache. The
    estimate is too optimistic where that cache is smaller, and ignores evictions caused by other
    clients. The ``live`` index replaces the estimate for replicas that it follows, and for requests
    with exact hashes.
    """

    def __init__(self, max_blocks: int = 50_000, live: LiveIndex | None = None) -> None:
        self._max_blocks = max_blocks
        self._live = live
        # When exact blocks were sent to a replica, the latest last.
        self._expected: dict[int, OrderedDict[int, float]] = {}
        self._blocks: dict[int, OrderedDict[int, None]] = {}
        # By tenant, too, since two tenants may use the same session names.
        self._sessions: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()

    def cached_tokens(self, request: Request, replica_id: int, now_s: float = 0.0) -> int:
        """Return the leading prompt tokens that the replica need not compute again. At least one
        token remains to compute."""
        cached = 0
        live = self._live
        if live is not None and live.speaks_of(replica_id, request):
            cached = int(live.match(replica_id, request.prefix_hashes) * request.hash_block_tokens)
            cached = max(cached, self._expected_tokens(request, replica_id, now_s))
            if live.is_whole(replica_id):
                return min(cached, request.prompt_tokens - 1)
        return max(cached, self._remembered_tokens(request, replica_id))

    def _expected_tokens(self, request: Request, replica_id: int, now_s: float) -> int:
        """Return the leading tokens that were sent a moment ago and may not be reported yet."""
        expected = self._expected.get(replica_id)
        tokens = 0
        if expected:
            for block in request.prefix_hashes:
                sent_s = expected.get(block)
                if sent_s is None or sent_s < now_s - REPORTED_S:
                    break
                tokens += request.hash_block_tokens
        return tokens

    def _remembered_tokens(self, request: Request, replica_id: int) -> int:
        cached = 0
        if request.prefix_hashes:
            blocks = self._blocks.get(replica_id)
            if blocks:
                for block in request.prefix_hashes:
                    if block not in blocks:
                        break
                    cached += request.hash_block_tokens
        if request.session:
            home = self._sessions.get((request.tenant, request.session))
            if home is not None and home[0] == replica_id:
                cached = max(cached, home[1])
        return max(0, min(cached, request.prompt_tokens - 1))

    def holders(self, request: Request) -> set[int]:
        """Return the ids of the replicas that can have cached tokens of a request."""
        found: set[int] = set()
        if request.prefix_hashes:
            first = request.prefix_hashes[0]
            found.update([replica_id for replica_id, blocks in self._blocks.items()
                          if first in blocks])
            if self._live is not None and request.hashes_are_exact:
                found.update(self._live.holders(first))
        if request.session:
            home = self._sessions.get((request.tenant, request.session))
            if home is not None:
                found.add(home[0])
        return found

    def sent(self, request: Request, replica_id: int, now_s: float = 0.0) -> None:
        """A request went to a replica, which will cache its prompt."""
        if self._live is not None and request.hashes_are_exact:
            self._expect(request, replica_id, now_s)
        if request.prefix_hashes:
            blocks = self._blocks.setdefault(replica_id, OrderedDict())
            # The first blocks are evicted last, because the others are useless without them.
            for block in reversed(request.prefix_hashes):
                blocks[block] = None
                blocks.move_to_end(block)
            while len(blocks) > self._max_blocks:
                blocks.popitem(last=False)
        if request.session:
            session = (request.tenant, request.session)
            self._sessions[session] = (replica_id, request.prompt_tokens)
            self._sessions.move_to_end(session)
            while len(self._sessions) > self._max_blocks:
                self._sessions.popitem(last=False)

    def _expect(self, request: Request, replica_id: int, now_s: float) -> None:
        expected = self._expected.setdefault(replica_id, OrderedDict())
        for block in request.prefix_hashes:
            expected[block] = now_s
            expected.move_to_end(block)
        while expected and next(iter(expected.values())) < now_s - REPORTED_S:
            expected.popitem(last=False)

    def knows(self, request: Request) -> bool:
        """Whether a request can have cached tokens on any replica."""
        return bool(request.prefix_hashes or request.session)

    def forget(self, replica_ids: Sequence[int]) -> None:
        """Forget the prompts of these replicas, which have restarted."""
        gone = set(replica_ids)
        for replica_id in gone:
            self._blocks.pop(replica_id, None)
        for session in [s for s, home in self._sessions.items() if home[0] in gone]:
            del self._sessions[session]
