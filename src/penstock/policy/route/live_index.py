"""Blocks that replicas hold in their caches, as their engines report them."""

from collections.abc import Iterable, Sequence

from penstock.core.request import Request
from penstock.policy.kv.index import PrefixIndex

_WEIGHTS = (1.0, 0.8, 0.25, 0.25)
"""Worth of a block by tier, in blocks that need no computing: device and host as in llm-d's index,
disk as in Dynamo's credit."""


class LiveIndex:
    """Blocks by replica and tier (a place in ``policy.kv.index.TIERS``). A block is named by a hash
    that covers everything before the block.

    A replica is ``followed`` from its first report until ``lost``. It is ``whole`` where nothing
    that it holds can have been missed.
    """

    def __init__(self) -> None:
        self._block_tokens: dict[int, int] = {}
        self._blocks = PrefixIndex()
        self._places: dict[int, int] = {}  # in the index, of the replicas that are followed
        self._free: list[int] = []  # places of replicas that were lost
        self._whole: set[int] = set()

    def _place(self, replica_id: int) -> int:
        place = self._places.get(replica_id)
        if place is None:
            place = self._free.pop() if self._free else len(self._places)
            self._places[replica_id] = place
        return place

    def block_tokens(self, replica_id: int) -> int:
        """Return the tokens of a replica's blocks, 0 until they are known."""
        return self._block_tokens.get(replica_id, 0)

    def measured(self, replica_id: int, block_tokens: int) -> None:
        """Record the tokens of a replica's blocks."""
        self._block_tokens[replica_id] = block_tokens

    def stored(self, replica_id: int, hashes: Iterable[int], tier: int = 0) -> None:
        """Record that a replica has stored blocks in a tier."""
        self._blocks.stored(self._place(replica_id), list(hashes), tier)

    def removed(self, replica_id: int, hashes: Iterable[int], tier: int = 0) -> None:
        """Record that a replica has removed blocks from a tier."""
        self._blocks.removed(self._place(replica_id), list(hashes), tier)

    def cleared(self, replica_id: int, *, whole: bool = False) -> None:
        """Record that a replica holds nothing, or (not ``whole``) nothing that is known."""
        self._blocks.cleared(self._place(replica_id))
        if whole:
            self._whole.add(replica_id)
        else:
            self._whole.discard(replica_id)

    def lost(self, replica_id: int) -> None:
        """Forget a replica, which is no longer followed."""
        place = self._places.pop(replica_id, None)
        if place is not None:
            self._blocks.cleared(place)
            self._free.append(place)
        self._whole.discard(replica_id)
        self._block_tokens.pop(replica_id, None)

    def follows(self, replica_id: int) -> bool:
        """Whether a replica reports its blocks."""
        return replica_id in self._places

    def speaks_of(self, replica_id: int, request: Request) -> bool:
        """Whether a replica reports blocks as the hashes of a request name them."""
        return (request.hashes_are_exact and replica_id in self._places
                and self._block_tokens.get(replica_id, 0) in (0, request.hash_block_tokens))

    def is_whole(self, replica_id: int) -> bool:
        """Whether a replica holds no blocks beside those that are known."""
        return replica_id in self._whole

    def match(self, replica_id: int, hashes: Sequence[int]) -> float:
        """Return the worth of the leading blocks that a replica holds, in blocks on its device."""
        place = self._places.get(replica_id)
        if place is None:
            return 0.0
        counts = self._blocks.match(place, hashes)
        return sum([count * weight for count, weight in zip(counts, _WEIGHTS, strict=True)])

    def depth(self, replica_id: int, hashes: Sequence[int]) -> int:
        """Return how many leading blocks a replica holds, in any tier."""
        place = self._places.get(replica_id)
        return 0 if place is None else sum(self._blocks.match(place, hashes))

    def holders(self, block: int) -> list[int]:
        """Return the replicas that hold a block."""
        return [replica_id for replica_id, place in self._places.items()
                if self._blocks.holds(place, block)]

    def num_blocks(self, replica_id: int) -> int:
        """Return the number of blocks that a replica is known to hold."""
        place = self._places.get(replica_id)
        return 0 if place is None else self._blocks.num_held(place)
