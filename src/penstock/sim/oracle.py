"""The oracle: the only part of a simulation that knows true answer lengths."""

import heapq
from array import array
from collections.abc import Mapping, Sequence

from penstock.core.step import StepPlan


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
    visiting other members.
    """

    def __init__(self, output_tokens: TrueLengths | Mapping[int, int] | Sequence[int]
                 ) -> None:
        self._outputs = output_tokens
        self._remaining: dict[int, int] = {}  # remaining tokens of requests outside groups
        self._end: dict[int, tuple[int, int]] = {}  # member -> (group, turn of its last token)
        self._heaps: list[list[tuple[int, int]]] = []
        self._turns: list[int] = []

    def begin(self, plan: StepPlan) -> int:
        """Follow a plan that is about to run. Returns how many copies of it run until one ends a
        request.

        Zero means that no running group bounds the number.
        """
        for request_id in plan.left:
            self._leave(request_id)
        if plan.joined:
            computed = {chunk.request_id for chunk in plan.chunks}
            for request_id, group in plan.joined:
                if request_id not in computed and request_id in self._remaining:
                    self._join(request_id, group, self._remaining.pop(request_id))
        steps = 0
        for group in plan.groups:
            heap = self._live_heap(group)
            if heap:
                until = heap[0][0] - self._turns[group]
                steps = until if not steps else min(steps, until)
        return steps

    def settle(self, plan: StepPlan, num_steps: int) -> tuple[int, ...]:
        """The plan ran ``num_steps`` times. Returns the requests that ended with the last copy."""
        finished: list[int] = []
        for group in plan.groups:
            turn = self._turns[group] = self._turns[group] + num_steps
            heap = self._heaps[group]
            while heap and heap[0][0] <= turn:
                end, request_id = heapq.heappop(heap)
                if self._end.get(request_id) == (group, end):
                    del self._end[request_id]
                    finished.append(request_id)
        if plan.joined:
            group_of = dict(plan.joined)
            for chunk in plan.chunks:
                if chunk.last:
                    self._first_token(chunk.request_id, group_of[chunk.request_id], finished)
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
        while len(self._heaps) <= group:
            self._heaps.append([])
            self._turns.append(0)
        end = self._turns[group] + remaining
        self._end[request_id] = (group, end)
        heapq.heappush(self._heaps[group], (end, request_id))

    def _leave(self, request_id: int) -> None:
        ending = self._end.pop(request_id, None)
        if ending is not None:  # otherwise it ended in a step that was in flight when it left
            self._remaining[request_id] = ending[1] - self._turns[ending[0]]

    def _live_heap(self, group: int) -> list[tuple[int, int]]:
        if group >= len(self._heaps):
            return []
        heap = self._heaps[group]
        while heap and self._end.get(heap[0][1]) != (group, heap[0][0]):
            heapq.heappop(heap)
        return heap

    def limit(self, request_id: int, tokens: int) -> None:
        """Let a request that has not begun end after so many tokens."""
        self._remaining[request_id] = tokens

    def forget(self, request_id: int) -> None:
        """Forget a request that was aborted or shed."""
        self._end.pop(request_id, None)
        self._remaining.pop(request_id, None)
