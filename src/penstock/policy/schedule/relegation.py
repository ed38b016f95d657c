"""Relegation of waiting requests that can no longer meet their deadline: they go behind all
others."""

from collections import deque
from typing import ClassVar, Final, Protocol

from penstock.core.heaps import heappop, heappush, insort
from penstock.core.value import Value
from penstock.policy.schedule.pacing import NO_DEADLINE_S
from penstock.policy.schedule.sequence import Sequence

_FEW_ENTRIES: Final = 64


class Review(Value):
    """Changes of rank that a review decided: sequences to relegate, to restore and to shed."""

    __match_args__ = ("relegate", "restore", "shed")

    def __init__(self, relegate: list[Sequence], restore: list[Sequence],
                 shed: list[tuple[Sequence, str]]) -> None:
        self.relegate: Final = relegate
        self.restore: Final = restore
        self.shed: Final = shed


NOTHING: Final = Review([], [], [])


class Relegation(Protocol):
    """Decides when a request is moved behind all others."""

    time_dependent: bool
    next_review_s: float  # when ``review`` must be called again, infinity for never

    def admitted(self, sequence: Sequence) -> None:
        """A request was added."""

    def infeasible(self, sequence: Sequence, now_s: float) -> bool:
        """Whether to relegate the best waiting request, checked each time it is considered."""

    def review(self, now_s: float, prefill_share: float) -> Review:
        """Review the waiting requests. ``prefill_share`` is the share of the replica's time that
        its decodes leave to prompts."""

    def learn_throughput(self, prefill_tokens: int, elapsed_s: float) -> None:
        """Learn from a step that took ``elapsed_s`` from its plan to the next and computed these
        prompt tokens."""


class NeverRelegate(Relegation):
    """Every request keeps its place."""

    time_dependent: bool = False

    def __init__(self) -> None:
        self.next_review_s = float("inf")

    def admitted(self, sequence: Sequence) -> None:
        """Do nothing."""

    def infeasible(self, sequence: Sequence, now_s: float) -> bool:
        return False

    def review(self, now_s: float, prefill_share: float) -> Review:
        return NOTHING

    def learn_throughput(self, prefill_tokens: int, elapsed_s: float) -> None:
        """Do nothing, since throughput is not used."""


class AgedRelegation(NeverRelegate):
    """A request of a session with service goes behind those of sessions with less, and no longer so
    once it has waited ``starvation_s``: it then ranks by its age alone, like one of a new session.

    So whoever starts ``starvation_s`` after a request came had come before it, or starts after it.
    """

    time_dependent: bool = True

    def __init__(self, starvation_s: float) -> None:
        super().__init__()
        self._starvation_s = starvation_s
        self._due: list[tuple[float, int, Sequence]] = []

    def admitted(self, sequence: Sequence) -> None:
        due_s = sequence.request.arrival_s + self._starvation_s
        heappush(self._due, (due_s, sequence.serial, sequence))
        self.next_review_s = self._due[0][0]

    def review(self, now_s: float, prefill_share: float) -> Review:
        found: list[Sequence] = []
        while self._due and self._due[0][0] <= now_s:
            sequence = heappop(self._due)[2]
            waits = not (sequence.ended or sequence.started) and sequence.remaining > 0
            if waits and sequence.attained > 0.0:
                sequence.attained = 0.0
                found.append(sequence)
        self.next_review_s = self._due[0][0] if self._due else float("inf")
        return Review([], found, [])


class EagerRelegation(NeverRelegate):
    """Niyama: relegate a request that would miss even if it ran now at full throughput.

    Throughput is a running mean of prompt tokens per second between plans, from 8,500 tokens/s
    with weight 0.005 for the newest value (niyama_asplos2026). One way, and blind to the queue.
    """

    KEEP: ClassVar[float] = 0.995
    time_dependent: bool = True

    def __init__(self, initial_tokens_per_s: float) -> None:
        super().__init__()
        self._tokens_per_s = initial_tokens_per_s

    def infeasible(self, sequence: Sequence, now_s: float) -> bool:
        needed_s = (sequence.prompt_target - sequence.computed) / self._tokens_per_s
        return now_s + needed_s > sequence.deadline_s

    def learn_throughput(self, prefill_tokens: int, elapsed_s: float) -> None:
        if prefill_tokens and elapsed_s > 0:
            self._tokens_per_s = (self.KEEP * self._tokens_per_s
                                  + (1 - self.KEEP) * prefill_tokens / elapsed_s)


