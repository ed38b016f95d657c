"""Replicas for a fleet that states none: one search for their kinds and numbers."""

from collections.abc import Callable
from dataclasses import dataclass

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet
from penstock.plan.check import Solve
from penstock.plan.plan import FleetPlan, plan_fleet
from penstock.plan.sizing import Sized, Trial, size_fleet
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Found:
    """A fleet with replicas or pools, and the search that found the replicas, if there was one."""

    fleet: Fleet
    sized: Sized | None = None
    plan: FleetPlan | None = None


def find_replicas(fleet: Fleet, workload: Workload, solve: Solve, *,
                  on_step: Callable[[str], None] | None = None) -> Found:
    """The fleet with its replicas.

    A fleet that states replicas or pools keeps them. A fleet that states kinds of replicas
    (``sizing``, ``variant``) gets the fewest of these kinds: a plan with one variant per group,
    whose solver is a bracketing search. Any other fleet gets the cheapest replicas of a plan.

    Raises InputError where no accelerator holds a model, and as ``size_fleet`` and ``plan_fleet``.
    """
    if fleet.replicas or fleet.multiplexing:
        return Found(fleet)
    if fleet.sizing.stated:
        sized = size_fleet(fleet, workload, fleet.run.seed,
                           None if on_step is None else lambda trial: on_step(_format_trial(trial)))
        return Found(sized.fleet, sized=sized)
    plan = plan_fleet(fleet, solve, workload=workload, on_step=on_step)
    if plan.fits_nowhere:
        raise InputError(plan.fits_nowhere)
    return Found(plan.fleet, plan=plan)


def _format_trial(trial: Trial) -> str:
    """A trial of a number of replicas in a few words."""
    counted = "1 replica" if trial.count == 1 else f"{trial.count:,} replicas"
    return f"{counted}: {'enough' if trial.meets else 'too few'}"
