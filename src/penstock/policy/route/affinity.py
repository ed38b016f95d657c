"""Memory of the replicas that prompts with a given prefix were sent to."""

from collections import OrderedDict
from collections.abc import Sequence

from penstock.core.request import Request


class PrefixMemory:
    """Remembers the prompts (and sessions) that went to each replica.

    Per replica the last ``max_blocks`` blocks are kept, as the replica's own cache would; the guess
    is optimistic where that cache is smaller, and knows nothing of evictions by others.
    """

    def __init__(self, max_blocks: int = 50_000) -> None:
        self._max_blocks = max_blocks
        self._blocks: dict[int, OrderedDict[int, None]] = {}
        # By tenant, too: two of them may well give their sessions the same names.
        self._sessions: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()

    def cached_tokens(self, request: Request, replica_id: int) -> int:
        """Leading prompt tokens that the replica need not compute again: at least one remains."""
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

    def sent(self, request: Request, replica_id: int) -> None:
        """A request went to a replica, which will hold its prompt from now on."""
        if request.prefix_hashes:
            blocks = self._blocks.setdefault(replica_id, OrderedDict())
            # The first blocks are forgotten last: without them the others are of no use.
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

    def knows(self, request: Request) -> bool:
        """Whether asking can tell anything at all."""
        return bool(request.prefix_hashes or request.session)

    def forget(self, replica_ids: Sequence[int]) -> None:
        """These replicas have started anew."""
        gone = set(replica_ids)
        for replica_id in gone:
            self._blocks.pop(replica_id, None)
        for session in [s for s, home in self._sessions.items() if home[0] in gone]:
            del self._sessions[session]
