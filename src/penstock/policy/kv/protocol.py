"""The contract of KV-cache accounting."""

from typing import Protocol


class KvAllocator(Protocol):
    """Books blocks of ``block_tokens`` tokens out of a fixed number.

    A prompt's blocks are booked when it starts; decoding sequences grow in bulk, since all that a
    step needs to know is how many of them cross into a new block.
    """

    block_tokens: int
    total_blocks: int

    @property
    def free_blocks(self) -> int:
        """Blocks that can be booked now, evictable cached ones included."""

    def allocate(self, sequence_id: int, prompt_tokens: int, room_tokens: int,
                 prefix_hashes: tuple[int, ...], hash_block_tokens: int,
                 spare_blocks: int) -> int | None:
        """Book room for ``room_tokens``, of which the first ``prompt_tokens`` are a prompt.

        Returns how many prompt tokens are already cached (never all of them), or ``None`` (and no
        change) when fewer than ``spare_blocks`` blocks would stay free.
        """

    def grow(self, num_blocks: int) -> bool:
        """Book blocks for decoding sequences; ``False`` (and no change) when too few are free."""

    def computed(self, sequence_id: int, tokens: int) -> None:
        """The first ``tokens`` of the prompt are in the cache now and may be shared."""

    def shared_blocks(self, sequence_id: int) -> int:
        """Blocks of a sequence that others use too, and that would stay if it were freed."""

    def free(self, sequence_id: int, num_blocks: int) -> None:
        """Return everything of a sequence that holds ``num_blocks`` blocks in all."""

    def check_integrity(self, held_blocks: int) -> None:
        """Raise AssertionError unless the books agree with ``held_blocks``, the sum of the blocks
        that all live sequences hold."""
