"""How many replicas it takes: the fewest that meet every class's objective, by simulation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from penstock.core.errors import InputError
from penstock.experiment.run import run_fleet
from penstock.fleet.judge import attainment_by_class
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.metrics.attainment import Attainment
from penstock.plan.bound import throughput_bound
from penstock.workload.select import select
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Trial:
    """One simulated count of one kind of replica."""

    group: int
    count: int
    attainment: dict[str, Attainment]
    meets: bool


@dataclass(frozen=True, slots=True)
class Sized:
    """The fleet with its counts, every trial on the way, and the groups that no count satisfied."""

    fleet: Fleet
    trials: tuple[Trial, ...]
    missed: tuple[int, ...]


def size_fleet(fleet: Fleet, workload: Workload, seed: int,
               on_trial: Callable[[Trial], None] | None = None) -> Sized:
    """Give each of the fleet's sizing groups the fewest replicas that meet the objectives.

    Groups serve disjoint traffic (one class each, say), so each is sized on its own requests, from
    its own count on. A group that misses with all that ``max_replicas`` and the accelerators leave
    it keeps that number and is named in ``missed``. Raises InputError when two groups would share
    requests.
    """
    groups = fleet.sizing.groups
    served = [rows_served(group, workload) for group in groups]
    if len(groups) > 1 and np.any(np.sum(served, axis=0) > 1):
        raise InputError("sizing: two groups serve the same model and class; give each group its "
                         "own classes, or state replicas")
    trials: list[Trial] = []
    missed: list[int] = []
    sized: list[ReplicaGroup] = []
    for index, group in enumerate(groups):
        part = select(workload, served[index])
        if not len(part):
            continue
        most = _most(fleet, group, [*sized, *groups[index + 1:]])
        search = _Search(fleet, group, index, part, most, seed, trials, on_trial)
        count, meets = search.fewest()
        if not meets:
            missed.append(index)
        sized.append(replace(group, count=count))
    return Sized(replace(fleet, replicas=tuple(sized)), tuple(trials), tuple(missed))


def rows_served(group: ReplicaGroup,
                workload: Workload) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mask of the requests that the group's replicas may take."""
    models = [index for index, name in enumerate(workload.models) if name == group.model.name]
    rows = np.isin(workload.model_index, models)
    if group.service_classes is not None:
        classes = [index for index, name in enumerate(workload.service_classes)
                   if name in group.service_classes]
        rows &= np.isin(workload.class_index, classes)
    return rows


def _most(fleet: Fleet, group: ReplicaGroup, others: Sequence[ReplicaGroup]) -> int:
    """Replicas that the group may have beside the others' counts, and never less than its own."""
    most = fleet.sizing.max_replicas - sum(other.count for other in others)
    available = fleet.pool(group.accelerator.name).count
    if available is not None:
        taken = sum(other.num_accelerators for other in others
                    if other.accelerator.name == group.accelerator.name)
        most = min(most, (available - taken) // group.parallelism.num_accelerators)
    return max(group.count, most)


class _Search:
    """Bracketing from the throughput bound, then bisection, over one group's count.

    Where all traffic states a rate, which is meant to go on, fewer replicas than the bound asks for
    are never tried: a short run might meet distant deadlines with them while its queue only grows.
    A trace at its own times is all there is, so for it any count may do.
    """

    def __init__(self, fleet: Fleet, group: ReplicaGroup, index: int, workload: Workload,
                 most: int, seed: int, trials: list[Trial],
                 on_trial: Callable[[Trial], None] | None) -> None:
        self._fleet = fleet
        self._group = group
        self._index = index
        self._workload = workload
        self._most = most
        self._seed = seed
        self._trials = trials
        self._on_trial = on_trial

    def fewest(self) -> tuple[int, bool]:
        """(count, whether it meets the objectives)."""
        most = self._most
        high = min(most, max(self._group.count, self._floor()))
        lasting = all(spec.rate_per_s is not None for spec in self._fleet.traffic)
        # ``low`` misses or is not allowed; ``high`` is not known yet.
        low, step = high - 1 if lasting else self._group.count - 1, 1
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

    def _floor(self) -> int:
        """Replicas that the mean rate needs if nothing was ever due."""
        try:
            bound = throughput_bound(self._fleet, self._group, self._workload).rate_per_s
        except InputError:
            return 1
        if self._workload.rate_per_s <= 0 or bound <= 0:
            return 1
        return max(1, int(np.ceil(self._workload.rate_per_s / bound)))

    def _meets(self, count: int) -> bool:
        fleet = replace(self._fleet, replicas=(replace(self._group, count=count),))
        run = run_fleet(fleet, self._workload, self._seed)
        attainment = attainment_by_class(fleet, run.result.table)
        if not attainment:
            raise InputError("sizing: no request arrives after warmup_s, so nothing can be judged")
        goals = {c.name: c.slo.percentile for c in fleet.service_classes}
        meets = all(share.meets(goals[name]) for name, share in attainment.items())
        trial = Trial(self._index, count, attainment, meets)
        self._trials.append(trial)
        if self._on_trial is not None:
            self._on_trial(trial)
        return meets
