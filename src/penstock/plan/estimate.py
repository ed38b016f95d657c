"""Estimates of each variant for a demand, and the variants worth considering."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.core.slo import ServiceClass
from penstock.fleet.adapter_costs import with_adapters
from penstock.fleet.capacity import class_targets, drafting_queue, engine_limits
from penstock.fleet.replica_factory import step_time
from penstock.fleet.speculation import turn_tokens
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.fleet.values_speculation import Speculation
from penstock.perf.queueing.replicas import (
    ReplicaQueue,
    RequestMix,
)
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.plan.bisection import largest_count
from penstock.plan.bound import throughput_bound
from penstock.plan.demands import Demand
from penstock.plan.slower import sigmas_of, slower
from penstock.plan.variants import LeftOut, Variant
from penstock.workload.workload import Workload

_DOMINANCE_MARGIN = 1.05  # rates are not sure enough to drop a variant for less
_MOST_REPLICAS = 100_000
_SAMPLE_ROWS, _ADAPTED_ROWS = 12_000, 4_000  # requests for adapters are followed one by one
_NUM_RUNS = 6
_MOST_OF_MESSAGE = 200

FAILED = "its estimate failed, which is a bug in Penstock"
"""The reason of a variant whose estimate raised an exception begins with these words."""


@dataclass(frozen=True, slots=True)
class ClassEstimate:
    """Expected latencies of one class, seconds; infinite where they would grow without end."""

    name: str
    ttft_p50_s: float
    ttft_p99_s: float
    itl_p50_s: float
    itl_p99_s: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant that can serve a demand, with the analytic model's expectations.

    ``num_replicas`` is the fewest replicas that carry the whole demand alone. ``rate_per_s`` is the
    rate that one of these replicas sustains within all targets; ``binding`` names the limit of the
    rate. ``bound_per_s`` is the rate that no schedule exceeds, None where no formula gives it.
    """

    variant: Variant
    rate_per_s: float
    num_replicas: int
    binding: str
    bound_per_s: float | None
    classes: tuple[ClassEstimate, ...]

    @property
    def cost_per_hour(self) -> float:
        """Cost of carrying the demand with this variant alone."""
        return self.num_replicas * self.variant.cost_per_hour


def estimate(fleet: Fleet, demand: Demand, variant: Variant) -> Candidate | LeftOut:
    """Return the variant as a candidate, or the reason why it cannot meet the targets at all.

    A variant whose estimate raises an exception is left out with the exception as its reason, so
    that one variant does not stop the plan of all others.
    """
    try:
        return _estimated(fleet, demand, variant)
    except InputError as error:
        return LeftOut(variant.name, str(error))
    except Exception as error:
        return LeftOut(variant.name, f"{FAILED}: {_failure(error)}; please report it")


def _failure(error: Exception) -> str:
    """An exception in one line, with the place that raised it."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else (
        f" ({Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno})")
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_MOST_OF_MESSAGE]}{where}"


def _estimated(fleet: Fleet, demand: Demand, variant: Variant) -> Candidate | LeftOut:
    queue = replica_queue(fleet, demand, variant)
    rate_per_s = demand.rate_per_s
    idle_misses = queue.first_miss(1e-9)
    if idle_misses is not None:
        name, target = idle_misses
        return LeftOut(variant.name, f"misses the {target} target of {name} even when idle"
                       if target != "throughput" else "its steps are too small for any rate")
    count = _fewest(queue, rate_per_s)
    if count > _MOST_REPLICAS:
        return LeftOut(variant.name, f"more than {_MOST_REPLICAS:,} replicas would be needed")
    sustained, binding = queue.capacity_per_s(count)
    # ``count`` replicas carry the demand, even if the coarse search for their most says less.
    sustained = max(sustained, rate_per_s / count)
    return Candidate(variant, sustained, count, binding, bound_per_s(fleet, demand, variant),
                     class_estimates(queue, demand.classes, rate_per_s / count, count,
                                     variant.group.speculation))


def class_estimates(queue: ReplicaQueue, classes: Sequence[ServiceClass], rate_per_s: float,
                    num_replicas: int,
                    speculation: Speculation | None = None) -> tuple[ClassEstimate, ...]:
    """Latencies of every class at a rate per replica. Of drafted decodes, gaps are those of turns
    divided by the tokens of a turn."""
    state = queue.operation(rate_per_s)
    each = [1.0 if speculation is None else turn_tokens(speculation, c.name) for c in classes]
    gaps = (state.gap_quantile_s(0.5), state.gap_quantile_s(0.99)) if state else (inf, inf)
    return tuple(ClassEstimate(c.name, queue.ttft_quantile_s(i, 0.5, rate_per_s, num_replicas),
                               queue.ttft_quantile_s(i, 0.99, rate_per_s, num_replicas),
                               *(gap_s / tokens for gap_s in gaps))
                 for i, (c, tokens) in enumerate(zip(classes, each, strict=True)))


def replica_queue(fleet: Fleet, demand: Demand, variant: Variant) -> ReplicaQueue:
    """The analytic model of a variant's replicas under a demand."""
    schedule, lora = fleet.schedule_of(variant.group), variant.group.lora
    engine = engine_limits(schedule, variant.kv_tokens)
    if lora is not None:
        engine = replace(engine, max_loras=lora.max_loras, adapter_wait_s=schedule.adapter_wait_s)
    return drafting_queue(variant.group, believed_step_time(fleet, variant), engine,
                          request_mix(demand), demand.classes,
                          [class_targets(c) for c in demand.classes])


