"""Which waiting requests go behind all others because they can no longer be in time."""

import heapq
from typing import NamedTuple, Protocol

from penstock.policy.schedule.sequence import Sequence


class Review(NamedTuple):
    """Changes of rank that a review decided: sequences to relegate, to restore and to shed."""

    relegate: list[Sequence]
    restore: list[Sequence]
    shed: list[tuple[Sequence, str]]


NOTHING = Review([], [], [])


class Relegation(Protocol):
    """Decides when a request is moved behind all others."""

    time_dependent: bool

    def hopeless(self, sequence: Sequence, now_s: float) -> bool:
        """Asked of the best waiting request each time it is considered."""

    def review(self, waiting: list[Sequence], now_s: float, prefill_share: float) -> Review:
        """Asked now and then with all unstarted requests. ``prefill_share`` is the part of the
        replica's time that its decodes leave to prompts."""

    def next_review_s(self, num_waiting: int) -> float:
        """When ``review`` wants to be asked again; infinity for never."""

    def learn_throughput(self, prefill_tokens: int, elapsed_s: float) -> None:
        """A step took ``elapsed_s`` from its plan to the next and computed these prompt tokens."""


class NeverRelegate:
    """Every request keeps its place."""

    time_dependent = False

    def hopeless(self, sequence: Sequence, now_s: float) -> bool:
        return False

    def review(self, waiting: list[Sequence], now_s: float,
               prefill_share: float) -> Review:
        return NOTHING

    def next_review_s(self, num_waiting: int) -> float:
        return float("inf")

    def learn_throughput(self, prefill_tokens: int, elapsed_s: float) -> None:
        """This rule does not look at throughput."""


class EagerRelegation:
    """Niyama: relegate a request that would miss even if it ran now at full throughput.

    Throughput is a running mean of prompt tokens per second between plans, from 8,500 tokens/s
    with weight 0.005 for the newest value (niyama_asplos2026). One way, and blind to the queue.
    """

    KEEP = 0.995
    time_dependent = True

    def __init__(self, initial_tokens_per_s: float) -> None:
        self._tokens_per_s = initial_tokens_per_s

    def hopeless(self, sequence: Sequence, now_s: float) -> bool:
        needed_s = (sequence.prompt_target - sequence.computed) / self._tokens_per_s
        return now_s + needed_s > sequence.deadline_s

    def review(self, waiting: list[Sequence], now_s: float,
               prefill_share: float) -> Review:
        return NOTHING

    def next_review_s(self, num_waiting: int) -> float:
        return float("inf")

    def learn_throughput(self, prefill_tokens: int, elapsed_s: float) -> None:
        if prefill_tokens and elapsed_s > 0:
            self._tokens_per_s = (self.KEEP * self._tokens_per_s
                                  + (1 - self.KEEP) * prefill_tokens / elapsed_s)


class FeasibleRelegation:
    """Penstock: keep the most valuable set of waiting requests that can all be in time.

    Under earliest deadline first a set is feasible when the work due by each deadline fits the time
    until it (the demand bound). Where it does not fit, the request that frees the most work per
    unit of weight is set aside, which for equal weights is Moore and Hodgson's rule (1968) and keeps
    the largest number in time. A review starts from scratch, so a request set aside comes back as
    soon as it fits again. Weight grows with waiting (ageing), so that no long prompt is set aside
    for ever while it could still be in time. What is past its own deadline by ``patience_s`` and
    was never started is shed.
    """

    # A review of n requests costs about n microseconds of a CPU; spacing reviews by 4 ms of traffic
    # time per waiting request keeps the cost below a thousandth of the replica's time.
    REVIEW_S_PER_WAITING = 0.004
    time_dependent = True

    def __init__(self, review_s: float, patience_s: float) -> None:
        self._review_s = review_s
        self._patience_s = patience_s
        self._next_s = 0.0

    def hopeless(self, sequence: Sequence, now_s: float) -> bool:
        return now_s + sequence.work_s > sequence.deadline_s

    def next_review_s(self, num_waiting: int) -> float:
        return self._next_s

    def learn_throughput(self, prefill_tokens: int, elapsed_s: float) -> None:
        """Work is measured in predicted seconds, so token throughput is not needed."""

    def review(self, waiting: list[Sequence], now_s: float, prefill_share: float) -> Review:
        self._next_s = now_s + max(self._review_s, self.REVIEW_S_PER_WAITING * len(waiting))
        waiting.sort(key=_deadline)
        kept_late = self._set_aside(waiting, now_s, prefill_share)
        relegate: list[Sequence] = []
        restore: list[Sequence] = []
        shed: list[tuple[Sequence, str]] = []
        for sequence in waiting:
            aside = sequence.serial in kept_late
            if aside and self._outwaited(sequence, now_s):
                shed.append((sequence, "its deadline passed while it waited"))
            elif aside and not sequence.relegated:
                relegate.append(sequence)
            elif not aside and sequence.relegated:
                restore.append(sequence)
        return Review(relegate, restore, shed)

    def _set_aside(self, by_deadline: list[Sequence], now_s: float, share: float) -> set[int]:
        aside: set[int] = set()
        kept: list[tuple[float, int, float]] = []  # worst value for work first
        free_at_s = now_s
        for sequence in by_deadline:
            work_s = sequence.work_s / share
            if now_s + sequence.work_s > sequence.deadline_s:
                aside.add(sequence.serial)
                continue
            free_at_s += work_s
            age = (now_s - sequence.request.arrival_s) / (
                sequence.deadline_s - sequence.request.arrival_s + 1e-9)
            value = sequence.request.service_class.weight * (1.0 + max(0.0, age))
            heapq.heappush(kept, (-work_s / value, sequence.serial, work_s))
            while free_at_s > sequence.deadline_s:
                _, serial, freed_s = heapq.heappop(kept)
                free_at_s -= freed_s
                aside.add(serial)
        return aside

    def _outwaited(self, sequence: Sequence, now_s: float) -> bool:
        return now_s > sequence.deadline_s + self._patience_s


def _deadline(sequence: Sequence) -> tuple[float, int]:
    return (sequence.deadline_s, sequence.serial)
