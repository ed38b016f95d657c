"""The verdict on the replicas proposed for a demand, by simulation of its own arrivals."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from penstock.fleet.judge import attainment_by_class, counted, meets_all
from penstock.fleet.replica_factory import kind_of
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.metrics.attainment import Attainment
from penstock.metrics.counts import computed_tokens, span_of
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.table import UNFINISHED, RequestTable
from penstock.plan.demands import Demand
from penstock.plan.slower import sigmas_of, slower
from penstock.sim.simulation import simulate
from penstock.workload.mixing import scale_rate
from penstock.workload.select import select
from penstock.workload.workload import Workload

_BY_LOAD = ("least_loaded", "round_robin", "shortest_queue", "fewest_waiting", "free_kv")


@dataclass(frozen=True, slots=True)
class ClassOutcome:
    """Outcome of one class over all simulated seeds. ``itl_p99_s`` is the median over
    requests of the gap that 99 % of a request's gaps do not exceed; ``tpot_p99_s`` is the mean gap
    that 99 % of requests do not exceed."""

    name: str
    attainment: Attainment
    worst_share: float
    ttft_p50_s: float
    ttft_p99_s: float
    itl_p99_s: float
    tpot_p99_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether every class met its objective with every seed, and the outcome of each class.

    Seeds after the first that misses are not simulated. With ``only_faster_missed``, every seed met
    the objectives and only the check with faster arrivals missed. With ``does_not_last``, lasting
    traffic would saturate the replicas, or only a second look with another seed missed. ``tokens``
    were computed with the first seed between ``began_s``, the first arrival, and ``ended_s``, the
    last token.
    """

    meets: bool
    num_seeds: int
    classes: tuple[ClassOutcome, ...]
    only_faster_missed: bool = False
    does_not_last: bool = False
    began_s: float = 0.0
    ended_s: float = 0.0
    tokens: int = 0


def judge(fleet: Fleet, demand: Demand, groups: tuple[ReplicaGroup, ...], *, seed: int,
          share: float = 1.0, sigmas: float | None = None, whole: bool = True) -> Verdict:
    """Simulate ``groups`` on the demand's requests, seed after seed until one misses.

    Where ``share`` is below 1, evenly spaced requests make up that share. Drawn traffic must also
    hold with slightly faster arrivals: its rate may be too low by chance, and replicas at the edge
    would pass with these seeds and fail with the next. Step times are off their model by ``sigmas``
    standard deviations. By default they are off as far as the plan's confidence asks for, and the
    verdict must be good as they are expected, too: a router may send more requests to a replica
    that is fast enough only for few. Where ``whole`` is false, a simulation ends as soon as too
    many requests have missed, and its attainment is the most that it could still reach.
    """
    if sigmas is not None:
        return _judged(fleet, demand, slower(groups, sigmas), seed, share, whole=whole)
    slow = sigmas_of(fleet.plan.confidence)
    found = _judged(fleet, demand, slower(groups, slow), seed, share, whole=whole)
    return found if slow == 0.0 or not found.meets else \
        _judged(fleet, demand, groups, seed, share, faster=False, whole=whole)


def holds(fleet: Fleet, demand: Demand, groups: tuple[ReplicaGroup, ...], *, seed: int,
          sigmas: float | None = None) -> bool:
    """Whether the verdict of ``judge`` on these arrivals alone is that every objective is met.

    A simulation ends as soon as too many requests have missed.
    """
    deviations = ({sigmas_of(fleet.plan.confidence), 0.0} if sigmas is None else {sigmas})
    return all(
        _meets(replace(fleet, replicas=slower(groups, off), multiplexing=()), workload,
               seed + number)
        for off in sorted(deviations, reverse=True)
        for number, workload in enumerate(to_simulate(fleet, groups, demand.workloads)))


def _judged(fleet: Fleet, demand: Demand, groups: tuple[ReplicaGroup, ...], seed: int,
            share: float, *, faster: bool = True, whole: bool = True) -> Verdict:
    alone = replace(fleet, replicas=groups, multiplexing=())
    goals = {c.name: c.slo.percentile for c in demand.classes}
    workloads = [thinned(workload, share)
                 for workload in to_simulate(fleet, groups, demand.workloads)]
    tables: list[RequestTable] = []
    worst = dict.fromkeys(goals, 1.0)
    meets = True
    for number, workload in enumerate(workloads):
        table = simulate(alone, workload, seed=seed + number,
                         lost=None if whole else partial(_lost, alone)).table
        tables.append(counted(fleet, table))
        lost = not whole and _lost(alone, table)
        reached = (_reachable if lost else attainment_by_class)(alone, table)
        for name, attainment in reached.items():
            worst[name] = min(worst[name], attainment.share or 0.0)
            meets = meets and bool(attainment.meets(goals[name]))
        if not meets:
            break
    lasts = not (meets and faster) or len(distinct(demand.workloads)) < 2 or all(
        _meets(alone, scale_rate(workload, 1.0 + chance(workload)), seed + number)
        for number, workload in enumerate(workloads))
    return Verdict(meets and lasts, len(tables),
                   tuple(_outcome(c.name, tables, worst[c.name]) for c in demand.classes),
                   not lasts, False, *_observed_s(tables[0]), computed_tokens(tables[0]))