class FeasibleRelegation(NeverRelegate):
    """Penstock: keep the most valuable set of waiting requests that can all be in time.

    Under earliest deadline first a set is feasible when the work due by each deadline fits the time
    until it (the demand bound). Where it does not fit, the request with the most work per unit of
    value is set aside, which for equal values is Moore and Hodgson's rule (1968) and keeps the
    largest number in time. A review considers deadlines up to ``HORIZON_S`` ahead and starts from
    scratch, so a relegated request returns as soon as it fits again. Value is the class's weight,
    growing with the share of its time that a request has waited (ageing). A request that has not
    started ``queue_timeout_s`` after its deadline is shed.

    Relegating a request late costs nothing, since no work has been spent on it; finishing late
    does. So the bound is checked against deadlines with a margin.

    Under lasting overload, a choice among requests due soon is too local: an hour's worth of short
    requests may wait while a long one just fits the next seconds. So once the bound has failed, and
    until it has held for ``PRESSED_S``, requests above a sustainable size are set aside first: the
    size up to which the latest arrivals together fill the replica.
    """

    HORIZON_S: ClassVar[float] = 30.0
    MARGIN_SHARE: ClassVar[float] = 0.04  # of a request's time from arrival to deadline
    MARGIN_S: ClassVar[float] = 5.0  # at most
    AGEING: ClassVar[float] = 0.5
    PRESSED_S: ClassVar[float] = 60.0
    RECENT: ClassVar[int] = 1024  # latest arrivals that represent the traffic
    FEWEST: ClassVar[int] = 64  # fewest arrivals for a judgement
    SUSTAINED_SHARE: ClassVar[float] = 0.98
    time_dependent: bool = True

    def __init__(self, review_s: float, queue_timeout_s: float) -> None:
        super().__init__()
        self.next_review_s = 0.0
        self._review_s = review_s
        self._queue_timeout_s = queue_timeout_s
        self._by_deadline: list[tuple[float, int, Sequence]] = []
        self._most_entries = _FEW_ENTRIES
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=self.RECENT)
        self._pressed_until_s = -1.0
        self._sustained = float("inf")  # work per unit of weight
        self._next_sustained_s = 0.0

    def admitted(self, sequence: Sequence) -> None:
        request = sequence.request
        self._recent.append((sequence.work_s / _weight(sequence), sequence.work_s,
                             request.arrival_s))
        if sequence.deadline_s < NO_DEADLINE_S:  # requests without a deadline are never reviewed
            entry = (sequence.deadline_s, sequence.serial, sequence)
            if not self._by_deadline or self._by_deadline[-1][0] <= sequence.deadline_s:
                self._by_deadline.append(entry)  # serials only grow
            else:
                insort(self._by_deadline, entry)
            if len(self._by_deadline) > self._most_entries:
                self._forget_ended()

    def _forget_ended(self) -> None:
        """Forget requests that ended long before their deadlines."""
        self._by_deadline = [entry for entry in self._by_deadline if not entry[2].ended]
        self._most_entries = max(_FEW_ENTRIES, 2 * len(self._by_deadline))

    def infeasible(self, sequence: Sequence, now_s: float) -> bool:
        # A preempted decode has already emitted its first token, so this deadline does not apply.
        return not sequence.generated and now_s + sequence.work_s > sequence.deadline_s

    def review(self, now_s: float, prefill_share: float) -> Review:
        self.next_review_s = now_s + self._review_s
        waiting = self._due_soon(now_s)
        aside = self._set_aside(waiting, now_s, prefill_share)
        relegate: list[Sequence] = []
        restore: list[Sequence] = []
        shed: list[tuple[Sequence, str]] = []
        for sequence in waiting:
            if sequence.serial not in aside:
                if sequence.relegated:
                    restore.append(sequence)
            elif now_s > sequence.deadline_s + self._queue_timeout_s:
                shed.append((sequence, "its deadline passed while it waited"))
            elif not sequence.relegated:
                relegate.append(sequence)
        return Review(relegate, restore, shed)

    def _due_soon(self, now_s: float) -> list[Sequence]:
        """Return unstarted requests due within the horizon, and forget those that have gone."""
        entries, end_s = self._by_deadline, now_s + self.HORIZON_S
        waiting: list[tuple[float, int, Sequence]] = []
        end = 0
        for entry in entries:
            if entry[0] > end_s:
                break
            end += 1
            if _unstarted(entry[2]):
                waiting.append(entry)
        if len(waiting) < end:
            entries[:end] = waiting
        return [entry[2] for entry in waiting]

    def _set_aside(self, by_deadline: list[Sequence], now_s: float, share: float) -> set[int]:
        aside: set[int] = set()
        kept: list[tuple[float, int, float]] = []  # least value for its work first
        free_at_s = now_s
        largest = self._largest_sustained(now_s, share)
        for sequence in by_deadline:
            weight = _weight(sequence)
            if (now_s + sequence.work_s > sequence.deadline_s
                    or sequence.work_s > largest * weight):
                aside.add(sequence.serial)
                continue
            arrival_s = sequence.request.arrival_s
            allowed_s = sequence.deadline_s - arrival_s
            work_s = sequence.work_s / share
            free_at_s += work_s
            value = weight * (1.0 + self.AGEING * (now_s - arrival_s) / allowed_s)
            heappush(kept, (-work_s / value, sequence.serial, work_s))
            due_s = sequence.deadline_s - min(self.MARGIN_S, self.MARGIN_SHARE * allowed_s)
            while kept and free_at_s > due_s:
                _, serial, freed_s = heappop(kept)
                free_at_s -= freed_s
                aside.add(serial)
                self._pressed_until_s = now_s + self.PRESSED_S
        return aside

    def _largest_sustained(self, now_s: float, share: float) -> float:
        """Return the work per unit of weight up to which recent traffic fits the replica's time."""
        if now_s > self._pressed_until_s or len(self._recent) < self.FEWEST:
            return float("inf")
        if now_s >= self._next_sustained_s:
            self._next_sustained_s = now_s + self.PRESSED_S / 12
            span_s = now_s - self._recent[0][2]
            left_s = self.SUSTAINED_SHARE * share * span_s
            self._sustained = float("inf")
            for size, work_s, _ in sorted(self._recent):
                left_s -= work_s
                if left_s < 0:
                    self._sustained = size
                    break
        return self._sustained


def _weight(sequence: Sequence) -> float:
    """The class's weight; a class of weight 0 is worth next to nothing."""
    return max(sequence.request.service_class.weight, 1e-6)


def _unstarted(sequence: Sequence) -> bool:
    return not (sequence.ended or sequence.started or sequence.generated)
