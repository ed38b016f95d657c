"""Decode groups: sequences with equal targets that gain one token together at every turn."""

from typing import Final

from penstock.core.heaps import heapify, heappop, heappush
from penstock.policy.schedule.sequence import Sequence

_FEW_ENTRIES: Final = 64


class DecodeGroup:
    """The decoding sequences of service classes with equal targets.

    Each turn gives every member one token, so a turn changes counters of the group, not of its
    members: a member's context is what it had when it joined plus the turns since. Deadlines of a
    paced group move by ``itl_s`` per turn for all members alike, so their order never changes while
    they are members and a heap of constants finds the tightest. KV growth comes from a histogram
    of positions within a block that rotates with the turns. Everything is O(1) a turn and
    O(log n) per member that comes or goes.
    """

    __slots__ = (
        "_due",
        "_ids",
        "_phases",
        "_watches_departed",
        "block_tokens",
        "context_tokens",
        "itl_s",
        "last_step",
        "last_turn_s",
        "members",
        "most_blocks",
        "prompt_tokens",
        "strict",
        "turn_s",
        "turn_tokens",
        "turns",
    )

    def __init__(self, block_tokens: int, itl_s: float | None, strict: bool) -> None:
        self.block_tokens = block_tokens
        self.itl_s = itl_s
        self.strict = strict
        self.members: dict[int, Sequence] = {}
        self.turns = 0
        self.context_tokens = 0  # read by the next turn
        self.prompt_tokens = 0  # of all members
        self.last_step = -1  # the latest planned step that ran this group
        self.last_turn_s = 0.0  # when the latest turn was committed
        self.turn_tokens = 1.0  # that a member gains in a turn
        self.turn_s = itl_s  # in which the pace allows a turn
        self.most_blocks = 1  # that a member may need in a turn
        self._phases = [0] * block_tokens
        self._due: list[tuple[float, int, int, Sequence]] = []
        self._watches_departed = False  # perhaps
        self._ids: tuple[int, ...] | None = ()

    def __len__(self) -> int:
        return len(self.members)

    def join(self, sequence: Sequence) -> None:
        """Add a sequence whose prompt is computed and whose ``generated`` is up to date."""
        sequence.join_turn = self.turns
        self.members[sequence.request.request_id] = sequence
        stored = sequence.request.prompt_tokens + sequence.generated - 1
        self.context_tokens += stored + 1
        self.prompt_tokens += sequence.request.prompt_tokens
        if not sequence.reserved_blocks:
            self._phases[(stored - self.turns) % self.block_tokens] += 1
        self._ids = None

    def leave(self, sequence: Sequence) -> None:
        """Remove a member; its ``generated`` is brought up to date."""
        del self.members[sequence.request.request_id]
        sequence.generated += self.turns - sequence.join_turn
        sequence.join_turn = -1
        stored = sequence.request.prompt_tokens + sequence.generated - 1
        self.context_tokens -= stored + 1
        self.prompt_tokens -= sequence.request.prompt_tokens
        if not sequence.reserved_blocks:
            self._phases[(stored - self.turns) % self.block_tokens] -= 1
        self._watches_departed = True
        self._ids = None

    @property
    def generated_tokens(self) -> int:
        """Tokens that its members have been given, after all planned turns."""
        return self.context_tokens - self.prompt_tokens

    def empty(self) -> "DecodeGroup":
        """Return a group of the same kind without members, where no token counts as late."""
        return DecodeGroup(self.block_tokens, self.itl_s, strict=False)

    def ids(self) -> tuple[int, ...]:
        """The members' request ids in joining order."""
        if self._ids is None:
            self._ids = tuple(self.members)
        return self._ids

    def advance(self, num_turns: int) -> None:
        """Let ``num_turns`` turns pass for every member."""
        self.turns += num_turns
        self.context_tokens += num_turns * len(self.members)

    def growth(self, num_turns: int) -> int:
        """KV blocks that the next ``num_turns`` turns need."""
        if num_turns == 1:
            return self._phases[-self.turns % self.block_tokens]
        cycles = num_turns // self.block_tokens
        rest = num_turns - cycles * self.block_tokens
        blocks = cycles * sum(self._phases) if cycles else 0
        for turn in range(self.turns, self.turns + rest):
            blocks += self._phases[-turn % self.block_tokens]
        return blocks

    def turns_per_block(self) -> int:
        """Return the turns in which a member needs at most ``most_blocks`` blocks."""
        return self.block_tokens

    def growth_of(self, sequence: Sequence) -> int:
        """KV blocks that one member needs for the next turn."""
        if sequence.reserved_blocks:
            return 0
        return int(self.stored_tokens(sequence) % self.block_tokens == 0)

    def gained(self, num_turns: int) -> int:
        """Tokens that a member gains in so many turns."""
        return num_turns

    def generated(self, sequence: Sequence) -> int:
        """Tokens that a member has been given, after all planned turns."""
        return sequence.generated + self.turns - sequence.join_turn

    def stored_tokens(self, sequence: Sequence) -> int:
        """Tokens of a member in the KV cache after all planned turns."""
        progress = self.turns - sequence.join_turn
        return sequence.request.prompt_tokens + sequence.generated - 1 + progress

    def check_integrity(self) -> None:
        """Raise AssertionError unless the context is that of the members."""
        context = sum([self.stored_tokens(s) + 1 for s in self.members.values()])
        assert self.context_tokens == context, (self.context_tokens, context)

    def watch(self, sequence: Sequence, next_due_s: float) -> None:
        """Hold a member to its pace; ``next_due_s`` is the due time of its next token."""
        assert self.itl_s is not None
        self._hold(next_due_s - self.itl_s * self.turns, sequence)

    def _hold(self, base_s: float, sequence: Sequence) -> None:
        heappush(self._due, (base_s, sequence.serial, sequence.join_turn, sequence))
        # Where turns are faster than the pace, departed members never come to the top.
        if len(self._due) > 2 * len(self.members) + _FEW_ENTRIES:
            self._due = [entry for entry in self._due if self._is_live(entry)]
            heapify(self._due)

    def _is_live(self, entry: tuple[float, int, int, Sequence]) -> bool:
        """Whether the entry's sequence is a member from the same joining."""
        return (entry[3].join_turn == entry[2]
                and entry[3].request.request_id in self.members)

    def _drop_departed(self) -> None:
        due = self._due
        while self._watches_departed and due and not self._is_live(due[0]):
            heappop(due)
        self._watches_departed = False

    def next_due_s(self) -> float | None:
        """Due time of the tightest watched member's next token, or None."""
        if self.strict:
            return None if not self.members or self.itl_s is None else self.last_turn_s + self.itl_s
        self._drop_departed()
        if not self._due or self.itl_s is None:
            return None
        return self._due[0][0] + self.itl_s * self.turns

    def tightest(self) -> Sequence | None:
        """The watched member whose next token is due first."""
        self._drop_departed()
        return self._due[0][3] if self._due else None

    @property
    def earliest_end_s(self) -> float:
        """When the tightest watched member must end, in a group that is held to ends alone."""
        return self._due[0][0]

    def give_up_tightest(self) -> Sequence:
        """Stop holding the tightest watched member to its pace (it is late beyond repair)."""
        self._watches_departed = True  # the next one may have left
        return heappop(self._due)[3]
