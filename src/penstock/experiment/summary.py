"""A run's summary with the fleet it ran on and how that fleet was sized."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.experiment.run import Run
from penstock.fleet.write import resolved
from penstock.metrics.run_summary import Fewest, RunSummary, Sizing, Trial

if TYPE_CHECKING:
    from penstock.plan.plan import FleetPlan
    from penstock.plan.sizing import Limit, Sized


def whole_summary(run: Run, sized: "Sized | None" = None,
                  plan: "FleetPlan | None" = None) -> RunSummary:
    """The summary with all that a run's folder keeps of it."""
    summary = replace(run.summary, fleet=resolved(run.fleet))
    # How a fleet was found tells how much of what it was found for.
    if summary.confidential is not None:
        return summary
    if sized is not None and sized.trials:
        summary = replace(summary, sizing=sizing_summary(sized))
    return summary if plan is None else replace(summary, plan=_without_timing(plan))


def _without_timing(plan: "FleetPlan") -> dict[str, Any]:
    """The document of a plan. How long it took differs from run to run; a run's files do not."""
    from penstock.plan.certainty import certainties
    from penstock.plan.document import plan_document

    document = plan_document(plan, certain=certainties(plan))
    return {key: value for key, value in document.items() if key != "timing"}


def sizing_summary(sized: "Sized") -> Sizing:
    """The trials by number of replicas. Groups are sized one by one, each on its own classes, so
    trials of the same number stand in one row."""
    counts = [group.count for group in sized.fleet.replicas]
    tried: dict[int, Trial] = {}
    for trial in sized.trials:
        row = tried.get(trial.count, Trial(value=trial.count, attainment={}, meets_slo=True,
                                           missed={}))
        shares = {name: found.share for name, found in trial.attainment.items()}
        tried[trial.count] = replace(
            row, attainment={**row.attainment, **shares},
            missed={**(row.missed or {}), **trial.missed},
            meets_slo=bool(row.meets_slo) and trial.meets)
    chosen = ", ".join(f"{count} for {_whose(group.service_classes)}"
                       for count, group in zip(counts, sized.fleet.replicas, strict=True))
    alone = len(counts) == 1
    return Sizing(
        variable="num_replicas", chosen=counts[0] if alone else None,
        tried=tuple(tried[count] for count in sorted(tried)),
        limits=tuple(_fewest(sized, limit) for limit in sized.limits),
        note=f"Each group of replicas was sized on its own traffic: {chosen}."
        if len(counts) > 1 else None)


def _fewest(sized: "Sized", limit: "Limit") -> Fewest:
    return Fewest(classes=sized.fleet.sizing.groups[limit.group].service_classes,
                  fewest=limit.fewest, reason=limit.reason, rate_per_s=limit.rate_per_s,
                  replica_rate_per_s=limit.replica_rate_per_s)


def _whose(classes: tuple[str, ...] | None) -> str:
    return "all classes" if classes is None else " and ".join(classes)
