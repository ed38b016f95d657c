"""Index of the replicas that hold blocks of prompts, by tier of memory."""

from collections.abc import Sequence
from typing import Final

TIERS: Final = ("gpu", "host", "disk", "remote")
"""Tiers of memory, the fastest first. All methods take a tier's place in this list."""


class PrefixIndex:
    """Knows which replica holds which blocks.

    The index is told by the events of engines (blocks stored, removed, all cleared), or by a record
    of what was sent. Hashes are chained: a block's hash covers everything before the block. A
    replica's number is a small whole number.
    """

    def __init__(self) -> None:
        # For each tier: the holders of each block as a bit mask, and the blocks of each replica.
        self._holders: list[dict[int, int]] = [{} for _ in TIERS]
        self._blocks: list[dict[int, set[int]]] = [{} for _ in TIERS]
        self._num_lower = 0  # blocks in tiers below the first

    def stored(self, replica_id: int, hashes: Sequence[int], tier: int = 0) -> None:
        """Record that a replica stored these blocks in a tier."""
        blocks = self._blocks[tier].setdefault(replica_id, set())
        holders = self._holders[tier]
        bit = 1 << replica_id
        before = len(blocks)
        for key in hashes:
            blocks.add(key)
            holders[key] = holders.get(key, 0) | bit
        if tier:
            self._num_lower += len(blocks) - before

    def removed(self, replica_id: int, hashes: Sequence[int], tier: int = 0) -> None:
        """Record that a replica no longer has these blocks in a tier."""
        blocks = self._blocks[tier].get(replica_id)
        if blocks is None:
            return
        before = len(blocks)
        for key in hashes:
            if key in blocks:
                blocks.discard(key)
                self._drop(tier, key, replica_id)
        if tier:
            self._num_lower += len(blocks) - before

    def _drop(self, tier: int, key: int, replica_id: int) -> None:
        holders = self._holders[tier]
        left = holders[key] & ~(1 << replica_id)
        if left:
            holders[key] = left
        else:
            del holders[key]

    def cleared(self, replica_id: int) -> None:
        """Record that a replica has no block in any tier."""
        for tier in range(len(TIERS)):
            self.removed(replica_id, list(self._blocks[tier].get(replica_id, ())), tier)

    def num_blocks(self, replica_id: int, tier: int = 0) -> int:
        """Return how many blocks a replica has in a tier."""
        return len(self._blocks[tier].get(replica_id, ()))

    def depths(self, hashes: Sequence[int]) -> dict[int, int]:
        """Return how many leading blocks each replica holds, in any tier. Replicas with none are
        left out."""
        found: dict[int, int] = {}
        alive = -1
        for depth, key in enumerate(hashes):
            still = alive & self._holders_of(key)
            if depth and still != alive:
                _note(found, alive & ~still, depth)
            alive = still
            if not alive:
                return found
        if alive > 0:
            _note(found, alive, len(hashes))
        return found

    def _holders_of(self, key: int) -> int:
        mask = self._holders[0].get(key, 0)
        if self._num_lower:
            for tier in range(1, len(TIERS)):
                mask |= self._holders[tier].get(key, 0)
        return mask

    def holds(self, replica_id: int, key: int) -> bool:
        """Whether a replica holds a block, in any tier."""
        return bool(self._holders_of(key) >> replica_id & 1)

    def num_held(self, replica_id: int) -> int:
        """Return how many blocks a replica has, each once."""
        first = self._blocks[0].get(replica_id, set())
        if not self._num_lower:
            return len(first)
        return len(first.union(*[blocks.get(replica_id, set()) for blocks in self._blocks[1:]]))

    def num_holders(self, key: int) -> int:
        """Return how many replicas hold a block, in any tier."""
        return self._holders_of(key).bit_count()

    def match(self, replica_id: int, hashes: Sequence[int]) -> tuple[int, ...]:
        """Return how many leading blocks a replica holds by tier, each block in the fastest tier
        that has it. The sum is the longest unbroken prefix."""
        counts = [0] * len(TIERS)
        held = [blocks.get(replica_id) for blocks in self._blocks]
        for key in hashes:
            for tier, blocks in enumerate(held):
                if blocks is not None and key in blocks:
                    counts[tier] += 1
                    break
            else:
                break
        return tuple(counts)


def _note(found: dict[int, int], mask: int, depth: int) -> None:
    """Enter a depth for every replica of a bit mask."""
    while mask:
        lowest = mask & -mask
        found[lowest.bit_length() - 1] = depth
        mask ^= lowest
