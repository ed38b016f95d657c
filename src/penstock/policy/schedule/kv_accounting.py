"""Accounting of the KV cache by sequence, and the choice of victims when the cache runs out."""

from collections.abc import Iterable

from penstock.core.units import ceil_div
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.schedule.groups import DecodeGroup
from penstock.policy.schedule.prompts import PromptQueue
from penstock.policy.schedule.sequence import Sequence


class KvAccounting:
    """The KV blocks of a replica's sequences.

    Blocks are computed from counters. Only blocks of sequences that ended with a step in flight are
    listed, until that step is committed.
    """

    __slots__ = ("_ending", "_groups", "_prompts", "committed", "kv")

    def __init__(self, kv: KvAllocator, groups: list[DecodeGroup], prompts: PromptQueue) -> None:
        self.kv = kv
        self.committed = -1  # the latest committed step
        self._groups = groups
        self._prompts = prompts
        self._ending: list[Sequence] = []

    @property
    def any_ending(self) -> bool:
        """Whether blocks of ended sequences wait for a step in flight."""
        return bool(self._ending)

    def blocks(self, sequence: Sequence) -> int:
        """KV blocks that a sequence holds."""
        if sequence.reserved_blocks:
            return sequence.reserved_blocks
        if sequence.join_turn < 0:
            return sequence.start_blocks
        stored = self._groups[sequence.group].stored_tokens(sequence)
        return max(sequence.start_blocks, ceil_div(stored, self.kv.block_tokens))

    def last_step(self, sequence: Sequence) -> int:
        """The latest planned step that computed anything of a sequence."""
        if sequence.join_turn >= 0:
            group = self._groups[sequence.group]
            if group.turns > sequence.join_turn:
                return max(sequence.last_step, group.last_step)
        return sequence.last_step

    def uncommitted(self, sequence: Sequence) -> bool:
        """Whether a step in flight computes something of a sequence."""
        return self.last_step(sequence) > self.committed

    def growth(self, groups: tuple[int, ...]) -> int:
        """Blocks that these groups need for one turn."""
        blocks = 0
        for index in groups:
            blocks += self._groups[index].growth(1)
        return blocks

    def victims(self, sequences: Iterable[Sequence],
                groups: tuple[int, ...]) -> list[Sequence] | None:
        """Return the fewest worst-ranked of ``sequences`` whose KV cache lets ``groups`` take a
        turn.

        Returns None when their blocks do not suffice, so that room can only come from steps in
        flight.
        """
        holders = [s for s in sequences
                   if (s.started or s.join_turn >= 0) and not self.uncommitted(s)]
        holders.sort(key=self._prompts.rank, reverse=True)
        needed = self.growth(groups) - self.kv.free_blocks
        chosen: list[Sequence] = []
        for sequence in holders:
            if needed <= 0:
                break
            chosen.append(sequence)
            shared = self.kv.shared_blocks(sequence.request.request_id)
            needed -= self.blocks(sequence) - shared
            if sequence.join_turn >= 0 and sequence.group in groups:
                needed -= self._groups[sequence.group].growth_of(sequence)
        # Blocks shared among victims return with the last of them, so the sum may fall short.
        everyone = len(chosen) == sum(1 for s in sequences if s.started or s.join_turn >= 0)
        return chosen if needed <= 0 or (everyone and not self._ending) else None

    def free(self, sequence: Sequence, num_blocks: int, *, in_flight: bool) -> None:
        """Give blocks back, now or when the sequence's last step is committed."""
        if in_flight:
            sequence.start_blocks = num_blocks
            self._ending.append(sequence)
        elif num_blocks:
            self.kv.free(sequence.request.request_id, num_blocks)

    def settle(self) -> None:
        """A step was committed: free the blocks that waited for it."""
        waiting = self._ending
        if waiting:
            self._ending = [s for s in waiting if s.last_step > self.committed]
            for sequence in waiting:
                if sequence.last_step <= self.committed:
                    self.kv.free(sequence.request.request_id, sequence.start_blocks)

    def check_integrity(self, sequences: Iterable[Sequence]) -> None:
        """Raise AssertionError unless the allocator's books agree with the sequences."""
        held = sum(self.blocks(s) for s in sequences) + sum(s.start_blocks for s in self._ending)
        self.kv.check_integrity(held)
