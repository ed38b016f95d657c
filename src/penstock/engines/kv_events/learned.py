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

_MOST_HELD = 4_000_000
"""Blocks of one engine in the index, all tiers together; far more than an engine has."""

_MOST_GONE = 65_536
"""Hashes of removed blocks whose keys are kept: their tails may be stored again, and they may move
to another tier."""


class LearnedBlocks:
    """Learns the key of every hash that an engine reports, and keeps the index up to date.

    The index names an engine by the number of its replica, which may change. ``counts`` are events
    by their type; ``orphans`` counts blocks whose beginning was never reported, so that their keys
    are unknown.
    """

    def __init__(self, index: LiveIndex, replica_id: int, most_held: int = _MOST_HELD,
                 most_gone: int = _MOST_GONE) -> None:
        self._index = index
        self.replica_id = replica_id
        self._most_held = most_held
        self._most_gone = most_gone
        self._held: dict[Hash, tuple[int, int]] = {}  # key, bits of tiers
        self._gone: OrderedDict[Hash, int] = OrderedDict()
        self.counts: Counter[str] = Counter()
        self.num_orphans = 0
        self.is_whole = False
        self._block_tokens = 0

    def begin(self, *, whole: bool) -> None:
        """Forget all blocks. They are ``whole`` where the engine holds nothing now. Their keys stay
        known: equal tokens keep equal hashes while the engine runs."""
        for name, (key, _) in self._held.items():
            self._remember(name, key)
        self._held.clear()
        self.is_whole = whole
        self._index.cleared(self.replica_id, whole=whole)

    def restarted(self, *, whole: bool) -> None:
        """Forget all blocks and their hashes, of an engine that was started anew."""
        self._held.clear()
        self._gone.clear()
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
        for key, bits in self._held.values():
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
            before = self._held.get(name)
            self._held[name] = key, bit if before is None else before[1] | bit
            self._gone.pop(name, None)
        self._index.stored(self.replica_id, keys, event.tier)
        while len(self._held) > self._most_held:
            name = next(iter(self._held))
            key, bits = self._held.pop(name)
            for tier in range(bits.bit_length()):
                if bits >> tier & 1:
                    self._index.removed(self.replica_id, (key,), tier)

    def _keys(self, event: Stored) -> list[int] | None:
        """Return the keys of stored blocks, None where they cannot be known."""
        if not event.tokens:  # blocks that moved to another tier
            known = [key for name in event.hashes if (key := self._key_of(name)) is not None]
            return known if len(known) == len(event.hashes) else None
        before = root_key(event.adapter) if event.parent is None else self._key_of(event.parent)
        if before is None:
            return None
        return list(chained(before, event.tokens, event.block_tokens, event.extras))

    def _removed(self, event: Removed) -> None:
        self.counts["removed"] += 1
        bit = 1 << event.tier
        gone: list[int] = []
        for name in event.hashes:
            key, bits = self._held.get(name, (0, 0))
            if not bits & bit:
                continue
            gone.append(key)
            if bits == bit:
                del self._held[name]
                self._remember(name, key)
            else:
                self._held[name] = key, bits & ~bit
        self._index.removed(self.replica_id, gone, event.tier)

    def _key_of(self, name: Hash) -> int | None:
        """Return the key of a hash, None where it is not known."""
        found = self._held.get(name)
        return self._gone.get(name) if found is None else found[0]

    def _remember(self, name: Hash, key: int) -> None:
        """Keep the key of a block that is no longer held."""
        self._gone[name] = key
        self._gone.move_to_end(name)
        if len(self._gone) > self._most_gone:
            self._gone.popitem(last=False)
