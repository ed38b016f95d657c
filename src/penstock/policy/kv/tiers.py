"""Tiers of memory below the KV cache of a replica: blocks that the cache evicts go down."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple


class TierSpec(NamedTuple):
    """A tier with room for ``capacity_tokens`` tokens. A load takes ``latency_s``, then
    ``s_per_token`` for each token. ``shared`` tiers are one store of all replicas of a model."""

    name: str
    capacity_tokens: int
    s_per_token: float
    latency_s: float = 0.0
    shared: bool = False

    def store(self, block_tokens: int) -> "TierStore":
        """Return an empty store of blocks of so many tokens."""
        return TierStore(self.name, self.capacity_tokens // block_tokens,
                         self.s_per_token * block_tokens, self.latency_s, self.shared)


class TierStore:
    """One tier: least recently used blocks first. Stores that replicas share are one object."""

    __slots__ = ("blocks", "capacity_blocks", "dropped_blocks", "hit_blocks", "latency_s", "name",
                 "replaced_blocks", "s_per_block", "shared", "stored_blocks", "used_blocks")

    def __init__(self, name: str, capacity_blocks: int, s_per_block: float, latency_s: float,
                 shared: bool) -> None:
        self.name = name
        self.capacity_blocks = capacity_blocks
        self.s_per_block = s_per_block
        self.latency_s = latency_s
        self.shared = shared
        self.blocks: OrderedDict[int, int] = OrderedDict()  # hash -> KV blocks that it covers
        self.used_blocks = 0
        # Counts of KV blocks: stored == used + hit (unless shared) + replaced + dropped.
        self.stored_blocks = 0
        self.hit_blocks = 0
        self.replaced_blocks = 0
        self.dropped_blocks = 0

    def put(self, key: int, num_blocks: int) -> list[tuple[int, int]]:
        """Store a hash's blocks. Returns the hashes that had to leave, with their blocks."""
        old = self.blocks.pop(key, 0)
        self.replaced_blocks += old
        self.stored_blocks += num_blocks
        self.used_blocks += num_blocks - old
        self.blocks[key] = num_blocks
        left: list[tuple[int, int]] = []
        while self.used_blocks > self.capacity_blocks:
            oldest = self.blocks.popitem(last=False)
            self.used_blocks -= oldest[1]
            self.dropped_blocks += oldest[1]
            left.append(oldest)
        return left

    def take(self, key: int) -> None:
        """Load a hash's blocks into a replica's cache. Only a shared store keeps its copy."""
        num_blocks = self.blocks[key]
        self.hit_blocks += num_blocks
        if self.shared:
            self.blocks.move_to_end(key)
        else:
            del self.blocks[key]
            self.used_blocks -= num_blocks

    def discard(self, key: int) -> None:
        """Forget a hash, because a newer copy takes its place elsewhere."""
        num_blocks = self.blocks.pop(key, 0)
        self.used_blocks -= num_blocks
        self.replaced_blocks += num_blocks


class KvTiers:
    """The tiers of one replica, the fastest first. Blocks that a tier has no room for go to the
    next tier, and out of the last.

    ``load_s`` is the time to load the blocks that were taken since ``settle``: for each prompt and
    tier the tier's latency, and the time of every block.
    """

    __slots__ = ("load_s", "loaded_s", "stores")

    def __init__(self, stores: Sequence[TierStore]) -> None:
        self.stores = tuple(stores)
        self.load_s = 0.0
        self.loaded_s = 0.0

    def has(self, key: int) -> bool:
        """Whether any tier has the blocks of this hash."""
        return any(key in store.blocks for store in self.stores)

    def put(self, key: int, num_blocks: int) -> None:
        """Take what the cache evicts."""
        for store in self.stores:
            if not store.shared:
                store.discard(key)
        moving = [(key, num_blocks)]
        for store in self.stores:
            left: list[tuple[int, int]] = []
            for one, blocks in moving:
                left += store.put(one, blocks)
            moving = left

    def take(self, keys: Sequence[int]) -> None:
        """Load the blocks of these hashes, each from the fastest tier that has them."""
        counts = [0] * len(self.stores)
        for key in keys:
            for place, store in enumerate(self.stores):
                if key in store.blocks:
                    counts[place] += store.blocks[key]
                    store.take(key)
                    break
        for store, count in zip(self.stores, counts, strict=True):
            if count:
                self.load_s += store.latency_s + count * store.s_per_block

    def settle(self) -> float:
        """Return the time of the loads since the last call, seconds."""
        load_s, self.load_s = self.load_s, 0.0
        self.loaded_s += load_s
        return load_s

    def check_integrity(self) -> None:
        """Raise AssertionError unless every block is in one tier of the replica, and the books
        agree."""
        own = [store for store in self.stores if not store.shared]
        keys = [key for store in own for key in store.blocks]
        assert len(keys) == len(set(keys)), "a block is in two tiers"
        for store in self.stores:
            assert store.used_blocks == sum(store.blocks.values()), store.name
            assert 0 <= store.used_blocks <= store.capacity_blocks, store.name
            gone = store.replaced_blocks + store.dropped_blocks
            gone += 0 if store.shared else store.hit_blocks
            assert store.stored_blocks == store.used_blocks + gone, store.name
