"""The oracle: the only part of a simulation that knows true answer lengths."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Final

from penstock.core.heaps import heappop, heappush
from penstock.core.step import StepPlan

_NUMBER_BITS: Final = 36
_NUMBER: Final = (1 << _NUMBER_BITS) - 1


class TrueLengths:
    """True output tokens of the requests of some blocks, by number."""

    def __init__(self) -> None:
        self._first = 0
        self._tokens = array("i")

    def add(self, tokens: list[int]) -> None:
        """Take the tokens of the next requests."""
        self._tokens.extend(tokens)

    def forget_before(self, request_id: int) -> None:
        """Forget the requests before a number."""
        del self._tokens[:request_id - self._first]
        self._first = request_id

    def __getitem__(self, request_id: int) -> int:
        return self._tokens[request_id - self._first]


class Oracle:
    """Determines which requests end with a step.

    It follows decode groups through the plans' ``joined`` and ``left``: a member that joins at turn
    t with r tokens left ends at turn t + r, so one heap per group finds the next end without
    visiting other members. An entry of a heap is one number, of the turn and the request, since
    numbers compare faster than pairs.
    """

    def __init__(self, output_tokens: TrueLengths | Mapping[int, int] | Sequence[int]
                 ) -> None:
        self._outputs = output_tokens
        self._remaining: dict[int, int] = {}  # remaining tokens of requests outside groups
        self._ends: list[dict[int, int]] = []  # of each group: member -> turn of its last token
        self._heaps: list[list[int]] = []
        self._turns: list[int] = []
        self._num_gone = 0  # entries of heaps whose member has gone without an end

    def begin(self, plan: StepPlan) -> int:
        """Follow a plan that is about to run. Returns how many copies of it run until one ends a
        request.

        Zero means that no running group bounds the number.
        """
        for request_id in plan.left:
            self._leave(request_id)
        # Mostly a request joins because its prompt is complete: then its tokens are counted later.
        if len(plan.joined) > len(plan.chunks) or plan.left:
            computed = {chunk.request_id for chunk in plan.chunks}
            for request_id, group in plan.joined:
                if request_id not in computed and request_id in self._remaining:
                    self._join(request_id, group, self._remaining.pop(request_id))
        steps = 0
        for group in plan.groups:
            heap = self._live_heap(group)
            if heap:
                until = (heap[0] >> _NUMBER_BITS) - self._turns[group]
                steps = until if not steps else min(steps, until)
        return steps

    def settle(self, plan: StepPlan, num_steps: int) -> tuple[int, ...]:
        """The plan ran ``num_steps`` times. Returns the requests that ended with the last copy."""
        finished: list[int] = []
        for group in plan.groups:
            turn = self._turns[group] = self._turns[group] + num_steps
            heap, later = self._heaps[group], (turn + 1) << _NUMBER_BITS
            while heap and heap[0] < later:
                entry = heappop(heap)
                request_id = entry & _NUMBER
                if self._num_gone and self._has_gone(group, entry):
                    self._num_gone -= 1
                else:
                    del self._ends[group][request_id]
                    finished.append(request_id)
        if plan.joined:
            place = 0  # requests join in the order of their chunks, after those that moved
            for chunk in plan.chunks:
                if chunk.last:
                    while plan.joined[place][0] != chunk.request_id:
                        place += 1
                    self._first_token(chunk.request_id, plan.joined[place][1], finished)
        return tuple(finished)

    def _first_token(self, request_id: int, group: int, finished: list[int]) -> None:
        """A completed prompt yields a token, then the request decodes or ends."""
        remaining = self._remaining.pop(request_id, None)
        if remaining is None:
            remaining = self._outputs[request_id]
        if remaining == 1:
            finished.append(request_id)
        else:
            self._join(request_id, group, remaining - 1)

    def _join(self, request_id: int, group: int, remaining: int) -> None:
        self._room(group)
        self._enter(request_id, group, self._turns[group] + remaining)

    def _room(self, group: int) -> None:
        while len(self._heaps) <= group:
            self._heaps.append([])
            self._ends.append({})
            self._turns.append(0)

    def _enter(self, request_id: int, group: int, end: int) -> None:
        self._ends[group][request_id] = end
        heappush(self._heaps[group], end << _NUMBER_BITS | request_id)

    def _leave(self, request_id: int) -> None:
        # A request in no group ended in a step that was in flight when it left.
        for group, ends in enumerate(self._ends):
            end = ends.pop(request_id, -1)
            if end >= 0:
                self._num_gone += 1
                self._remaining[request_id] = end - self._turns[group]

    def _live_heap(self, group: int) -> list[int]:
        if group >= len(self._heaps):
            return []
        heap = self._heaps[group]
        while self._num_gone and heap and self._has_gone(group, heap[0]):
            heappop(heap)
            self._num_gone -= 1
        return heap

    def _has_gone(self, group: int, entry: int) -> bool:
        return self._ends[group].get(entry & _NUMBER, -1) != entry >> _NUMBER_BITS

    def limit(self, request_id: int, tokens: int) -> None:
        """Let a request that has not begun end after so many tokens."""
        self._remaining[request_id] = tokens

    def forget(self, request_id: int) -> None:
        """Forget a request that was aborted or shed."""
        for ends in self._ends:
            if ends.pop(request_id, -1) >= 0:
                self._num_gone += 1
        self._remaining.pop(request_id, None)
