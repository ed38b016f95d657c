"""Status of a Fleet: conditions in the form of metav1, groups, decisions."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from penstock.fleet.scaling import replica_per_hour
from penstock.fleet.values import Fleet
from penstock.serving.kubernetes.manifests import label_value
from penstock.serving.kubernetes.objects import FleetObject, time_text
from penstock.serving.kubernetes.planned import Plan
from penstock.serving.kubernetes.planning import Unplanned
from penstock.serving.kubernetes.reconcile import GroupState
from penstock.serving.kubernetes.retire import Retired

MOST_DECISIONS = 10


class Condition(NamedTuple):
    """A condition of an object, without its times."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


def conditions(fleet: FleetObject, found: Sequence[Condition], now: datetime
               ) -> list[dict[str, Any]]:
    """Return conditions as the API has them. The time of the last transition moves only where the
    status of a condition changes."""
    before = {one["type"]: one for one in fleet.status.get("conditions") or ()}
    at = time_text(now)
    return [{"type": one.type, "status": one.status, "observedGeneration": fleet.generation,
             "lastTransitionTime": before[one.type]["lastTransitionTime"]
             if one.type in before and before[one.type]["status"] == one.status else at,
             "reason": one.reason, "message": one.message[:1000]} for one in found]


def accepted(problem: str | None) -> Condition:
    """Return whether the Fleet's file is valid."""
    return Condition("Accepted", "True", "Valid", "the fleet file is valid") if problem is None \
        else Condition("Accepted", "False", "Invalid", problem)


def planned(plan: Plan | Unplanned) -> Condition:
    """Return whether the groups of a Fleet without ``replicas`` are planned."""
    if not isinstance(plan, Plan):
        if plan.problem is None:
            return Condition("Planned", "Unknown", "Planning", "the plan is being computed; the "
                             "replicas stay as they are")
        return Condition("Planned", "False", "NoPlan", f"{plan.problem}; the replicas stay as they "
                         "are")
    least = "" if plan.bound_per_hour is None else \
        f"; no schedule costs less than {plan.bound_per_hour:g}"
    return Condition("Planned", "True", "Planned", f"{plan.num_replicas} replicas for "
                     f"{plan.cost_per_hour:g} an hour{least}")


def ready(states: Sequence[GroupState], targets: Mapping[int, int],
          allowed: Mapping[int, int] | None = None) -> Condition:
    """Return whether as many replicas serve as are wanted: by Penstock where it scales a group,
    else by who set the number of the workload. Former groups leave room for as many as are
    ``allowed``."""
    problems = [state.problem for state in states if state.problem is not None]
    if problems:
        return Condition("Ready", "False", problems[0][0], "; ".join(text for _, text in problems))
    if not states:
        return Condition("Ready", "False", "NoGroups",
                         "no group of replicas has the section kubernetes")
    lacking = [f"replicas[{state.number}]: {state.ready} of {wanted} serve"
               + (f", former groups leave room for {room}" if room < wanted else "")
               for state in states if state.ready < (wanted := state.wanted(targets))
               for room in [(allowed or {}).get(state.number, wanted)]]
    if lacking:
        return Condition("Ready", "False", "ReplicasStarting", "; ".join(lacking))
    return Condition("Ready", "True", "ReplicasReady", "as many replicas serve as are wanted")


def scaling(values: Fleet, missing: str | None, *, decided: bool) -> Condition:
    """Return whether a policy decides the numbers of replicas."""
    if not values.scales:
        return Condition("Scaling", "False", "FixedReplicas",
                         "policies.scale is none: the numbers of the file, or of its plan, stay")
    if missing is not None:
        return Condition("Scaling", "False", "MetricsMissing", missing)
    if not decided:
        return Condition("Scaling", "Unknown", "NoDecisionYet", "nothing has been observed yet")
    return Condition("Scaling", "True", "Deciding", f"{values.policies.scale.name} decides")


def group_entry(values: Fleet, state: GroupState, target: int | None) -> dict[str, Any]:
    """Return a group's entry of the status."""
    group = values.replicas[state.number]
    width = group.parallelism.num_accelerators
    num_held = sum(1 for one in state.pods if one.holds_machine)
    found: dict[str, Any] = {
        "number": state.number, **({"name": state.options.name} if state.options.name else {}),
        "model": group.model.name,
        "accelerator": f"{width} x {group.accelerator.name}" if width > 1
        else group.accelerator.name,
        "act": state.options.act, "ready": state.ready, "starting": state.starting,
        "draining": state.draining,
        "costPerHour": round(num_held * replica_per_hour(values, group), 6)}
    if state.workload is not None:
        found |= {"workload": f"{state.workload.ref.kind}/{state.workload.ref.name}",
                  "replicas": state.workload.replicas}
    return found if target is None else {**found, "target": target}


def retired_entry(values: Fleet, one: Retired) -> dict[str, Any]:
    """Return the entry of a former group's workload, which still serves or ends."""
    price = next((pool.price_per_hour for pool in values.accelerators
                  if label_value(pool.accelerator.name) == one.accelerator), 0.0)
    num_held = sum(1 for pod in one.pods if pod.holds_machine)
    return {"workload": f"{one.workload.ref.kind}/{one.workload.ref.name}",
            "replicas": one.workload.replicas, "ready": one.ready,
            "draining": sum(1 for pod in one.pods if pod.is_ending),
            "costPerHour": round(num_held * one.width * price, 6)}


def decision_entry(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a decision's entry of the status."""
    found = {"at": time_text(datetime.fromtimestamp(one["at_s"], UTC)), "before": [*one["before"]],
             "targets": [*one["targets"]], "reason": one["reason"],
             "terms": {key: round(float(value), 6) for key, value in one["terms"].items()}}
    if one["attainment"] is not None:
        found["attainment"] = round(one["attainment"], 6)
    return found


def fleet_status(fleet: FleetObject, values: Fleet | None, found: Sequence[Condition],
                 groups: Sequence[Mapping[str, Any]], decisions: Sequence[Mapping[str, Any]],
                 attainment: float | None, now: datetime, plan: Plan | None = None,
                 former: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the status of a Fleet. ``plan`` is None where its file states the groups, ``former``
    has the entries of groups that it no longer has."""
    status: dict[str, Any] = {"observedGeneration": fleet.generation,
                              "conditions": conditions(fleet, found, now)}
    if values is None:
        return status
    num_ready = sum(one["ready"] for one in groups)
    num_wanted = sum(one.get("target", one.get("replicas", 0)) for one in groups)
    models = ", ".join(dict.fromkeys(group.model.name for group in values.replicas))
    return {**status, "policy": values.policies.scale.name, "models": models,
            "replicas": f"{num_ready}/{num_wanted}",
            "costPerHour": round(sum(one["costPerHour"] for one in (*groups, *former)), 6),
            "boundCostPerHour": None if plan is None else plan.bound_per_hour,
            "plan": None if plan is None else plan.status(),
            "attainment": None if attainment is None else round(attainment, 4),
            "groups": [dict(one) for one in groups],
            "retiring": [dict(one) for one in former] or None,
            "decisions": [decision_entry(one) for one in [*decisions][-MOST_DECISIONS:]]}
