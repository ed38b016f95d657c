"""The contract of KV-cache accounting."""

from typing import Protocol


class KvAllocator(Protocol):
    """Books blocks of ``block_tokens`` tokens out of a fixed number.

    A prompt's blocks are booked when it starts. Decoding sequences grow in bulk, since a step only
    needs the number of sequences that cross into a new block.
    """

    block_tokens: int
    total_blocks: int

    @property
    def free_blocks(self) -> int:
        """Blocks that can be booked now, including evictable cached blocks."""

    @property
    def unused_blocks(self) -> int:
        """Blocks that can be booked now without an eviction."""

    def allocate(self, sequence_id: int, prompt_tokens: int, room_tokens: int,
                 prefix_hashes: tuple[int, ...], hash_block_tokens: int,
                 spare_blocks: int, chunk_tokens: int = 0) -> int | None:
        """Book room for ``room_tokens``, of which the first ``prompt_tokens`` are a prompt. With
        ``chunk_tokens``, book only room for so many uncached tokens of the prompt, while room for
        ``room_tokens`` must be free.

        Returns how many prompt tokens are already cached (never all of them), or ``None`` (and no
        change) when fewer than ``spare_blocks`` blocks would stay free.
        """

    def grow(self, num_blocks: int) -> bool:
        """Book blocks for decoding sequences; ``False`` (and no change) when too few are free."""

    def computed(self, sequence_id: int, tokens: int) -> None:
        """Publish the first ``tokens`` of the prompt, which are now in the cache and may be
        shared."""

    def shared_blocks(self, sequence_id: int) -> int:
        """Return the number of blocks that other sequences also use, which would stay if this
        sequence were freed."""

    def free(self, sequence_id: int, num_blocks: int, stored_tokens: int = 0) -> None:
        """Free a sequence that holds ``num_blocks`` blocks in all, with ``stored_tokens``
        tokens."""

    def check_integrity(self, held_blocks: int) -> None:
        """Raise AssertionError unless the books agree with ``held_blocks``, the sum of the blocks
        that all live sequences hold."""