def _observed_s(table: RequestTable) -> tuple[float, float]:
    """Return the first arrival, and the last arrival or token; two zeros when empty."""
    span = span_of(table)
    return (span.first_s, span.end_s) if len(table) else (0.0, 0.0)


def chance(workload: Workload) -> float:
    """The part by which a drawn workload's rate may be too low by chance.

    It is two standard deviations of a Poisson count, relative to the count.
    """
    return float(2.0 / np.sqrt(len(workload)))


def _meets(fleet: Fleet, workload: Workload, seed: int) -> bool:
    return meets_all(fleet, attainment_by_class(
        fleet, simulate(fleet, workload, seed=seed, lost=partial(_lost, fleet)).table))


def _lost(fleet: Fleet, table: RequestTable) -> bool:
    """Whether too many requests have missed, whatever becomes of the unfinished."""
    return not meets_all(fleet, _reachable(fleet, table))


def _reachable(fleet: Fleet, table: RequestTable) -> dict[str, Attainment]:
    """The attainment of every class if all unfinished requests meet their objective."""
    return attainment_by_class(fleet, replace(
        table, met_slo=table.met_slo | (table.status == UNFINISHED)))


def to_simulate(fleet: Fleet, groups: tuple[ReplicaGroup, ...],
                workloads: tuple[Workload, ...]) -> tuple[Workload, ...]:
    """All workloads where the seed changes more than the requests, else each distinct one once."""
    draws = _draws(fleet) or (fleet.run.beliefs == "uncertain" and _believes(fleet, groups))
    return workloads if draws else distinct(workloads)


def _draws(fleet: Fleet) -> bool:
    policies = fleet.policies
    return (fleet.run.step_time_noise > 0.0 or fleet.run.beliefs == "model"
            or policies.explore > 0.0 or policies.route.name in ("random", "two_choices"))


def _believes(fleet: Fleet, groups: tuple[ReplicaGroup, ...]) -> bool:
    """Whether a decision may follow from believed step times. Routers that know only loads compare
    the speeds of unlike replicas."""
    policies = fleet.policies
    return (policies.route.name not in _BY_LOAD or policies.admit.name != "all"
            or len({kind_of(group) for group in groups}) > 1
            or any(fleet.schedule_of(group).reads_step_times for group in groups))


def distinct(workloads: tuple[Workload, ...]) -> tuple[Workload, ...]:
    """The workloads without repetitions. A trace at its own times is the same for every seed."""
    first = workloads[0]
    return tuple(w for i, w in enumerate(workloads) if i == 0 or not _same(first, w))


def _same(one: Workload, other: Workload) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("arrival_s", "prompt_tokens", "output_tokens", "class_index"))


def thinned(workload: Workload, share: float) -> Workload:
    """Evenly spaced requests that make up ``share`` of all, at least one."""
    if share >= 1.0:
        return workload
    share = max(share, 1.0 / len(workload))
    upto = np.floor(np.arange(len(workload) + 1) * share + 1e-9)
    return select(workload, np.diff(upto) > 0)


def spaced(workload: Workload, gap_s: float) -> Workload:
    """The same requests one by one, ``gap_s`` apart."""
    return replace(workload, arrival_s=np.arange(len(workload), dtype=np.float64) * gap_s)


def _outcome(name: str, tables: list[RequestTable], worst_share: float) -> ClassOutcome:
    rows = [table.of_class(name) for table in tables]
    met = Attainment(sum(int(r.met_slo.sum()) for r in rows), sum(len(r) for r in rows))
    ttft_s = np.concatenate([r.ttft_s for r in rows])
    return ClassOutcome(name, met, worst_share, quantile(ttft_s, 0.5), quantile(ttft_s, 0.99),
                        quantile(np.concatenate([r.itl_p99_s for r in rows]), 0.5),
                        quantile(np.concatenate([r.tpot_s for r in rows]), 0.99))


def quantile(values: FloatColumn, share: float) -> float:
    """The quantile by nearest rank over the values that are not NaN; NaN where there are none."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return float("nan")
    return float(known[max(0, int(np.ceil(share * len(known))) - 1)])
