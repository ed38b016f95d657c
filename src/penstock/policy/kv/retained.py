"""KV accounting of an engine whose prefix cache retains every full block, also those of answers."""

from collections import OrderedDict

from penstock.policy.kv.shared import SharedKv
from penstock.policy.kv.tiers import KvTiers


class _Entry:
    """Full blocks of one content. ``owner`` is the sequence that alone can find them, -1 for blocks
    with a hash. ``first_block`` is their place in the sequence."""

    __slots__ = ("first_block", "key", "num_blocks", "owner", "serial", "users")

    def __init__(self, serial: int, key: int, owner: int, first_block: int, num_blocks: int,
                 users: int) -> None:
        self.serial = serial
        self.key = key
        self.owner = owner
        self.first_block = first_block
        self.num_blocks = num_blocks
        self.users = users


class RetainingKv(SharedKv):
    """Counts blocks, shares prompt prefixes by hash, and retains what freed sequences computed.

    Blocks that no sequence uses are evicted in the order in which they were freed, the end of a
    sequence before its beginning. Blocks without a hash of the prompt (its last tokens, the answer)
    can only be found by their own sequence, when it starts again after a preemption. Equal blocks
    that two sequences computed at the same time are stored twice. The design follows vLLM's block
    pool.
    """

    __slots__ = ("_evictable", "_held", "_runs", "_serial", "_shared")

    def __init__(self, total_blocks: int, block_tokens: int, tiers: KvTiers | None = None) -> None:
        super().__init__(total_blocks, block_tokens, tiers)
        self._shared: dict[int, list[_Entry]] = {}  # copies of equal content, oldest first
        self._runs: dict[int, _Entry] = {}  # by the sequence that they belong to
        self._evictable: OrderedDict[int, _Entry] = OrderedDict()  # by serial, first freed first
        self._serial = 0
        # sequence -> (hashes of its prompt, tokens per hash, entries that it has pinned)
        self._held: dict[int, tuple[tuple[int, ...], int, list[_Entry]]] = {}

    def allocate(self, sequence_id: int, prompt_tokens: int, room_tokens: int,
                 prefix_hashes: tuple[int, ...], hash_block_tokens: int,
                 spare_blocks: int, chunk_tokens: int = 0) -> int | None:
        per_hash = hash_block_tokens or self.block_tokens
        usable = self._num_usable(prompt_tokens, prefix_hashes, per_hash)
        hits = self._hits(prefix_hashes[:usable], (prompt_tokens - 1) // per_hash)
        below = () if self.tiers is None else self._below(
            self.tiers, prefix_hashes, len(hits), min(usable, (prompt_tokens - 1) // per_hash))
        num_known = len(hits) + len(below)
        run, run_blocks = self._own_run(sequence_id, num_known * per_hash, prompt_tokens)
        held = len(hits) * per_hash // self.block_tokens + run_blocks
        idle = run_blocks + sum([entry.num_blocks for entry in hits if not entry.users])
        cached = num_known * per_hash + run_blocks * self.block_tokens
        needed, booked = self._needed_and_booked(prompt_tokens, room_tokens, chunk_tokens, cached,
                                                 held)
        if self.used_blocks + idle + needed + spare_blocks > self.total_blocks:
            return None
        for entry in hits:
            self._pin(entry)
        if run is not None:
            self._take(run, run_blocks)
        if self.tiers is not None:
            self.tiers.take(below)
        self.used_blocks += booked + run_blocks
        self._make_room()
        for key in below:
            hits.append(self._publish(key, len(hits) * per_hash // self.block_tokens,
                                      per_hash // self.block_tokens))
        self._held[sequence_id] = (prefix_hashes[:usable], per_hash, hits)
        self._hit_tokens += cached
        self._prompt_tokens += prompt_tokens
        return cached

    def _hits(self, hashes: tuple[int, ...], most: int) -> list[_Entry]:
        """Return the leading entries that are cached. The last prompt token is always computed: its
        logits give the next output token."""
        found: list[_Entry] = []
        for key in hashes[:most]:
            copies = self._shared.get(key)
            if not copies:
                break
            found.append(copies[0])
        return found

    def _own_run(self, sequence_id: int, hit_tokens: int, prompt_tokens: int
                 ) -> tuple[_Entry | None, int]:
        """Return the sequence's own blocks that follow the hits, and how many it can use."""
        run = self._runs.get(sequence_id)
        if run is None or run.first_block * self.block_tokens != hit_tokens:
            return None, 0
        most = (prompt_tokens - 1) // self.block_tokens - run.first_block
        return (run, min(run.num_blocks, most)) if most > 0 else (None, 0)

    def _has(self, key: int) -> bool:
        return key in self._shared

    def _pin(self, entry: _Entry) -> None:
        if entry.users == 0:
            del self._evictable[entry.serial]
            self._evictable_blocks -= entry.num_blocks
            self.used_blocks += entry.num_blocks
        entry.users += 1

    def _take(self, run: _Entry, num_blocks: int) -> None:
        """Take blocks out of a sequence's run. The rest stays evictable, but is not found again."""
        run.num_blocks -= num_blocks
        self._evictable_blocks -= num_blocks
        del self._runs[run.owner]
        if not run.num_blocks:
            del self._evictable[run.serial]

    def _make_room(self) -> None:
        while self.used_blocks + self._evictable_blocks > self.total_blocks:
            entry = next(iter(self._evictable.values()))
            excess = self.used_blocks + self._evictable_blocks - self.total_blocks
            evicted = entry.num_blocks if entry.owner < 0 else min(excess, entry.num_blocks)
            entry.num_blocks -= evicted
            self._evictable_blocks -= evicted
            if entry.num_blocks:
                continue
            del self._evictable[entry.serial]
            if entry.owner >= 0:
                if self._runs.get(entry.owner) is entry:
                    del self._runs[entry.owner]
                continue
            copies = self._shared[entry.key]
            copies.remove(entry)
            if not copies:
                del self._shared[entry.key]
                if self.changes is not None:
                    self.changes.append((entry.key, False))
                if self.tiers is not None:
                    self.tiers.put(entry.key, evicted)

    def computed(self, sequence_id: int, tokens: int) -> None:
        hashes, per_hash, entries = self._held[sequence_id]
        while len(entries) < len(hashes) and (len(entries) + 1) * per_hash <= tokens:
            entries.append(self._publish(hashes[len(entries)],
                                          len(entries) * per_hash // self.block_tokens,
                                          per_hash // self.block_tokens))

    def _publish(self, key: int, first_block: int, num_blocks: int) -> _Entry:
        """Return a new entry of a hash, which one sequence uses."""
        entry = self._entry(key, -1, first_block, num_blocks, 1)
        if self.changes is not None and key not in self._shared:
            self.changes.append((key, True))
        self._shared.setdefault(key, []).append(entry)
        return entry

    def shared_blocks(self, sequence_id: int) -> int:
        return sum([entry.num_blocks for entry in self._held[sequence_id][2] if entry.users > 1])

    def free(self, sequence_id: int, num_blocks: int, stored_tokens: int = 0) -> None:
        _, per_hash, entries = self._held.pop(sequence_id)
        hashed = len(entries) * per_hash // self.block_tokens
        kept = stored_tokens // self.block_tokens - hashed
        self.used_blocks -= num_blocks - hashed
        if kept > 0:
            run = self._entry(0, sequence_id, hashed, kept, 0)
            self._runs[sequence_id] = run
            self._retain(run)
        # Later blocks are released first, so that a prefix outlives its extensions.
        for entry in reversed(entries):
            entry.users -= 1
            if entry.users == 0:
                self.used_blocks -= entry.num_blocks
                self._retain(entry)

    def _entry(self, key: int, owner: int, first_block: int, num_blocks: int, users: int
               ) -> _Entry:
        self._serial += 1
        return _Entry(self._serial, key, owner, first_block, num_blocks, users)

    def _retain(self, entry: _Entry) -> None:
        self._evictable[entry.serial] = entry
        self._evictable_blocks += entry.num_blocks

    def check_integrity(self, held_blocks: int) -> None:
        assert 0 <= self.used_blocks <= self.total_blocks, (self.used_blocks, self.total_blocks)
        assert self.used_blocks + self._evictable_blocks <= self.total_blocks
        idle = sum(entry.num_blocks for entry in self._evictable.values())
        assert idle == self._evictable_blocks, (idle, self._evictable_blocks)
        copies = [entry for entries in self._shared.values() for entry in entries]
        assert all((entry.users == 0) is (entry.serial in self._evictable) for entry in copies)
        extra = sum(entry.num_blocks * (entry.users - 1) for entry in copies if entry.users > 1)
        assert self.used_blocks == held_blocks - extra, (self.used_blocks, held_blocks, extra)
