"""Accounting of the KV cache by sequence, and the choice of victims when the cache runs out."""

from collections.abc import Iterable

from penstock.core.units import ceil_div
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.schedule.groups import DecodeGroup
from penstock.policy.schedule.options import ReserveName
from penstock.policy.schedule.pacing import UNBOUNDED
from penstock.policy.schedule.prompts import PromptQueue
from penstock.policy.schedule.sequence import Sequence


class KvAccounting:
    """The KV blocks of a replica's sequences.

    Blocks are computed from counters. Only blocks of sequences that ended are listed: with a step
    in flight, until that step is committed, and those that are lent, until they are returned.
    """

    __slots__ = ("_by_chunk", "_ending", "_evicted", "_groups", "_lent", "_prompts", "_reserve",
                 "committed", "kv", "late")

    def __init__(self, kv: KvAllocator, groups: list[DecodeGroup], prompts: PromptQueue,
                 reserve: ReserveName = "prompt", late_results: bool = False) -> None:
        self.kv = kv
        self.committed = -1  # the latest committed step
        self._reserve = reserve
        self._by_chunk = reserve in ("chunk", "prompt_fits")
        self.late = late_results
        self._groups = groups
        self._prompts = prompts
        self._ending: list[Sequence] = []
        self._lent: dict[int, Sequence] = {}
        self._evicted = False  # whether the latest turn's growth evicted cached blocks

    @property
    def awaits_steps(self) -> bool:
        """Whether blocks of ended sequences wait for a step in flight."""
        return bool(self._ending) and not self.late

    @property
    def num_late(self) -> int:
        """Sequences that have ended, but keep their seats until their ends are known."""
        return len(self._ending) if self.late else 0

    @property
    def ending_blocks(self) -> int:
        """Blocks that return with the step in flight, those that others share left out."""
        if not self._ending:
            return 0
        return sum([s.start_blocks - self.kv.shared_blocks(s.request.request_id)
                    for s in self._ending if not s.request.lends])

    def start(self, sequence: Sequence, tokens: int, spare_blocks: int) -> bool:
        """Book the KV cache that a sequence needs to start with up to ``tokens`` of its prompt.
        Returns whether there was room. Tokens that another replica computed need room, too."""
        request = sequence.request
        room = sequence.prompt_target
        tokens += sequence.computed
        if self._reserve == "max_tokens":
            room = request.prompt_tokens + request.max_tokens
        elif self._reserve == "chunk":
            room = 0
        cached = self.kv.allocate(request.request_id, sequence.prompt_target, room,
                                  request.prefix_hashes, request.hash_block_tokens, spare_blocks,
                                  tokens if self._by_chunk else 0)
        if cached is None:
            return False
        if self._by_chunk:
            room = min(sequence.prompt_target, cached + tokens)
        sequence.computed = sequence.cached = max(cached, sequence.computed)
        sequence.start_blocks = ceil_div(room, self.kv.block_tokens)
        if self._reserve == "max_tokens":
            sequence.reserved_blocks = sequence.start_blocks
        return True

    def extend(self, sequence: Sequence, tokens: int) -> bool:
        """Book blocks for the first ``tokens`` of a started prompt. Returns whether there was room.
        Where prompts take blocks chunk by chunk, other prompts of the step share them at once."""
        if not self._by_chunk:
            return True
        more = max(0, ceil_div(tokens, self.kv.block_tokens) - sequence.start_blocks)
        if more and not self.kv.grow(more):
            return False
        sequence.start_blocks += more
        self.kv.computed(sequence.request.request_id, tokens)
        return True

    def more_for_chunk(self, sequence: Sequence, tokens: int) -> int:
        """Return the blocks that so many more tokens of a prompt that is being computed take."""
        if not self._by_chunk:
            return 0
        blocks = ceil_div(sequence.computed + tokens, self.kv.block_tokens)
        return max(0, blocks - sequence.start_blocks)

    def chunks_with_room(self, tokens: int, groups: tuple[int, ...]) -> int:
        """Return for how many more steps there surely is room for a chunk of ``tokens`` and a turn
        of these groups in each."""
        if not self._by_chunk:
            return self.kv.total_blocks
        return self.kv.free_blocks // (ceil_div(tokens, self.kv.block_tokens) + 1
                                       + self._most_blocks(groups))

    def _most_blocks(self, groups: tuple[int, ...]) -> int:
        """Blocks that these groups may need in a turn."""
        blocks = 0
        for index in groups:
            blocks += len(self._groups[index].members) * self._groups[index].most_blocks
        return blocks

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

    def growth(self, groups: tuple[int, ...], turns: int = 1) -> int:
        """Blocks that these groups need for so many turns."""
        blocks = 0
        for index in groups:
            blocks += self._groups[index].growth(turns)
        return blocks

    def book_turn(self, groups: tuple[int, ...]) -> bool:
        """Book the growth of a turn of these groups. Returns whether there was room."""
        growth = self.growth(groups)
        self._evicted = growth > self.kv.unused_blocks
        return self.kv.grow(growth)

    def turns_with_room(self, groups: tuple[int, ...]) -> int:
        """Return the turns until the growth of these groups might not fit, the present one (already
        booked) included."""
        return self._turns_in(self.kv.free_blocks, groups)

    def turns_without_room(self, sequence: Sequence, groups: tuple[int, ...]) -> int:
        """Return the turns of these groups, the present one included, in which a prompt that found
        no room surely finds none. A prompt that takes blocks for its chunk alone needs less room
        once a cached hash of it is evicted, which may free more blocks than the growth takes."""
        if self._reserve != "chunk" or sequence.request.hash_block_tokens <= self.kv.block_tokens:
            return UNBOUNDED
        return 1 if self._evicted else self._turns_in(self.kv.unused_blocks, groups)

    def _turns_in(self, free: int, groups: tuple[int, ...]) -> int:
        most = self._most_blocks(groups)
        if free >= most:  # a sequence crosses into a new block once in turns_per_block turns
            turns = self._groups[groups[0]].turns_per_block()
            for index in groups:
                turns = min(turns, self._groups[index].turns_per_block())
            return 1 + free // most * turns
        turns = 0
        while (turns < self.kv.block_tokens
               and sum([self._groups[g].growth(turns + 1) for g in groups]) <= free):
            turns += 1
        return 1 + turns

    def victims(self, sequences: Iterable[Sequence],
                groups: tuple[int, ...]) -> list[Sequence] | None:
        """Return the fewest worst-ranked of ``sequences`` whose KV cache lets ``groups`` take a
        turn.

        Returns None when their blocks do not suffice, so that room can only come from steps in
        flight.
        """
        holders = [s for s in sequences
                   if (s.started or s.join_turn >= 0) and not self.uncommitted(s)]
        late = [s for s in self._ending if not s.request.lends] if self.late else []
        holders += late
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
        everyone = len(chosen) == len(late) + sum(
            [1 for s in sequences if s.started or s.join_turn >= 0])
        return chosen if needed <= 0 or (everyone and (self.late or not self._ending)) else None

    def last_prompt(self, sequences: Iterable[Sequence]) -> Sequence | None:
        """Return the worst-ranked prompt with KV cache, None if a step in flight computes it."""
        started = [s for s in sequences if s.started]
        worst = max(started, key=self._prompts.rank)
        return None if self.uncommitted(worst) else worst

    def free(self, sequence: Sequence, num_blocks: int, *, in_flight: bool) -> None:
        """Give blocks back, now or when the sequence's last step is committed."""
        if in_flight:
            sequence.start_blocks = num_blocks
            self._ending.append(sequence)
        elif num_blocks:
            self._give_back(sequence, num_blocks)

    def preempt(self, sequence: Sequence, num_blocks: int) -> None:
        """Free the blocks of a live sequence, which has left its group. The result of a step in
        flight is not known yet."""
        stored = self._stored_tokens(sequence)
        if self.late and sequence.computed >= sequence.prompt_target:
            stored = max(sequence.prompt_target, stored - 1)
        self.kv.free(sequence.request.request_id, num_blocks, stored)

    def _give_back(self, sequence: Sequence, num_blocks: int) -> None:
        if sequence.request.lends and sequence.generated:
            sequence.start_blocks = num_blocks
            self._lent[sequence.request.request_id] = sequence
        else:
            self.kv.free(sequence.request.request_id, num_blocks, self._stored_tokens(sequence))

    def returned(self, request_id: int) -> bool:
        """Free the blocks of a lent sequence, or let them be freed where they wait for a step in
        flight. Returns whether the sequence was lent."""
        sequence = self._lent.pop(request_id, None)
        if sequence is not None:
            self.kv.free(request_id, sequence.start_blocks, self._stored_tokens(sequence))
            return True
        for ending in self._ending:
            if ending.request.request_id == request_id:
                ending.request = ending.request._replace(lends=False)
                return True
        return False

    def _stored_tokens(self, sequence: Sequence) -> int:
        """Return the tokens in the KV cache of a sequence that is in no group."""
        if sequence.computed < sequence.prompt_target:
            return sequence.computed
        return sequence.request.prompt_tokens + sequence.generated - 1

    def release(self, sequence: Sequence) -> None:
        """Free the blocks of a sequence that has ended, before its end is known."""
        self._ending.remove(sequence)
        self._give_back(sequence, sequence.start_blocks)

    def settle_idle(self) -> bool:
        """Free what waits for late results, which are known when nothing runs. Returns whether
        anything did."""
        late = self.num_late
        for sequence in self._ending[:late]:
            self.release(sequence)
        return late > 0

    def settle(self) -> None:
        """A step was committed: free the blocks that waited for it."""
        waiting = self._ending
        if waiting:
            self._ending = [s for s in waiting if s.last_step > self.committed]
            for sequence in waiting:
                if sequence.last_step <= self.committed:
                    self._give_back(sequence, sequence.start_blocks)

    def check_integrity(self, sequences: Iterable[Sequence]) -> None:
        """Raise AssertionError unless the allocator's books agree with the sequences."""
        held = sum(self.blocks(s) for s in sequences) + sum(
            s.start_blocks for s in (*self._ending, *self._lent.values()))
        self.kv.check_integrity(held)
