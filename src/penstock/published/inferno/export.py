"""Plans in the form of Inferno's files: ``allocations`` by server, and what changes."""

from typing import Any

import numpy as np

from penstock.published.inferno.solve import InfernoPlan
from penstock.published.inferno.values import Allocation, Load, System


def shortest(value: float) -> float:
    """The shortest decimal of the same 32-bit float: 75.9 rather than 75.9000015."""
    return float(str(np.float32(value)))


def solution(plan: InfernoPlan) -> dict[str, Any]:
    """The answer of Inferno's ``/optimizeOne``: ``{"allocations": {server: allocation}}``.

    A mixture, which that form cannot hold, is added up under the accelerators' names.
    """
    return {"allocations": {name: allocation_data(plan.system, allocation,
                                                  plan.system.servers[name].load)
                            for name, allocation in plan.allocations.items()}}


def allocation_data(system: System, allocation: Allocation, load: Load) -> dict[str, Any]:
    """One allocation with upstream's field names; times in ms, cost in cents per hour."""
    traffic: dict[str, Any] = {"arrivalRate": load.arrival_per_min}
    if system.generation == "v2":
        traffic["throughput"] = load.throughput_per_min
    return {
        "accelerator": allocation.accelerator, "numReplicas": allocation.num_replicas,
        "maxBatch": allocation.max_batch, "cost": shortest(allocation.cost_cents_per_hour),
        "itlAverage": shortest(allocation.itl_ms), "ttftAverage": shortest(allocation.ttft_ms),
        "load": traffic | {"avgInTokens": load.input_tokens, "avgOutTokens": load.output_tokens}}


def diffs(plan: InfernoPlan) -> dict[str, dict[str, Any]]:
    """Per server whose allocation changes: upstream's record of old and new."""
    found: dict[str, dict[str, Any]] = {}
    chosen = plan.allocations
    for name, server in sorted(plan.system.servers.items()):
        old, new = server.current, chosen.get(name, Allocation())
        if (old.accelerator, old.num_replicas) != (new.accelerator, new.num_replicas):
            found[name] = {
                "oldAccelerator": old.accelerator or "none",
                "newAccelerator": new.accelerator or "none",
                "oldNumReplicas": old.num_replicas, "newNumReplicas": new.num_replicas,
                "costDiff": new.cost_cents_per_hour - old.cost_cents_per_hour}
    return found


def plan_document(plan: InfernoPlan) -> dict[str, Any]:
    """Everything about a plan, for ``--json``: upstream's allocations with more on each."""
    allocations = solution(plan)["allocations"]
    devices = {pool: {"used": used, "available": (plan.system.capacity or {}).get(pool)}
               for pool, used in sorted(plan.used_devices.items())}
    for name, allocation in plan.allocations.items():
        allocations[name] |= {"value": shortest(allocation.value),
                              "maxRPM": shortest(allocation.max_per_min),
                              "rho": shortest(allocation.rho), "saturated": name in plan.saturated}
        if len(plan.parts[name]) > 1:
            allocations[name]["parts"] = [
                allocation_data(plan.system, part, plan.system.servers[name].load)
                for part in plan.parts[name]]
    return {
        "solver": plan.settings.solver, "status": plan.status,
        "saturationPolicy": plan.settings.saturation_policy,
        "delayedBestEffort": plan.settings.delayed_best_effort,
        "complete": plan.complete, "totalCost": plan.total_cost, "objective": plan.objective,
        "bound": plan.bound, "gap": plan.gap, "time_s": plan.time_s,
        "allocations": allocations, "unserved": dict(plan.unserved),
        "saturated": list(plan.saturated), "diff": diffs(plan),
        "devices": devices, "cards": devices}  # its name in release 0.2