def believed_step_time(fleet: Fleet, variant: Variant) -> StepTimeModel:
    """Return the step time of a variant's replica at the plan's confidence."""
    return with_adapters(fleet, variant.group, step_time(_believed(fleet, variant)))


def _believed(fleet: Fleet, variant: Variant) -> ReplicaGroup:
    """The variant's replica with steps as slow as the plan's confidence asks for."""
    group, = slower((variant.group,), sigmas_of(fleet.plan.confidence))
    return group


def request_mix(demand: Demand) -> RequestMix:
    """The demand's requests of all seeds with the gaps between their arrivals.

    Of very many requests, evenly spaced runs and at least one request of every class.
    """
    rate_per_s = demand.rate_per_s
    parts = [(w.prompt_tokens, w.output_tokens, _class_numbers(demand, w),
              rate_per_s * np.diff(w.arrival_s, prepend=w.arrival_s[0] - 1.0 / rate_per_s))
             for w in demand.workloads]
    prompts, outputs, classes, gaps = (np.concatenate(c) for c in zip(*parts, strict=True))
    adapters, rows = _adapter_numbers(demand.workloads), np.arange(len(classes))
    most = _SAMPLE_ROWS if adapters is None else _ADAPTED_ROWS
    if len(classes) > most:
        rows = np.union1d(_runs(len(classes), most), np.unique(classes, return_index=True)[1])
    if all(w.arrival_s[0] == w.arrival_s[-1] for w in demand.workloads):
        gaps = np.ones(len(gaps))  # one burst: the rate alone spaces the arrivals
    return RequestMix(prompts[rows].astype(np.float64), outputs[rows].astype(np.float64),
                      classes[rows], gaps[rows],
                      adapter_index=None if adapters is None else adapters[rows])


def _adapter_numbers(workloads: Sequence[Workload]) -> NDArray[np.int64] | None:
    """A number for each request's adapter, -1 for the model itself; None where no request names
    an adapter."""
    numbers = {"": -1}
    for workload in workloads:
        for name in workload.adapters:
            numbers.setdefault(name, len(numbers) - 1)
    if len(numbers) == 1:
        return None
    return np.concatenate([
        np.full(len(w), -1, np.int64) if w.adapter_index is None else
        np.array([numbers[name] for name in w.adapters], np.int64)[w.adapter_index]
        for w in workloads])


def _runs(num_rows: int, most: int) -> NDArray[np.int64]:
    """``_NUM_RUNS`` runs of consecutive rows, evenly spaced, of ``most`` rows together."""
    length = most // _NUM_RUNS
    starts = np.linspace(0, num_rows - length, _NUM_RUNS).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(length)).ravel())


def _class_numbers(demand: Demand, workload: Workload) -> NDArray[np.int64]:
    """The index of each request's class among the demand's classes; -1 for other classes."""
    names = [c.name for c in demand.classes]
    number_of = np.array([names.index(name) if name in names else -1
                          for name in workload.service_classes], dtype=np.int64)
    return number_of[workload.class_index]


def _fewest(queue: ReplicaQueue, rate_per_s: float) -> int:
    """The fewest replicas that together carry a rate within all targets."""
    return 1 + largest_count(
        lambda count: queue.first_miss(rate_per_s / count, count) is not None, _MOST_REPLICAS)


def bound_per_s(fleet: Fleet, demand: Demand, variant: Variant) -> float | None:
    """Return the requests of a demand's first seed per second that no schedule exceeds on one
    replica, None where no formula gives the rate."""
    try:
        return throughput_bound(fleet, _believed(fleet, variant), demand.sample).rate_per_s
    except InputError:  # not every step time and cache has one
        return None


def without_dominated(candidates: Sequence[Candidate],
                      rates: Mapping[str, float]) -> tuple[list[Candidate], list[LeftOut]]:
    """Split the candidates into those that a plan may need and those that another dominates.

    ``rates`` are the believed rates of one replica, by variant. Another variant dominates where as
    many of its replicas as fit on the same accelerators carry clearly more at no more cost and
    power. Precisions differ in the quality of answers, so a variant of one precision never
    dominates a variant of another.
    """
    kept: list[Candidate] = []
    dropped: list[LeftOut] = []
    ordered = sorted(candidates, key=lambda c: (c.variant.group.num_accelerators,
                                                -rates[c.variant.name], c.variant.name))
    for candidate in ordered:
        better = next((other for other in kept if _dominates(other, candidate, rates)), None)
        if better is None:
            kept.append(candidate)
        else:
            dropped.append(LeftOut(candidate.variant.name,
                                   f"{better.variant.name} carries more on the same "
                                   "accelerators"))
    return sorted(kept, key=lambda c: c.variant.name), dropped


def _dominates(one: Candidate, other: Candidate, rates: Mapping[str, float]) -> bool:
    mine, theirs = one.variant, other.variant
    if any(getattr(mine.group, what) != getattr(theirs.group, what)
           for what in ("accelerator", "precision", "kv_precision")):
        return False
    fits = theirs.group.num_accelerators // mine.group.num_accelerators
    return (fits >= 1 and fits * rates[mine.name] >= _DOMINANCE_MARGIN * rates[theirs.name]
            and fits * mine.cost_per_hour <= theirs.cost_per_hour
            and fits * mine.power_w <= theirs.power_w)
