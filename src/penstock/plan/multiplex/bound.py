"""How many requests could have been answered in time on one device, had all arrivals been known."""

import time
from collections.abc import Sequence
from math import ceil, floor, inf

import numpy as np

from penstock.core.errors import InputError
from penstock.plan.assign.highs import proven_bound, solve_program
from penstock.plan.multiplex.cohorts import cohorts
from penstock.plan.multiplex.program import ServedModel, SlotProgram
from penstock.plan.multiplex.values import Bound, BoundOptions, DeviceLimits
from penstock.policy.multiplex.values import HostedModel, Queued

USUAL = BoundOptions()
_ROUNDING = 1e-6


def in_time_bound(requests: Sequence[Queued], models: Sequence[HostedModel],
                  least_loads_s: Sequence[float], limits: DeviceLimits,
                  options: BoundOptions = USUAL) -> Bound:
    """Return the bound that no policy exceeds on these arrivals.

    ``least_loads_s`` has per model the least that a load of it can take, say from the page cache;
    a model's ``batch`` is the least that a batch takes. It holds for static batches on one device
    that starts empty, however its models are prefetched, and whatever fails. Raises InputError for
    requests without an end to their deadlines (set ``end_s``) and for values that mean nothing.
    """
    began_s = time.perf_counter()
    _check(requests, models, least_loads_s)
    end_s = min(options.end_s, max((one.deadline_s for one in requests), default=0.0))
    if end_s == inf:
        raise InputError("a request has no deadline: the bound needs end_s, the moment up to which "
                         "answers count")
    served = _served(requests, models, least_loads_s, limits, options.slot_s, end_s)
    num_possible = sum(cohort.num for one in served for cohort in one.cohorts)
    num_residents = limits.num_residents([one.model for one in served])
    if not num_possible or not num_residents:
        return Bound(0, len(requests), 0, 0.0, 0, time.perf_counter() - began_s, solved=True)
    longest_s = max(limits.after.seconds(one.largest) for one in served)
    num_slots = ceil((end_s + longest_s) / options.slot_s) + 1
    relaxed, solved = _solve(SlotProgram(num_slots, options.slot_s, limits, served, num_residents),
                             options.time_limit_s)
    relaxed = min(relaxed, float(num_possible))
    return Bound(floor(relaxed + _ROUNDING * max(1.0, relaxed)), len(requests), num_possible,
                 relaxed, num_slots, time.perf_counter() - began_s, solved)


def _served(requests: Sequence[Queued], models: Sequence[HostedModel],
            least_loads_s: Sequence[float], limits: DeviceLimits, slot_s: float,
            end_s: float) -> list[ServedModel]:
    """Models that fit and that somebody could be served by in time: a load comes first."""
    found = []
    for index, (model, load_s) in enumerate(zip(models, least_loads_s, strict=True)):
        largest = limits.largest_batch(model)
        after_load = [one for one in requests if one.model == index and load_s
                      + model.batch.seconds(1) < min(one.deadline_s, end_s)]
        own = cohorts(after_load, index, model, limits.after, largest, slot_s, end_s)
        if largest and own:
            found.append(ServedModel(model, own, load_s, largest))
    return found


def _solve(built: SlotProgram, time_limit_s: float) -> tuple[float, bool]:
    arrays = built.program.arrays()
    cost = np.zeros(built.program.num_columns)
    for column, weight in built.in_time:
        cost[column] = -weight
    answer = solve_program(arrays, cost, relaxed=True, interior=True, time_limit_s=time_limit_s)
    if answer.row_duals is None:
        return inf, False
    return -proven_bound(arrays, cost, answer.row_duals), answer.status == "optimal"


def _check(requests: Sequence[Queued], models: Sequence[HostedModel],
           least_loads_s: Sequence[float]) -> None:
    if len(models) != len(least_loads_s):
        raise InputError(f"{len(least_loads_s)} load times, expected one per model: {len(models)}")
    for model, load_s in zip(models, least_loads_s, strict=True):
        if not 0.0 <= load_s < inf:
            raise InputError(f"model {model.name}: a load of {load_s} s, expected 0 or more")
    for request in requests:
        if not 0 <= request.model < len(models) or not 0.0 <= request.arrival_s < inf:
            raise InputError(f"request {request.request_id}: model {request.model} at "
                             f"{request.arrival_s} s, expected 0 to {len(models) - 1} and 0 s or "
                             "later")
