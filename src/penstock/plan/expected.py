"""Expectations of the analytic model at the plan's final numbers of replicas."""

from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from penstock.plan.beliefs import Beliefs
from penstock.plan.demands import Demand
from penstock.plan.estimate import Candidate, ClassEstimate, class_estimates, replica_queue
from penstock.plan.plan import FleetPlan
from penstock.plan.propose import Choice

_LEVEL_STEPS = 50


@dataclass(frozen=True, slots=True)
class Alone:
    """A candidate that carries its whole demand alone.

    ``rate_per_s`` and ``num_replicas`` follow the belief where simulation ``corrected`` it, else
    the model's estimate. An uncorrected belief is the estimate times a factor of optimism, which
    readers should not see.
    """

    rate_per_s: float
    num_replicas: int
    corrected: bool
    classes: tuple[ClassEstimate, ...]


def all_alone(plan: FleetPlan, choice: Choice) -> dict[str, Alone]:
    """The candidates of a choice by variant, each carrying the demand alone."""
    first = Beliefs([choice]).rates
    found = {}
    for candidate in choice.candidates:
        key = choice.demand.name, candidate.variant.name
        believed_per_s = plan.checked.rates[key]
        corrected = believed_per_s != first[key]
        number = max(1, ceil(choice.demand.rate_per_s / believed_per_s - 1e-9)) if corrected \
            else candidate.num_replicas
        found[key[1]] = Alone(believed_per_s if corrected else candidate.rate_per_s, number,
                              corrected, _classes(plan, choice.demand, candidate, number))
    return found


def _classes(plan: FleetPlan, demand: Demand, candidate: Candidate,
             number: int) -> tuple[ClassEstimate, ...]:
    if number == candidate.num_replicas:
        return candidate.classes
    try:
        queue = replica_queue(plan.before, demand, candidate.variant)
        return class_estimates(queue, demand.classes, demand.rate_per_s / number, number,
                               candidate.variant.group.speculation)
    except Exception:  # the plan does not depend on these latencies
        return ()


def in_plan(plan: FleetPlan, choice: Choice) -> tuple[ClassEstimate, ...]:
    """Latencies of each class on the plan's replicas; the worst where kinds of replicas differ.

    ``itl_p99_s`` is defined as in a simulation: the median over a class's requests of the gap that
    99 % of a request's gaps do not exceed. Empty for a demand without replicas, where replicas have
    roles, and where the analytic model fails.
    """
    if choice.is_split(plan.checked.counts[choice.demand.name]):
        return ()
    try:
        return _in_plan(plan, choice)
    except Exception:  # simulation confirmed the plan, whatever the model says
        return ()


def _in_plan(plan: FleetPlan, choice: Choice) -> tuple[ClassEstimate, ...]:
    demand, rates = choice.demand, plan.checked.rates
    counts = plan.checked.counts[demand.name]
    total = sum(n * rates[demand.name, variant] for variant, n in counts)
    shares = [median_request_share(gaps) for gaps in _gaps_by_class(demand)]
    worst: tuple[ClassEstimate, ...] = ()
    together = sum(n for _, n in counts)  # replicas of all kinds share one queue
    for variant, _ in counts:
        kind = choice.candidate(variant).variant
        queue = replica_queue(plan.before, demand, kind)
        rate_per_s = (plan.checked.solution.served[demand.name] * demand.rate_per_s
                      * rates[demand.name, variant] / total)
        state = queue.operation(rate_per_s)
        by_class = class_estimates(queue, demand.classes, rate_per_s, together,
                                   kind.group.speculation)
        found = tuple(replace(e, itl_p99_s=state.gap_quantile_s(share) if state else inf)
                      for e, share in zip(by_class, shares, strict=True))
        worst = found if not worst else tuple(
            max(a, b, key=lambda e: e.ttft_p99_s) for a, b in zip(worst, found, strict=True))
    return worst


def _gaps_by_class(demand: Demand) -> list[NDArray[np.int64]]:
    """Gaps between tokens of each request that has any, class by class."""
    found = []
    for service_class in demand.classes:
        outputs = [w.output_tokens[w.class_index == i] for w in demand.workloads
                   for i, name in enumerate(w.service_classes) if name == service_class.name]
        gaps = np.concatenate(outputs).astype(np.int64) - 1
        found.append(gaps[gaps > 0])
    return found


def median_request_share(num_gaps: NDArray[np.int64]) -> float:
    """The share of all gaps that lie below the median of the requests' own 99th percentiles.

    The 99th percentile (by nearest rank) of a request with N gaps is within a bound if at most
    N // 100 gaps exceed the bound. Gaps are taken to be independent, so their number is binomial.
    """
    from scipy.special import bdtr  # type: ignore[import-untyped]

    lengths, requests = np.unique(num_gaps, return_counts=True)
    if not len(lengths):
        return 0.99
    low, high = 0.0, 1.0
    for _ in range(_LEVEL_STEPS):
        middle = 0.5 * (low + high)
        within = bdtr(lengths // 100, lengths, 1.0 - middle)
        if float((within * requests).sum()) < 0.5 * requests.sum():
            low = middle
        else:
            high = middle
    return high
