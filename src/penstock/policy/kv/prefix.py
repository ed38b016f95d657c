"""KV accounting with a hashed prefix cache: equal prompt beginnings are stored once."""

from penstock.policy.kv.shared import SharedKv
from penstock.policy.kv.tiers import KvTiers


class _Entry:
    """One cached prompt block, with the number of sequences that use it and the number of KV blocks
    it fills."""

    __slots__ = ("num_blocks", "users")

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.users = 1


class PrefixKv(SharedKv):
    """Counts blocks and shares prompt prefixes by hash.

    A request names its prompt's leading blocks by chained hashes, so hash i implies all hashes
    before it. Blocks of a running sequence are protected. Unused blocks stay cached until room is
    needed and are evicted in least-recently-used order. A hash is published when its tokens have
    been computed, never when they are only planned. The design follows vLLM's automatic prefix
    caching and SGLang's evictable/protected split.
    """

    __slots__ = ("_evictable", "_held", "_shared")

    def __init__(self, total_blocks: int, block_tokens: int, tiers: KvTiers | None = None) -> None:
        super().__init__(total_blocks, block_tokens, tiers)
        self._shared: dict[int, _Entry] = {}
        self._evictable: dict[int, None] = {}  # insertion order = least recently used first
        # sequence -> (hashes of its prompt, tokens per hash, number it has pinned or published)
        self._held: dict[int, tuple[tuple[int, ...], int, list[int]]] = {}

    def allocate(self, sequence_id: int, prompt_tokens: int, room_tokens: int,
                 prefix_hashes: tuple[int, ...], hash_block_tokens: int,
                 spare_blocks: int, chunk_tokens: int = 0) -> int | None:
        per_hash = hash_block_tokens or self.block_tokens
        usable = self._num_usable(prompt_tokens, prefix_hashes, per_hash)
        num_hits = 0
        idle_blocks = 0  # cached, unused blocks that this request would pin
        for i in range(usable):
            entry = self._shared.get(prefix_hashes[i])
            if entry is None:
                break
            num_hits += 1
            if entry.users == 0:
                idle_blocks += entry.num_blocks
        # The last prompt token is always computed: its logits give the first output token.
        if num_hits and num_hits * per_hash >= prompt_tokens:
            num_hits -= 1
            entry = self._shared[prefix_hashes[num_hits]]
            idle_blocks -= entry.num_blocks if entry.users == 0 else 0
        held = num_hits * per_hash // self.block_tokens
        below = () if self.tiers is None else self._below(
            self.tiers, prefix_hashes, num_hits, min(usable, (prompt_tokens - 1) // per_hash))
        cached = (num_hits + len(below)) * per_hash
        needed, booked = self._needed_and_booked(prompt_tokens, room_tokens, chunk_tokens, cached,
                                                 held)
        if self.used_blocks + idle_blocks + needed + spare_blocks > self.total_blocks:
            return None
        for i in range(num_hits):
            self._pin(prefix_hashes[i])
        if self.tiers is not None:
            self.tiers.take(below)
        self.used_blocks += booked
        self._make_room()
        for key in below:
            self._shared[key] = _Entry(per_hash // self.block_tokens)
            if self.changes is not None:
                self.changes.append((key, True))
        self._held[sequence_id] = (prefix_hashes[:usable], per_hash, [num_hits + len(below)])
        self._hit_tokens += cached
        self._prompt_tokens += prompt_tokens
        return cached

    def _has(self, key: int) -> bool:
        return key in self._shared

    def _pin(self, key: int) -> None:
        entry = self._shared[key]
        if entry.users == 0:
            del self._evictable[key]
            self._evictable_blocks -= entry.num_blocks
            self.used_blocks += entry.num_blocks
        entry.users += 1

    def _make_room(self) -> None:
        while self.used_blocks + self._evictable_blocks > self.total_blocks:
            key = next(iter(self._evictable))
            del self._evictable[key]
            num_blocks = self._shared.pop(key).num_blocks
            self._evictable_blocks -= num_blocks
            if self.changes is not None:
                self.changes.append((key, False))
            if self.tiers is not None:
                self.tiers.put(key, num_blocks)

    def computed(self, sequence_id: int, tokens: int) -> None:
        hashes, per_hash, published = self._held[sequence_id]
        while published[0] < len(hashes) and (published[0] + 1) * per_hash <= tokens:
            key = hashes[published[0]]
            if key in self._shared:
                # another sequence published it first; this one's blocks stay private from here on
                break
            self._shared[key] = _Entry(per_hash // self.block_tokens)
            published[0] += 1
            if self.changes is not None:
                self.changes.append((key, True))

    def shared_blocks(self, sequence_id: int) -> int:
        hashes, _, published = self._held[sequence_id]
        entries = (self._shared[key] for key in hashes[:published[0]])
        return sum(entry.num_blocks for entry in entries if entry.users > 1)

    def free(self, sequence_id: int, num_blocks: int, stored_tokens: int = 0) -> None:
        hashes, _, published = self._held.pop(sequence_id)
        shared_blocks = 0
        # Later blocks are released first, so that a prefix outlives its extensions.
        for i in range(published[0] - 1, -1, -1):
            entry = self._shared[hashes[i]]
            shared_blocks += entry.num_blocks
            entry.users -= 1
            if entry.users == 0:
                self.used_blocks -= entry.num_blocks
                self._evictable[hashes[i]] = None
                self._evictable_blocks += entry.num_blocks
        self.used_blocks -= num_blocks - shared_blocks

    def check_integrity(self, held_blocks: int) -> None:
        assert 0 <= self.used_blocks <= self.total_blocks, (self.used_blocks, self.total_blocks)
        assert self.used_blocks + self._evictable_blocks <= self.total_blocks
        idle = sum(entry.num_blocks for entry in self._shared.values() if entry.users == 0)
        assert idle == self._evictable_blocks, (idle, self._evictable_blocks)
        extra = sum(entry.num_blocks * (entry.users - 1)
                    for entry in self._shared.values() if entry.users > 1)
        assert self.used_blocks == held_blocks - extra, (self.used_blocks, held_blocks, extra)
