"""Blocks that replicas hold in their caches, as their engines report them."""

from collections.abc import Iterable, Sequence

TIERS = ("device", "host", "storage")
"""Places of a block, the fastest first."""

_WEIGHTS = (1.0, 0.8, 0.25)
"""Worth of a block by tier, in blocks that need no computing: device and host as in llm-d's index,
storage as in Dynamo's credit."""


class LiveIndex:
    """Blocks by replica and tier. A block is named by a hash that covers everything before it.

    A replica is ``followed`` from its first report until ``lost``. It is ``whole`` where nothing
    that it holds can have been missed.
    """

    def __init__(self) -> None:
        self._block_tokens: dict[int, int] = {}
        self._held: dict[int, dict[int, int]] = {}  # replica -> block -> bits of tiers
        self._whole: set[int] = set()

    def block_tokens(self, replica_id: int) -> int:
        """Return the tokens of a replica's blocks, 0 until they are known."""
        return self._block_tokens.get(replica_id, 0)

    def measured(self, replica_id: int, block_tokens: int) -> None:
        """Record the tokens of a replica's blocks."""
        self._block_tokens[replica_id] = block_tokens

    def stored(self, replica_id: int, hashes: Iterable[int], tier: int = 0) -> None:
        """Record that a replica has stored blocks in a tier (a place in ``TIERS``)."""
        held, bit = self._held.setdefault(replica_id, {}), 1 << tier
        for block in hashes:
            held[block] = held.get(block, 0) | bit

    def removed(self, replica_id: int, hashes: Iterable[int], tier: int = 0) -> None:
        """Record that a replica has removed blocks from a tier."""
        held, bit = self._held.setdefault(replica_id, {}), 1 << tier
        for block in hashes:
            left = held.get(block, 0) & ~bit
            if left:
                held[block] = left
            else:
                held.pop(block, None)

    def cleared(self, replica_id: int, *, whole: bool = False) -> None:
        """Record that a replica holds nothing, or (not ``whole``) nothing that is known."""
        self._held[replica_id] = {}
        if whole:
            self._whole.add(replica_id)
        else:
            self._whole.discard(replica_id)

    def lost(self, replica_id: int) -> None:
        """Forget a replica, which is no longer followed."""
        self._held.pop(replica_id, None)
        self._whole.discard(replica_id)
        self._block_tokens.pop(replica_id, None)

    def follows(self, replica_id: int) -> bool:
        """Whether a replica reports its blocks."""
        return replica_id in self._held

    def is_whole(self, replica_id: int) -> bool:
        """Whether a replica holds no blocks beside those that are known."""
        return replica_id in self._whole

    def match(self, replica_id: int, hashes: Sequence[int]) -> float:
        """Return the worth of the leading blocks that a replica holds, in blocks on its device."""
        held, worth = self._held.get(replica_id), 0.0
        if held:
            for block in hashes:
                bits = held.get(block)
                if bits is None:
                    break
                worth += 1.0 if bits & 1 else _WEIGHTS[1] if bits & 2 else _WEIGHTS[2]
        return worth

    def holders(self, block: int) -> list[int]:
        """Return the replicas that hold a block."""
        return [replica_id for replica_id, held in self._held.items() if block in held]

    def num_blocks(self, replica_id: int) -> int:
        """Return the number of blocks that a replica is known to hold."""
        return len(self._held.get(replica_id, ()))
