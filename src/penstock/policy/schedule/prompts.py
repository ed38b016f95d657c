"""Prompts that are not fully computed, best first."""

from collections.abc import Iterable

from penstock.core.heaps import heapify, heappop, heappush, heapreplace
from penstock.policy.schedule.order import OrderKey
from penstock.policy.schedule.programs import Programs
from penstock.policy.schedule.sequence import Sequence

Rank = tuple[bool, float, int, Sequence]


class PromptQueue:
    """Two heaps with one order: prompts without KV cache, and prompts that hold some.

    They are separate because only the former need room to start. An entry whose sequence changed
    rank or state since it was pushed is dropped when it reaches the top.
    """

    __slots__ = ("_order", "_programs", "_started", "_waiting")

    def __init__(self, order: OrderKey) -> None:
        self._order = order
        self._programs = Programs()
        self._waiting: list[Rank] = []
        self._started: list[Rank] = []

    def rank(self, sequence: Sequence) -> Rank:
        """Return the sort key of a sequence: relegated ones last, then the order's key, then
        age."""
        return sequence.relegated, self._order(sequence), sequence.serial, sequence

    def at(self, now_s: float) -> None:
        """A step is planned at this time."""

    @property
    def awaits_time(self) -> bool:
        """Whether another prompt may be the best later on, though nothing else has changed."""
        return False

    def wait(self, sequence: Sequence) -> None:
        """A sequence without KV enters, or changed rank."""
        if sequence.attained < 0.0:
            sequence.attained = self._programs.attained(sequence.request)
        heappush(self._waiting, self._entry(sequence))

    def end(self, sequence: Sequence) -> None:
        """A sequence is over: its service counts for its session's next requests."""
        sequence.ended = True
        self._programs.served(sequence)

    def begin(self, sequence: Sequence) -> None:
        """The best waiting sequence got its KV."""
        heappop(self._waiting)
        heappush(self._started, self._entry(sequence))

    def advance(self, sequence: Sequence) -> None:
        """The best started sequence computed a part of its prompt, which may change its rank."""
        heapreplace(self._started, self._entry(sequence))

    def complete(self) -> None:
        """The best started sequence computed the rest of its prompt."""
        heappop(self._started)

    def rebuild(self, sequences: Iterable[Sequence]) -> None:
        """Rebuild both heaps from these sequences after arbitrary changes of rank or state."""
        unfinished = [s for s in sequences if s.join_turn < 0]
        self._waiting = [self._entry(s) for s in unfinished if not s.started]
        self._started = [self._entry(s) for s in unfinished if s.started]
        heapify(self._waiting)
        heapify(self._started)

    def _entry(self, sequence: Sequence) -> Rank:
        found = self.rank(sequence)
        sequence.key = found[1]
        return found

    def best_waiting(self) -> Sequence | None:
        """The best sequence without KV."""
        return live_head(self._waiting, started=False)

    def best_started(self) -> Sequence | None:
        """The best sequence whose prompt is partly computed."""
        return live_head(self._started, started=True)

    def best(self) -> Sequence | None:
        """The better of the two."""
        waiting, started = self.best_waiting(), self.best_started()
        if waiting is None or started is None:
            return started if waiting is None else waiting
        return waiting if self._waiting[0] < self._started[0] else started


def live_head(heap: list[Rank], *, started: bool) -> Sequence | None:
    """Return the best sequence of a heap, without entries that are out of date."""
    while heap:
        relegated, key, _, sequence = heap[0]
        if (not sequence.ended and sequence.started is started
                and sequence.relegated is relegated and sequence.key == key):
            return sequence
        heappop(heap)
    return None
