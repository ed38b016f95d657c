"""Prompts of a replica with adapters (LoRA): which may start, and who gets the next free place."""

from collections.abc import Iterable
from heapq import heappop, heappush

from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.order import OrderKey
from penstock.policy.schedule.prompts import PromptQueue, Rank, live_head
from penstock.policy.schedule.sequence import Sequence


class AdapterPrompts(PromptQueue):
    """Prompts of which one starts only when its adapter is in use or a place is free. A prompt that
    may not start is passed over: it waits apart, so that later ones may start, as in vLLM
    (docs/howto/simulate-lora-adapters.md).

    The oldest prompt whose adapter has no place is late once it came ``wait_s`` ago. The next free
    place is then kept for its adapter. Until a place is free, the adapter with the fewest started
    sequences is drained: its younger prompts may not start. The order of prompts stays as it is,
    and relegated prompts are never late. With None, no prompt is ever late.
    """

    __slots__ = ("_changed", "_drained", "_due_s", "_holding", "_now_s", "_oldest", "_passed",
                 "_store", "_unstarted", "_wait_s")

    def __init__(self, order: OrderKey, store: AdapterStore, wait_s: float | None = None) -> None:
        super().__init__(order)
        self._store = store
        self._wait_s = wait_s
        self._holding: set[int] = set()  # serial numbers of started sequences with an adapter
        self._passed: dict[str, list[Rank]] = {}  # heaps by adapter
        self._unstarted: dict[str, list[tuple[float, int, Sequence]]] = {}  # by age, by adapter
        self._oldest: Sequence | None = None  # among prompts whose adapters have no place
        self._due_s = 0.0  # when the oldest is late
        self._changed = False  # whether another one may be the oldest
        self._drained = ""
        self._now_s = 0.0  # when the latest step was planned

    def wait(self, sequence: Sequence) -> None:
        adapter = sequence.request.adapter
        if adapter:
            if sequence.attained < 0.0:  # it is new
                self._store.arrived(adapter, sequence.request.arrival_s)
            self._release(sequence)
            if self._wait_s is not None:
                self._age(sequence, self._wait_s)
        super().wait(sequence)

    def _age(self, sequence: Sequence, wait_s: float) -> None:
        """An unstarted sequence enters, was relegated or is restored."""
        if sequence is self._oldest:
            self._changed = True
        if not sequence.relegated:
            came_s, adapter = sequence.request.arrival_s, sequence.request.adapter
            heappush(self._unstarted.setdefault(adapter, []), (came_s, sequence.serial, sequence))
            if adapter not in self._store.users and (self._oldest is None
                                                     or came_s + wait_s <= self._due_s):
                self._changed = True

    def end(self, sequence: Sequence) -> None:
        super().end(sequence)
        adapter = sequence.request.adapter
        if adapter:
            if sequence is self._oldest:
                self._changed = True
            self._release(sequence)
            num = self._store.requests[adapter] - 1
            if num:
                self._store.requests[adapter] = num
            else:
                del self._store.requests[adapter]

    def _release(self, sequence: Sequence) -> None:
        if sequence.serial in self._holding:
            self._holding.remove(sequence.serial)
            self._store.leave(sequence.request.adapter)
            self._changed |= sequence.request.adapter not in self._store.users

    def begin(self, sequence: Sequence) -> None:
        super().begin(sequence)
        adapter = sequence.request.adapter
        if not adapter:
            return
        self._holding.add(sequence.serial)
        first = self._store.start(adapter)
        if adapter in self._unstarted:
            self._oldest_unstarted(adapter)  # forgets those that have started
        if first:
            self._recall(adapter)
            self._changed = True
            self.at(self._now_s)

    def rebuild(self, sequences: Iterable[Sequence]) -> None:
        self._passed.clear()  # all of them are among the sequences
        super().rebuild(sequences)

    def at(self, now_s: float) -> None:
        if self._wait_s is None:
            return
        self._now_s = now_s
        oldest, drained = self._oldest, self._drained
        if self._changed:
            self._find_oldest(self._wait_s)
        users = self._store.users
        self._drained = ""
        if self._late and not self._store.has_place:
            self._drained = min(users, key=users.__getitem__)
        if drained and (drained != self._drained or oldest is not self._oldest):
            self._recall(drained)

    @property
    def _late(self) -> bool:
        return self._oldest is not None and self._now_s >= self._due_s

    @property
    def awaits_time(self) -> bool:
        """Whether later on another prompt may be the best, though nothing else has changed."""
        return self._oldest is not None and not self._late

    def _find_oldest(self, wait_s: float) -> None:
        self._changed = False
        self._oldest = None
        for adapter in list(self._unstarted):
            if adapter in self._store.users:
                continue
            found = self._oldest_unstarted(adapter)
            if found is not None and (self._oldest is None or _older(found, self._oldest)):
                self._oldest = found
                self._due_s = found.request.arrival_s + wait_s

    def _oldest_unstarted(self, adapter: str) -> Sequence | None:
        """Return the oldest of an adapter's prompts that are neither started nor relegated."""
        heap = self._unstarted[adapter]
        while heap:
            sequence = heap[0][2]
            if not (sequence.ended or sequence.started or sequence.relegated
                    or sequence.join_turn >= 0):
                return sequence
            heappop(heap)
        del self._unstarted[adapter]
        return None

    def _may_start(self, sequence: Sequence) -> bool:
        adapter = sequence.request.adapter
        if not adapter:
            return True
        oldest = self._oldest
        if adapter in self._store.users:
            return adapter != self._drained or oldest is None or _older(sequence, oldest)
        return self._store.has_place and (oldest is None or not self._late
                                          or adapter == oldest.request.adapter)

    def best_waiting(self) -> Sequence | None:
        while True:
            best = live_head(self._waiting, started=False)
            if self._passed and self._store.has_place:
                best = self._recall_best(best)
            if best is None or self._may_start(best):
                return best
            rank = heappop(self._waiting)
            heappush(self._passed.setdefault(best.request.adapter, []), rank)

    def _recall(self, adapter: str) -> None:
        """Let the prompts of an adapter that were passed over wait with the others."""
        for rank in self._passed.pop(adapter, ()):
            heappush(self._waiting, rank)

    def _recall_best(self, best: Sequence | None) -> Sequence | None:
        """Return the better of ``best``, which heads the waiting prompts, and those passed over
        whose adapter may take a free place."""
        adapter, least = "", None
        for name, heap in list(self._passed.items()):
            head = live_head(heap, started=False)
            if head is None:
                del self._passed[name]
            elif (least is None or heap[0] < least) and self._may_start(head):
                adapter, least = name, heap[0]
        if least is None or (best is not None and not least < self._waiting[0]):
            return best
        heappush(self._waiting, heappop(self._passed[adapter]))
        return least[3]


def _older(one: Sequence, other: Sequence) -> bool:
    """Whether ``one`` came before ``other``."""
    return (one.request.arrival_s, one.serial) < (other.request.arrival_s, other.serial)
