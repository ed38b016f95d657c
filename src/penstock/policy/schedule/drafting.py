"""Speculative decoding as a scheduler sees it: depths, and the tokens that turns are believed to
give."""

from collections.abc import Mapping
from typing import NamedTuple

from penstock.core.draft_depth import DraftDepth
from penstock.core.slo import ServiceClass
from penstock.core.step import CONTEXT_PARTS, Drafted
from penstock.core.units import ceil_div
from penstock.policy.schedule.groups import DecodeGroup
from penstock.policy.schedule.sequence import Sequence


class Drafting(NamedTuple):
    """Depth of drafting, and believed parts (1/``CONTEXT_PARTS``) of a token that a decode gains in
    a turn, by service class and depth; the empty name has those of other classes."""

    depth: DraftDepth
    parts: Mapping[str, tuple[int, ...]]

    def parts_of(self, service_class: str, depth: int) -> int:
        """Return the parts that a decode of a class gains in a turn of so many drafts."""
        found = self.parts.get(service_class)
        return (self.parts[""] if found is None else found)[depth]


class DraftedGroup(DecodeGroup):
    """A decode group whose members gain the believed number of tokens in each turn.

    An engine reports which drafts were accepted only with the tokens, and no two members gain the
    same number. The group lets each member gain the mean instead, in parts of a token: sums over
    members are right on average, and turns remain O(1). A sequence that leaves its group has the
    next whole number of tokens, which has as many blocks.
    """

    __slots__ = ("_at", "_context_parts", "_given", "_parts", "_service_class")

    def __init__(self, block_tokens: int, itl_s: float | None, strict: bool,
                 service_class: str) -> None:
        super().__init__(block_tokens, itl_s, strict)
        self._service_class = service_class
        self._given = 0  # parts that a member from the beginning has gained
        self._parts = CONTEXT_PARTS  # that a member gains in a turn
        self._at: list[int] = [0] * (block_tokens * CONTEXT_PARTS)  # as _phases, in parts
        self._context_parts = 0

    @property
    def context_parts(self) -> int:
        """Parts of the context that the next turn reads."""
        return self._context_parts

    @property
    def growth_parts(self) -> int:
        """Parts by which a turn lets the context grow."""
        return self._parts * len(self.members)

    def draft(self, drafting: Drafting, depth: int) -> None:
        """Let the next turns be of so many drafts."""
        parts = drafting.parts_of(self._service_class, depth)
        if parts == self._parts:
            return
        self._parts = parts
        self.turn_tokens = parts / CONTEXT_PARTS
        if self.itl_s is not None and not self.strict:
            self.turn_s = self.itl_s * self.turn_tokens
        self.most_blocks = ceil_div(parts, self.block_tokens * CONTEXT_PARTS)

    def empty(self) -> DecodeGroup:
        return DraftedGroup(self.block_tokens, self.itl_s, False, self._service_class)

    def join(self, sequence: Sequence) -> None:
        sequence.join_turn = self.turns
        sequence.join_parts = self._given
        self.members[sequence.request.request_id] = sequence
        stored = sequence.request.prompt_tokens + sequence.generated - 1
        self._context_parts += (stored + 1) * CONTEXT_PARTS
        self.prompt_tokens += sequence.request.prompt_tokens
        if not sequence.reserved_blocks:
            self._at[(stored * CONTEXT_PARTS - self._given) % len(self._at)] += 1
        self._ids = None
        self.context_tokens = self._context_parts // CONTEXT_PARTS

    def leave(self, sequence: Sequence) -> None:
        del self.members[sequence.request.request_id]
        stored_parts = self._stored_parts(sequence)
        self._context_parts -= stored_parts + CONTEXT_PARTS
        self.prompt_tokens -= sequence.request.prompt_tokens
        if not sequence.reserved_blocks:
            self._at[(stored_parts - self._given) % len(self._at)] -= 1
        sequence.generated += ceil_div(self._given - sequence.join_parts, CONTEXT_PARTS)
        sequence.join_turn = -1
        self._watches_departed = True
        self._ids = None
        self.context_tokens = self._context_parts // CONTEXT_PARTS

    def advance(self, num_turns: int) -> None:
        self.turns += num_turns
        self._given += num_turns * self._parts
        self._context_parts += num_turns * self.growth_parts
        self.context_tokens = self._context_parts // CONTEXT_PARTS

    def growth(self, num_turns: int) -> int:
        # A member that holds s parts has s / size blocks, rounded up; the next part takes a new
        # block where s is a multiple of the size.
        at, size = self._at, len(self._at)
        cycles, rest = divmod(num_turns * self._parts, size)
        first = (-self._given - rest + 1) % size
        end = first + rest
        blocks = sum(at[first:end])
        if end > size:
            blocks += sum(at[:end - size])
        return blocks + (cycles * sum(at) if cycles else 0)

    def turns_per_block(self) -> int:
        return max(1, self.block_tokens * CONTEXT_PARTS // self._parts)

    def growth_of(self, sequence: Sequence) -> int:
        if sequence.reserved_blocks:
            return 0
        stored, size = self._stored_parts(sequence), len(self._at)
        return ceil_div(stored + self._parts, size) - ceil_div(stored, size)

    def gained(self, num_turns: int) -> int:
        return num_turns * self._parts // CONTEXT_PARTS

    def generated(self, sequence: Sequence) -> int:
        return sequence.generated + ceil_div(self._given - sequence.join_parts, CONTEXT_PARTS)

    def stored_tokens(self, sequence: Sequence) -> int:
        return ceil_div(self._stored_parts(sequence), CONTEXT_PARTS)

    def _stored_parts(self, sequence: Sequence) -> int:
        stored = sequence.request.prompt_tokens + sequence.generated - 1
        return stored * CONTEXT_PARTS + self._given - sequence.join_parts

    def check_integrity(self) -> None:
        parts = sum([self._stored_parts(s) + CONTEXT_PARTS for s in self.members.values()])
        assert self._context_parts == parts, (self._context_parts, parts)
        assert self.context_tokens == parts // CONTEXT_PARTS
        counted = sum([1 for s in self.members.values() if not s.reserved_blocks])
        assert sum(self._at) == counted, (sum(self._at), counted)

    def watch(self, sequence: Sequence, next_due_s: float) -> None:
        assert self.itl_s is not None
        base_s = next_due_s - self.itl_s * (self._given / CONTEXT_PARTS)
        self._hold(base_s, sequence)

    def next_due_s(self) -> float | None:
        if self.strict:
            return super().next_due_s()
        self._drop_departed()
        if not self._due or self.itl_s is None:
            return None
        return self._due[0][0] + self.itl_s * (self._given / CONTEXT_PARTS)


def decode_group(drafting: Drafting | None, block_tokens: int, itl_s: float | None,
                 first: ServiceClass) -> DecodeGroup:
    """Return the empty decode group of a service class and of those with equal targets."""
    strict = first.slo.itl == "strict" and first.slo.itl_s is not None
    if drafting is None:
        return DecodeGroup(block_tokens, itl_s, strict)
    return DraftedGroup(block_tokens, itl_s, strict, first.name)


def set_depth(drafting: Drafting, groups: list[DecodeGroup], running: tuple[int, ...]) -> int:
    """Let the running groups draft as deep as their decodes together allow. Returns the depth."""
    depth = drafting.depth.at(sum([len(groups[index].members) for index in running]))
    for index in running:
        group = groups[index]
        assert isinstance(group, DraftedGroup)
        group.draft(drafting, depth)
    return depth


def drafted(groups: list[DecodeGroup], running: tuple[int, ...], depth: int) -> Drafted:
    """Return what the plan of a step says of its drafts, before its turn is counted."""
    context = growth = 0
    for index in running:
        group = groups[index]
        assert isinstance(group, DraftedGroup)
        context += group.context_parts
        growth += group.growth_parts
    return Drafted(depth, context, growth)
