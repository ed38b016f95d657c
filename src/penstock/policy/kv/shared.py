"""Parts of the KV accountings that share prompt prefixes by hash."""

from penstock.core.errors import InputError
from penstock.core.units import ceil_div
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.kv.tiers import KvTiers


class SharedKv(KvAllocator):
    """Counts blocks in use, blocks that may be evicted, and prompt tokens found in the cache.

    ``changes`` gets the hashes that are cached from now on (True) or no longer, in order; None
    where nobody asks. Blocks with a hash that are evicted go down to ``tiers``, where there are
    any. A prompt whose next blocks are there takes them into the cache as it starts.
    """

    __slots__ = ("_evictable_blocks", "_hit_tokens", "_prompt_tokens", "block_tokens",
                 "changes", "tiers", "total_blocks", "used_blocks")

    def __init__(self, total_blocks: int, block_tokens: int, tiers: KvTiers | None = None) -> None:
        self.tiers = tiers
        self.total_blocks = total_blocks
        self.block_tokens = block_tokens
        self.used_blocks = 0  # private and protected blocks, without evictable ones
        self._evictable_blocks = 0
        self._hit_tokens = 0
        self._prompt_tokens = 0
        self.changes: list[tuple[int, bool]] | None = None

    @property
    def free_blocks(self) -> int:
        return self.total_blocks - self.used_blocks

    @property
    def unused_blocks(self) -> int:
        return self.total_blocks - self.used_blocks - self._evictable_blocks

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens found in the cache so far."""
        return self._hit_tokens / self._prompt_tokens if self._prompt_tokens else 0.0

    def found_tokens(self, prompt_tokens: int, hashes: tuple[int, ...], per_hash: int) -> int:
        """Return the prompt tokens that are in the cache now, of a prompt whose leading blocks of
        ``per_hash`` tokens have these hashes. Changes nothing."""
        most = min(len(hashes), (prompt_tokens - 1) // per_hash)
        found = 0
        while found < most and (self._has(hashes[found]) or (
                self.tiers is not None and self.tiers.has(hashes[found]))):
            found += 1
        return found * per_hash

    def _below(self, tiers: KvTiers, hashes: tuple[int, ...], num_hits: int, most: int
               ) -> tuple[int, ...]:
        """Return the hashes after the first ``num_hits``, up to ``most``, that only the tiers
        have."""
        end = num_hits
        while end < most and not self._has(hashes[end]) and tiers.has(hashes[end]):
            end += 1
        return hashes[num_hits:end]

    def _has(self, key: int) -> bool:
        """Whether a block of this hash is in the cache."""
        raise NotImplementedError

    def grow(self, num_blocks: int) -> bool:
        if self.used_blocks + num_blocks > self.total_blocks:
            return False
        self.used_blocks += num_blocks
        self._make_room()
        return True

    def _make_room(self) -> None:
        """Evict blocks until the used ones and the rest fit."""
        raise NotImplementedError

    def _num_usable(self, prompt_tokens: int, prefix_hashes: tuple[int, ...], per_hash: int) -> int:
        """Return how many of a prompt's hashes cover tokens of the prompt. Raises InputError where
        hashes do not cover whole blocks."""
        if prefix_hashes and per_hash % self.block_tokens:
            raise InputError(f"prefix hashes cover {per_hash} tokens each, expected a multiple of "
                             f"the KV block of {self.block_tokens} tokens")
        return min(len(prefix_hashes), prompt_tokens // per_hash)

    def _needed_and_booked(self, prompt_tokens: int, room_tokens: int, chunk_tokens: int,
                           cached: int, held: int) -> tuple[int, int]:
        """Return the blocks for which there must be room, and those that are taken now, beside
        ``held`` blocks of ``cached`` tokens."""
        needed = booked = ceil_div(room_tokens, self.block_tokens) - held
        if chunk_tokens:
            booked = ceil_div(min(prompt_tokens, cached + chunk_tokens), self.block_tokens) - held
            needed = max(needed, booked)
        return needed, booked
