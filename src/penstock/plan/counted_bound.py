"""The throughput bound under the counts that a fleet file states, and the count that binds."""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from penstock.fleet.values import Fleet
from penstock.plan.fleet_bound import GroupBound

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class CountedBound:
    """A rate of all traffic that no schedule exceeds, and the stated count that must grow for more.

    ``first`` are the groups that give way first.
    """

    rate_per_s: float
    binds: Literal["replica count", "accelerator count"]
    first: tuple[GroupBound, ...]


def replicas_bound(fleet: Fleet, bounds: Sequence[GroupBound]) -> CountedBound | None:
    """The bound of the stated replicas; None without any, and where groups share only some of their
    requests."""
    if not fleet.replicas or not bounds:
        return None
    groups = _by_requests(bounds)
    if groups is None:
        return None
    totals = [sum(_rate_per_s(found, found.group.count) for found in same) for same in groups]
    slowest = min(totals)
    first = tuple(found for same, total in zip(groups, totals, strict=True)
                  if total == slowest for found in same)
    full = all(_spare(fleet, found) < found.group.parallelism.num_accelerators for found in first)
    return CountedBound(slowest, "accelerator count" if full else "replica count", first)


def accelerators_bound(fleet: Fleet, bounds: Sequence[GroupBound]) -> CountedBound | None:
    """The bound of as many whole replicas of the groups' kinds as the stated accelerators hold.

    None where the groups' accelerators have no stated count, and where several groups serve the
    same requests: then the best shares of the accelerators are a plan's to find.
    """
    groups = _by_requests(bounds)
    if not groups or any(len(same) > 1 for same in groups):
        return None
    by_pool: dict[str, list[GroupBound]] = defaultdict(list)
    for found in bounds:
        by_pool[found.group.accelerator.name].append(found)
    held = [(_held_rate_per_s(members, count), members) for name, members in by_pool.items()
            if (count := fleet.pool(name).count) is not None]
    if not held:
        return None
    slowest, members = min(held, key=lambda entry: entry[0])
    return CountedBound(slowest, "accelerator count", tuple(members))


def most_replicas(fleet: Fleet, found: GroupBound) -> int | None:
    """The most replicas of a group that its accelerators hold, were all of them the group's."""
    count = fleet.pool(found.group.accelerator.name).count
    return None if count is None else count // found.group.parallelism.num_accelerators


def _by_requests(bounds: Sequence[GroupBound]) -> list[list[GroupBound]] | None:
    """Groups that serve exactly the same requests, None where groups share only some."""
    found: dict[bytes, list[GroupBound]] = defaultdict(list)
    for one in bounds:
        found[one.rows.tobytes()].append(one)
    served = [same[0].rows.astype(np.int64) for same in found.values()]
    return None if served and np.sum(served, axis=0).max() > 1 else list(found.values())


def _rate_per_s(found: GroupBound, count: int) -> float:
    """The rate of all traffic at which ``count`` replicas are saturated by their part of it."""
    return count * found.bound.rate_per_s / found.share


def _spare(fleet: Fleet, found: GroupBound) -> float:
    """Accelerators of the group's kind that no stated replica holds."""
    name = found.group.accelerator.name
    count = fleet.pool(name).count
    used = sum(group.num_accelerators for group in fleet.replicas
               if group.accelerator.name == name)
    return math.inf if count is None else count - used


def _held_rate_per_s(members: Sequence[GroupBound], count: int) -> float:
    """The highest rate whose replicas fit ``count`` accelerators; 0 if they hold not one of each.

    At such a rate a group is saturated, so the rates to try are those of whole replicas.
    """
    def too_many(rate_per_s: float) -> bool:
        return sum(found.group.parallelism.num_accelerators
                   * max(1, math.ceil(rate_per_s / _rate_per_s(found, 1) - _ROUNDING))
                   for found in members) > count

    rates = sorted(_rate_per_s(found, number) for found in members
                   for number in range(1, count // found.group.parallelism.num_accelerators + 1))
    fitting = bisect_right(rates, False, key=too_many)
    return rates[fitting - 1] if fitting else 0.0
