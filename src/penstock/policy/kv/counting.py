"""KV accounting that only counts blocks: every sequence owns its blocks, and none is shared."""

from penstock.core.units import ceil_div
from penstock.policy.kv.protocol import KvAllocator


class CountingKv(KvAllocator):
    """Counts blocks in use. This is exact where no prefixes are shared."""

    __slots__ = ("block_tokens", "total_blocks", "used_blocks")

    def __init__(self, total_blocks: int, block_tokens: int) -> None:
        self.total_blocks = total_blocks
        self.block_tokens = block_tokens
        self.used_blocks = 0

    @property
    def free_blocks(self) -> int:
        return self.total_blocks - self.used_blocks

    @property
    def unused_blocks(self) -> int:
        return self.total_blocks - self.used_blocks

    def allocate(self, sequence_id: int, prompt_tokens: int, room_tokens: int,
                 prefix_hashes: tuple[int, ...], hash_block_tokens: int,
                 spare_blocks: int, chunk_tokens: int = 0) -> int | None:
        needed = booked = ceil_div(room_tokens, self.block_tokens)
        if chunk_tokens:
            booked = ceil_div(min(prompt_tokens, chunk_tokens), self.block_tokens)
            needed = max(needed, booked)
        if self.used_blocks + needed + spare_blocks > self.total_blocks:
            return None
        self.used_blocks += booked
        return 0

    def grow(self, num_blocks: int) -> bool:
        if self.used_blocks + num_blocks > self.total_blocks:
            return False
        self.used_blocks += num_blocks
        return True

    def computed(self, sequence_id: int, tokens: int) -> None:
        """Do nothing, since blocks are not shared."""

    def shared_blocks(self, sequence_id: int) -> int:
        return 0

    def free(self, sequence_id: int, num_blocks: int, stored_tokens: int = 0) -> None:
        self.used_blocks -= num_blocks

    def check_integrity(self, held_blocks: int) -> None:
        assert 0 <= self.used_blocks <= self.total_blocks, (self.used_blocks, self.total_blocks)
        assert self.used_blocks == held_blocks, (self.used_blocks, held_blocks)
