"""Value of a visit to a model: consecutive batches, and the requests answered in time.

The future of a queue consists of its waiting requests and of expected arrivals at the recent rate.
Both are deadlines, each with the time from which it can be served.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from penstock.core.value import made_again
from penstock.policy.keep import ArrivalRate
from penstock.policy.multiplex.values import BatchTime, Queued

_STRICTLY_S = 1e-6  # an answer at its deadline is late
_LEARNING = 0.02  # about the last fifty arrivals


class Visit(NamedTuple):
    """Consecutive batches of a model, which end at ``end_s`` with ``num_in_time`` answers in time.
    The first batch has ``num`` requests from place ``first`` of the queue on."""

    end_s: float
    num_in_time: int
    first: int
    num: int

    def rate(self, since_s: float) -> float:
        """Return the answers in time per second since a moment."""
        return self.num_in_time / max(self.end_s - since_s, 1e-9)


class Pace(ArrivalRate):
    """Recent arrival rate of a model's requests, and their time from arrival to deadline."""

    __slots__ = ("slack_s",)

    def __init__(self) -> None:
        super().__init__(_LEARNING)
        self.slack_s = inf

    def arrived(self, request: Queued, now_s: float) -> None:
        """Record an arrival."""
        self.note(now_s)
        self.slack_s = request.deadline_s - request.arrival_s


@dataclass(frozen=True, slots=True)
class ExpectedDeadlines:
    """Deadlines of waiting and expected requests, and their arrival times; both ascend."""

    due_s: Sequence[float]
    there_s: Sequence[float]

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)


def expected_deadlines(line: Sequence[Queued], now_s: float, pace: Pace, horizon_s: float,
            most: int) -> ExpectedDeadlines:
    """Return the first ``most`` waiting requests, and the requests expected behind them within
    ``horizon_s``."""
    due_s = [request.deadline_s for request in line[:most]]
    there_s = [now_s] * len(due_s)
    rate_per_s = pace.rate_per_s(now_s)
    num = min(most - len(due_s), int(rate_per_s * horizon_s))
    if num > 0:
        latest_s, slack_s = due_s[-1] if due_s else -inf, pace.slack_s
        expected_s = [now_s + place / rate_per_s for place in range(1, num + 1)]
        there_s += expected_s
        due_s += [latest_s if at_s + slack_s < latest_s else at_s + slack_s
                  for at_s in expected_s]
    return ExpectedDeadlines(due_s, there_s)


def first_batch(ahead: ExpectedDeadlines, position: int, start_s: float, batch: BatchTime,
                most: int) -> tuple[int, int]:
    """Return the batch that would start at ``start_s``: the place of its first request, and its
    size.

    A batch ends for all requests at once. If a full batch would be too late for those at the head,
    they are either left out, or the batch is made so small that they are in time. The choice
    answers more requests, counting also the batch after the small one.
    """
    there = max(position, bisect_right(ahead.there_s, start_s))
    first = bisect_right(ahead.due_s, start_s + batch.seconds(1), position, there)
    num = min(most, there - first)
    if num < 1:
        return first, 0
    end_s = start_s + batch.seconds(num)
    if ahead.due_s[first] > end_s:
        return first, num
    small = min(num, batch.most_within(ahead.due_s[first] - start_s - _STRICTLY_S))
    skip = _first_in_time(ahead.due_s, first, there, start_s, batch, most)
    large = min(most, there - skip)
    second = first + small
    behind = min(most, there - second)
    second_end_s = start_s + batch.seconds(small) + batch.seconds(behind)
    late = bisect_right(ahead.due_s, second_end_s, second, second + behind) - second
    if small > 0 and small + behind - late >= large:
        return first, small
    return (skip, large) if large > 0 else (first, small)


def _first_in_time(due_s: Sequence[float], first: int, there: int, start_s: float,
                   batch: BatchTime, most: int) -> int:
    """Return the first place from which a batch of all present requests is in time for its first
    request. Further back, deadlines are later and batches no larger, so bisection finds it."""
    low, high = first, there
    while low < high:
        middle = (low + high) // 2
        if due_s[middle] > start_s + batch.seconds(min(most, there - middle)):
            high = middle
        else:
            low = middle + 1
    return low


def visits(ahead: ExpectedDeadlines, start_s: float, batch: BatchTime, most: int,
           max_batches: int) -> list[Visit]:
    """Return visits of one batch, two, up to ``max_batches``, from ``start_s`` until no request is
    left."""
    found: list[Visit] = []
    at_s, in_time, position = start_s, 0, 0
    for _ in range(max_batches):
        first, num = first_batch(ahead, position, at_s, batch, most)
        if num < 1:
            break
        at_s += batch.seconds(num)
        in_time += num
        position = first + num
        head = (found[0].first, found[0].num) if found else (first, num)
        found.append(Visit(at_s, in_time, *head))
    return found
