"""The fewest replicas of stated kinds that meet every class's objective, by simulation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from penstock.core.errors import InputError
from penstock.fleet.judge import attainment_by_class, meets_all, missed_by_class
from penstock.fleet.traffic import check_open
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.metrics.attainment import Attainment
from penstock.plan.bound import throughput_bound
from penstock.plan.fleet_bound import rows_served
from penstock.sim.simulation import simulate
from penstock.workload.select import select
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Trial:
    """One simulated count of one kind of replica.

    ``missed`` has the missed targets, and how often, of each class that misses its objective.
    """

    group: int
    count: int
    attainment: dict[str, Attainment]
    meets: bool
    missed: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limit:
    """The ``fewest`` replicas with which the search of a group began, and the reason.

    ``rate_per_s`` is the group's traffic. ``replica_rate_per_s`` is the throughput bound of one
    replica, None where no formula gives it.
    """

    group: int
    fewest: int
    reason: Literal["throughput bound", "stated"]
    rate_per_s: float
    replica_rate_per_s: float | None

    @property
    def at_bound(self) -> int:
        """Replicas that the mean rate needs if no request had a deadline."""
        return replicas_at_bound(self.rate_per_s, self.replica_rate_per_s)


def replicas_at_bound(rate_per_s: float, replica_rate_per_s: float | None) -> int:
    """The fewest replicas whose throughput bounds add up to the rate; 1 without a bound."""
    if replica_rate_per_s is None or rate_per_s <= 0 or replica_rate_per_s <= 0:
        return 1
    return max(1, int(np.ceil(rate_per_s / replica_rate_per_s)))


@dataclass(frozen=True, slots=True)
class Sized:
    """The sized fleet, all trials, the groups (by index) that no count satisfied, and the limits of
    each group's search."""

    fleet: Fleet
    trials: tuple[Trial, ...]
    missed: tuple[int, ...]
    limits: tuple[Limit, ...] = ()


def size_fleet(fleet: Fleet, workload: Workload, seed: int,
               on_trial: Callable[[Trial], None] | None = None) -> Sized:
    """Give each of the fleet's sizing groups the fewest replicas that meet the objectives.

    Groups serve disjoint traffic, such as one class each. So each group is sized on its own
    requests, with at least the count that the file states. A group that misses with the most
    replicas that ``max_replicas`` and the accelerators allow keeps that number and stands in
    ``missed``. Raises InputError when two groups would share requests.
    """
    check_open(fleet.traffic, "the search for a number of replicas")
    groups = fleet.sizing.kinds()
    served = [rows_served(group, workload) for group in groups]
    if len(groups) > 1 and np.any(np.sum(served, axis=0) > 1):
        raise InputError("sizing: two groups serve the same model and class; give each group its "
                         "own classes, or state replicas")
    trials: list[Trial] = []
    limits: list[Limit] = []
    missed: list[int] = []
    sized: list[ReplicaGroup] = []
    for index, group in enumerate(groups):
        part = select(workload, served[index])
        if not len(part):
            continue
        most = _most(fleet, group, [*sized, *groups[index + 1:]])
        limits.append(_limit(fleet, group, index, part, most))
        search = _Search(fleet, group, limits[-1], part, most, seed, trials, on_trial)
        count, meets = search.fewest()
        if not meets:
            missed.append(index)
        sized.append(replace(group, count=count))
    return Sized(replace(fleet, replicas=tuple(sized)), tuple(trials), tuple(missed),
                 tuple(limits))


def _most(fleet: Fleet, group: ReplicaGroup, others: Sequence[ReplicaGroup]) -> int:
    """The most replicas that the group may have beside the other groups, at least its own count."""
    most = fleet.sizing.max_replicas - sum(other.count for other in others)
    available = fleet.pool(group.accelerator.name).count
    if available is not None:
        taken = sum(other.num_accelerators for other in others
                    if other.accelerator.name == group.accelerator.name)
        most = min(most, (available - taken) // group.parallelism.num_accelerators)
    return max(group.count, most)


def _limit(fleet: Fleet, group: ReplicaGroup, index: int, workload: Workload,
           most: int) -> Limit:
    """Return the count at which the search of a group begins.

    Where all traffic states a rate, fewer replicas than the throughput bound asks for are never
    tried: a short run might meet distant deadlines with them while its queue only grows. A trace at
    its own times ends, so for it any count may be enough.
    """
    try:
        bound = throughput_bound(fleet, group, workload).rate_per_s
    except InputError:
        bound = None
    lasting = all(spec.rate_per_s is not None for spec in fleet.traffic)
    floor = min(most, replicas_at_bound(workload.rate_per_s, bound)) if lasting else 1
    return Limit(index, max(floor, group.count),
                 "throughput bound" if floor > group.count else "stated", workload.rate_per_s,
                 bound)


class _Search:
    """Bracketing from the throughput bound, then bisection, over one group's count."""

    def __init__(self, fleet: Fleet, group: ReplicaGroup, limit: Limit, workload: Workload,
                 most: int, seed: int, trials: list[Trial],
                 on_trial: Callable[[Trial], None] | None) -> None:
        self._fleet = fleet
        self._group = group
        self._limit = limit
        self._workload = workload
        self._most = most
        self._seed = seed
        self._trials = trials
        self._on_trial = on_trial

    def fewest(self) -> tuple[int, bool]:
        """(count, whether it meets the objectives)."""
        most, high = self._most, min(self._most, max(self._group.count, self._limit.at_bound))
        # ``low`` misses or is not allowed; ``high`` is not known yet.
        low, step = self._limit.fewest - 1, 1
        while not self._meets(high):
            if high == most:
                return most, False
            low, high, step = high, min(most, high + step), 2 * step
        while high - low > 1:
            middle = (low + high) // 2
            if self._meets(middle):
                high = middle
            else:
                low = middle
        return high, True

    def _meets(self, count: int) -> bool:
        fleet = replace(self._fleet, replicas=(replace(self._group, count=count),))
        table = simulate(fleet, self._workload, seed=self._seed).table
        attainment = attainment_by_class(fleet, table)
        if not attainment:
            raise InputError("sizing: no request arrives after warmup_s, so nothing can be judged")
        meets = meets_all(fleet, attainment)
        trial = Trial(self._limit.group, count, attainment, meets,
                      missed_by_class(fleet, table))
        self._trials.append(trial)
        if self._on_trial is not None:
            self._on_trial(trial)
        return meets
