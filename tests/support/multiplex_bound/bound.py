"""How many requests could have been answered in time on one device, had all arrivals been known."""

import time
from collections.abc import Sequence
from math import ceil, floor, inf

import highspy
import numpy as np

from penstock.core.errors import InputError
from penstock.plan.assign.highs import Arrays, Floats, model_of
from penstock.policy.multiplex.values import HostedModel, Queued
from support.multiplex_bound.cohorts import cohorts
from support.multiplex_bound.program import ServedModel, SlotProgram
from support.multiplex_bound.values import Bound, BoundOptions, DeviceLimits

USUAL = BoundOptions()
_ROUNDING = 1e-6
# Duals need not be exact for ``proven_bound``.
_INTERIOR = {"output_flag": False, "threads": 1, "random_seed": 0, "solver": "ipm",
             "run_crossover": "off", "primal_feasibility_tolerance": 1e-6,
             "ipm_optimality_tolerance": 1e-6}


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
    """The bound by the duals of an interior-point method, and whether that came to its end."""
    arrays = built.program.arrays()
    cost = np.zeros(built.program.num_columns)
    for column, weight in built.in_time:
        cost[column] = -weight
    solver = highspy.Highs()
    for name, value in {**_INTERIOR, "time_limit": time_limit_s}.items():
        solver.setOptionValue(name, value)
    solver.passModel(model_of(arrays, cost, integer=False))
    solver.run()
    solution = solver.getSolution()
    if not solution.dual_valid:
        return inf, False
    return (-proven_bound(arrays, cost, np.array(solution.row_dual)),
            solver.getModelStatus() == highspy.HighsModelStatus.kOptimal)

def proven_bound(program: Arrays, cost: Floats, row_duals: Floats) -> float:
    """A value that no solution of a continuous program, by rows, goes below, whatever the duals.

    Weak duality in plain sums (Neumaier and Shcherbina, 2004, without their directed rounding):
    each row counts with its side, and what is left of a column's cost with the bound of the column.
    So duals of a solver that stopped early, or was not exact, do no harm but to the bound. Minus
    infinity where a column that they leave with a cost has no bound.
    """
    duals = np.nan_to_num(row_duals, posinf=0.0, neginf=0.0)
    sides = np.where(duals > 0.0, program.row_lower, program.row_upper)
    duals = np.where(np.isfinite(sides), duals, 0.0)
    weights = program.value * np.repeat(duals, np.diff(program.starts))
    left = cost - np.bincount(program.index, weights, minlength=len(cost))
    ends = np.where(left > 0.0, program.lower, program.upper)
    rows = duals[duals != 0.0] * sides[duals != 0.0]
    return float(rows.sum() + (left[left != 0.0] * ends[left != 0.0]).sum())


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
