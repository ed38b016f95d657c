"""Accelerator-hours that no scaling policy undercuts on given requests."""

import numpy as np

from penstock.core.errors import InputError
from penstock.fleet.scaling import bounds
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.plan.bound import throughput_bound
from penstock.workload.merge import sampled
from penstock.workload.select import select
from penstock.workload.workload import Traffic, Workload

SECONDS_PER_HOUR = 3600.0


SAMPLE_REQUESTS = 1_000_000
"""Requests of which a bound is computed where traffic is not held."""


def least_gpu_hours(fleet: Fleet, traffic: Traffic) -> float | None:
    """Return accelerator-hours below which no policy meets the objectives, not even one that knows
    all requests; None where no bound is known.

    A relaxation: of each model, the requests of the least work that an objective still asks for are
    computed at the rate that no schedule exceeds, on the group that needs the fewest accelerators,
    without deadlines, whole replicas, starts and drains. The fewest replicas of every group are
    held all the time. The work of a request is its tokens, its attention and its context at the
    step size of the bound, so the choice of the requests is that of the bound, not every one. Of
    traffic that is not held, an even sample stands for all.
    """
    workload, stands_for = sampled(traffic, SAMPLE_REQUESTS)
    try:
        computed = stands_for * sum(_of_model(fleet, workload, index)
                                    for index in range(len(workload.models)))
    except InputError:
        return None
    held = sum(bounds(fleet, group)[0] * group.parallelism.num_accelerators
               for group in fleet.replicas) * traffic.duration_s / SECONDS_PER_HOUR
    return max(computed, held)


def _of_model(fleet: Fleet, workload: Workload, index: int) -> float:
    name = workload.models[index]
    own = select(workload, workload.model_index == index)
    groups = [group for group in fleet.replicas if name in ("", group.model.name)]
    if not len(own) or not groups:
        return 0.0
    return min(_hours(fleet, group, own) for group in groups)


def _hours(fleet: Fleet, group: ReplicaGroup, requests: Workload) -> float:
    kept = _cheapest(fleet, requests)
    rate = throughput_bound(fleet, group, kept).rate_per_s
    return len(kept) / rate * group.parallelism.num_accelerators / SECONDS_PER_HOUR


def _cheapest(fleet: Fleet, requests: Workload) -> Workload:
    """Return the requests of the fewest tokens that the objectives of their classes ask for."""
    tokens = requests.prompt_tokens + requests.output_tokens
    keep = np.zeros(len(requests), np.bool_)
    for number, name in enumerate(requests.service_classes):
        rows = np.flatnonzero(requests.class_index == number)
        share = fleet.service_class(name).slo.percentile / 100.0
        most = int(np.ceil(share * len(rows) - 1e-9))
        keep[rows[np.argsort(tokens[rows], kind="stable")[:most]]] = True
    return select(requests, keep)
