"""A budget in money and power: the replicas that it holds, and how models share it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heapreplace
from itertools import starmap
from math import inf
from operator import add, truediv
from typing import NamedTuple

from penstock.policy.scale.protocol import Budget, GroupFacts

BETTER = 1.1
"""Ratio by which another sharing must raise the least served share to replace the present one:
every exchange between models costs a start."""


class Spending:
    """Means of a budget that replicas of each group take.

    Floors are reserved: a replica beyond its group's floor gets only means that no other group
    needs for its own floor.
    """

    def __init__(self, budget: Budget, groups: Sequence[GroupFacts]) -> None:
        self._floors = [group.floor for group in groups]
        self._limits: list[float] = []
        rows: list[list[float]] = []
        if budget.cost_per_hour is not None:
            self._limits.append(budget.cost_per_hour)
            rows.append([group.cost_per_hour for group in groups])
        if budget.power_w is not None:
            self._limits.append(budget.power_w)
            rows.append([_power_w(group) for group in groups])
        self._uses = [tuple(row[number] for row in rows) for number in range(len(groups))]

    def taken(self, counts: Sequence[int]) -> list[float]:
        """Return what so many replicas of each group, and the floors, take of each limit."""
        return [sum(max(count, floor) * uses[row] for count, floor, uses in zip(
            counts, self._floors, self._uses, strict=True)) for row in range(len(self._limits))]

    def fits(self, counts: Sequence[int]) -> bool:
        """Whether the budget holds so many replicas of each group, and every floor."""
        return all(map(_within, self.taken(counts), self._limits))

    def with_one(self, taken: Sequence[float], count: int, group: int) -> list[float] | None:
        """Return what is taken with one replica more of a group that has ``count``, None where the
        budget has no room for it."""
        if count < self._floors[group]:
            return list(taken)
        more = list(map(add, taken, self._uses[group]))
        return more if all(map(_within, more, self._limits)) else None

    def has_room(self, held: Sequence[int], group: int) -> bool:
        """Whether one replica more of a group may be held beside those that are."""
        return self.with_one(self.taken(held), held[group], group) is not None

    def share(self, group: int) -> float:
        """Return the largest share of a limit that one replica of a group takes."""
        return max(map(truediv, self._uses[group], self._limits), default=0.0)


def _within(taken: float, limit: float) -> bool:
    return taken <= limit * (1.0 + 1e-9)


def _power_w(group: GroupFacts) -> float:
    assert group.power_w is not None, "a budget of power needs the power of replicas"
    return group.power_w


class Shared(NamedTuple):
    """Replicas by group within a budget, and in words where it cut them."""

    counts: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class _Want:
    """Wanted replicas of one model's groups by their numbers, and the worth of one of each."""

    name: str
    counts: Mapping[int, int]
    worth: Mapping[int, float]

    def served(self, counts: Sequence[int]) -> float:
        """Return the share of the model's need that so many replicas serve."""
        need = sum(count * self.worth[number] for number, count in self.counts.items())
        return 1.0 if need <= 0.0 else sum(
            counts[number] * worth for number, worth in self.worth.items()) / need


class BudgetSharing:
    """Shares a budget among the models of a fleet where the replicas that they want do not fit.

    First come the floors. Then each replica goes to the model of whose need the least share is
    served, to that of its groups with the most worth for its share of the budget, as long as the
    budget holds one more. This maximizes the least served share, up to whole replicas. The present
    replicas are kept, and only what is left is shared, unless a new sharing raises the least served
    share by more than 10 %.
    """

    def __init__(self, budget: Budget, groups: Sequence[GroupFacts]) -> None:
        self._budget = budget
        self._groups = groups
        self._spending = Spending(budget, groups)

    def fits(self, counts: Sequence[int]) -> bool:
        """Whether the budget holds so many replicas of each group."""
        return self._spending.fits(counts)

    def shared(self, wanted: Sequence[int], present: Sequence[int],
               worth: Sequence[float]) -> Shared | None:
        """Return the replicas of each group within the budget, at most those ``wanted``; None where
        the budget holds them all. ``worth`` is the relative rate of one replica of each group,
        within its model."""
        if self._spending.fits(wanted):
            return None
        wants = self._wants(wanted, worth)
        floors = [group.floor for group in self._groups]
        found = self._filled(floors, wants)
        kept = list(starmap(min, zip(present, wanted, strict=True)))
        if self._spending.fits(kept):
            kept = self._filled(map(max, kept, floors), wants)
            if _least(wants, found) <= BETTER * _least(wants, kept):
                found = kept
        return Shared(tuple(found), self._reason(wants, found))

    def _wants(self, wanted: Sequence[int], worth: Sequence[float]) -> list[_Want]:
        names = dict.fromkeys(group.model for group in self._groups)
        numbers = {name: [number for number, group in enumerate(self._groups)
                          if group.model == name] for name in names}
        return [_Want(name, {number: wanted[number] for number in own},
                      {number: worth[number] for number in own}) for name, own in numbers.items()]

    def _filled(self, begun: Iterable[int], wants: Sequence[_Want]) -> list[int]:
        """Return the numbers with as many of the wanted replicas as the budget holds beside
        them."""
        counts = list(begun)
        taken = self._spending.taken(counts)
        least = [(want.served(counts), place) for place, want in enumerate(wants)]
        heapify(least)
        while least:
            place = least[0][1]
            want = wants[place]
            able = {number: more for number, most in want.counts.items() if counts[number] < most
                    and (more := self._spending.with_one(taken, counts[number], number))
                    is not None}
            if not able:
                heappop(least)
                continue
            number = max(able, key=partial(self._value, want))
            counts[number] += 1
            taken = able[number]
            heapreplace(least, (want.served(counts), place))
        return counts

    def _value(self, want: _Want, number: int) -> tuple[float, int]:
        share = self._spending.share(number)
        return want.worth[number] / share if share > 0.0 else inf, -number

    def _reason(self, wants: Sequence[_Want], counts: Sequence[int]) -> str:
        limits = [] if self._budget.cost_per_hour is None else [
            f"{self._budget.cost_per_hour:g} per hour"]
        if self._budget.power_w is not None:
            limits.append(f"{self._budget.power_w:g} W")
        cut = [(sum(counts[number] for number in want.counts), sum(want.counts.values()),
                want.name) for want in wants]
        return f"budget of {' and '.join(limits)}: " + ", ".join(
            f"{num} of {most} replicas of {name}" for num, most, name in cut if num < most)


def _least(wants: Sequence[_Want], counts: Sequence[int]) -> float:
    return min(want.served(counts) for want in wants)
