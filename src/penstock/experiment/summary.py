"""A run's summary with the fleet it ran on and how that fleet was sized."""

from typing import TYPE_CHECKING, Any

from penstock.experiment.run import Run
from penstock.fleet.write import resolved
from penstock.plan.sizing import Limit, Sized

if TYPE_CHECKING:
    from penstock.plan.plan import FleetPlan


def whole_summary(run: Run, sized: Sized | None = None,
                  plan: "FleetPlan | None" = None) -> dict[str, Any]:
    """Everything that summary.json says."""
    summary = {**run.summary, "fleet": resolved(run.fleet)}
    # How a fleet was found tells how much of what it was found for.
    if "confidential" in summary:
        return summary
    if sized is not None and sized.trials:
        summary["sizing"] = sizing_summary(sized)
    if plan is not None:
        from penstock.plan.document import plan_document

        summary["plan"] = plan_document(plan)
        # How long it took differs from run to run; a run's files do not.
        del summary["plan"]["timing"]
    return summary


def sizing_summary(sized: Sized) -> dict[str, Any]:
    """The trials by number of replicas. Groups are sized one by one, each on its own classes, so
    trials of the same number stand in one row."""
    counts = [group.count for group in sized.fleet.replicas]
    tried: dict[int, dict[str, Any]] = {}
    for trial in sized.trials:
        row = tried.setdefault(trial.count, {"value": trial.count, "attainment": {},
                                             "meets_slo": True, "missed": {}})
        row["attainment"] |= {name: found.share for name, found in trial.attainment.items()}
        row["missed"] |= trial.missed
        row["meets_slo"] = row["meets_slo"] and trial.meets
    summary: dict[str, Any] = {
        "variable": "num_replicas", "chosen": counts[0] if len(counts) == 1 else None,
        "tried": [tried[count] for count in sorted(tried)],
        "limits": [_limit(sized, limit) for limit in sized.limits]}
    if len(counts) > 1:
        chosen = ", ".join(f"{count} for {_whose(group.service_classes)}"
                           for count, group in zip(counts, sized.fleet.replicas, strict=True))
        summary["note"] = f"Each group of replicas was sized on its own traffic: {chosen}."
    return summary


def _limit(sized: Sized, limit: Limit) -> dict[str, Any]:
    classes = sized.fleet.sizing.groups[limit.group].service_classes
    return {"classes": None if classes is None else list(classes), "fewest": limit.fewest,
            "reason": limit.reason, "rate_per_s": limit.rate_per_s,
            "replica_rate_per_s": limit.replica_rate_per_s}


def _whose(classes: tuple[str, ...] | None) -> str:
    return "all classes" if classes is None else " and ".join(classes)
