"""Blocks of one engine, under keys that requests share."""

from collections import Counter, OrderedDict

from penstock.engines.kv_events.decode import (
    Batch,
    Cleared,
    Hash,
    Ignored,
    Removed,
    Stored,
)
from penstock.engines.kv_events.keys import chained, root_key
from penstock.policy.route.live_index import LiveIndex

_MOST_KNOWN = 1_000_000
"""Hashes of one engine whose keys are kept, the blocks that it holds included."""


class LearnedBlocks:
    """Learns the key of every hash that an engine reports, and keeps the index up to date.

    The index names an engine by the number of its replica, which may change. ``counts`` are events
    by their type; ``orphans`` counts blocks whose beginning was never reported, so that their keys
    are unknown.
    """

    def __init__(self, index: LiveIndex, replica_id: int, most_known: int = _MOST_KNOWN) -> None:
        self._index = index
        self.replica_id = replica_id
        self._most_known = most_known
        # The order is that of their last mention. A block's key outlives the block, since its tail
        # may be stored again, and blocks move between tiers.
        self._known: OrderedDict[Hash, tuple[int, int]] = OrderedDict()  # key, bits of tiers
        self.counts: Counter[str] = Counter()
        self.num_orphans = 0
        self.is_whole = False
        self._block_tokens = 0

    def begin(self, *, whole: bool) -> None:
        """Forget all blocks. They are ``whole`` where the engine holds nothing now. Their keys stay
        known: equal tokens keep equal hashes while the engine runs."""
        for name, (key, _) in self._known.items():
            self._known[name] = key, 0
        self.is_whole = whole
        self._index.cleared(self.replica_id, whole=whole)

    def restarted(self, *, whole: bool) -> None:
        """Forget all blocks and their hashes, of an engine that was started anew."""
        self._known.clear()
        self.begin(whole=whole)

    def lost(self) -> None:
        """Forget all blocks of the engine, and take it out of the index."""
        self.begin(whole=False)
        self.suspend()

    def suspend(self) -> None:
        """Take the engine out of the index until ``move`` enters it again."""
        self._index.lost(self.replica_id)

    def move(self, replica_id: int) -> None:
        """Enter the blocks in the index under another number. The old one has been cleared."""
        self.replica_id = replica_id
        self._index.cleared(replica_id, whole=self.is_whole)
        if self._block_tokens:
            self._index.measured(replica_id, self._block_tokens)
        for key, bits in self._known.values():
            for tier in range(bits.bit_length()):
                if bits >> tier & 1:
                    self._index.stored(replica_id, (key,), tier)

    def apply(self, batch: Batch) -> None:
        """Apply the events of a batch in order."""
        for event in batch.events:
            if isinstance(event, Stored):
                self._stored(event)
            elif isinstance(event, Removed):
                self._removed(event)
            elif isinstance(event, Cleared):
                self.counts["cleared"] += 1
                self.begin(whole=True)
            else:
                assert isinstance(event, Ignored), "there are no other events"
                self.counts[f"ignored_{event.reason}"] += 1

    def _stored(self, event: Stored) -> None:
        self.counts["stored"] += 1
        keys = self._keys(event)
        if keys is None:
            self.num_orphans += len(event.hashes)
            return
        if event.tokens and event.block_tokens != self._block_tokens:
            self._block_tokens = event.block_tokens
            self._index.measured(self.replica_id, event.block_tokens)
        bit = 1 << event.tier
        for name, key in zip(event.hashes, keys, strict=True):
            before = self._known.get(name)
            self._known[name] = key, bit if before is None else before[1] | bit
            self._known.move_to_end(name)
        self._index.stored(self.replica_id, keys, event.tier)
        while len(self._known) > self._most_known:
            _, (key, bits) = self._known.popitem(last=False)
            self._take_out(key, bits)

    def _keys(self, event: Stored) -> list[int] | None:
        """Return the keys of stored blocks, None where they cannot be known."""
        if not event.tokens:  # a block that moved to another tier
            known = [self._known.get(name) for name in event.hashes]
            return [one[0] for one in known if one is not None] if None not in known else None
        if event.parent is None:
            before = root_key(event.adapter)
        elif (parent := self._known.get(event.parent)) is not None:
            before = parent[0]
        else:
            return None
        return list(chained(before, event.tokens, event.block_tokens, event.extras))

    def _removed(self, event: Removed) -> None:
        self.counts["removed"] += 1
        bit = 1 << event.tier
        gone: list[int] = []
        for name in event.hashes:
            known = self._known.get(name)
            if known is not None and known[1] & bit:
                self._known[name] = known[0], known[1] & ~bit
                gone.append(known[0])
        self._index.removed(self.replica_id, gone, event.tier)

    def _take_out(self, key: int, bits: int) -> None:
        for tier in range(bits.bit_length()):
            if bits >> tier & 1:
                self._index.removed(self.replica_id, (key,), tier)
