"""Documents that the loop answers over HTTP, with the names of Inferno's data."""

from typing import Any

from penstock.published.inferno.cluster.collect import Collected
from penstock.published.inferno.cluster.decide import Decision, Order, Rules, server_row
from penstock.published.inferno.export import allocation_data, shortest
from penstock.published.inferno.values import System


def collected_document(collected: Collected, rules: Rules, static: System) -> dict[str, Any]:
    """Return the servers as Inferno's collector answers them, and the Deployments left alone."""
    return {
        "servers": [server_row(one, rules, static) for one in collected.servers],
        "replicas": [],
        "kube-resources": {one.managed.name: {
            "uid": one.managed.uid, "name": one.managed.ref.name,
            "space": one.managed.ref.namespace} for one in collected.servers},
        "held": [_held(one.ref.namespace, one.ref.name, one.reason) for one in collected.held],
        "remarks": [*collected.remarks]}


def cycle_document(number: int, collected: Collected, decision: Decision) -> dict[str, Any]:
    """Return a cycle: every server with currentAlloc, desiredAlloc and what was ordered."""
    rows = {row["name"]: row for row in decision.body["system"]["serverData"]["servers"]}
    plan = decision.plan
    return {
        "cycle": number, "solver": plan.settings.solver, "status": plan.status,
        "totalCost": shortest(plan.total_cost),
        "servers": [rows[order.observed.managed.name] | _ordered(order, plan.system)
                    for order in decision.orders],
        "held": [_held(one.ref.namespace, one.ref.name, one.reason) for one in collected.held],
        "remarks": [*collected.remarks, *decision.doubts]}


def _ordered(order: Order, system: System) -> dict[str, Any]:
    own = order.observed.managed
    desired = None if order.desired is None else allocation_data(
        system, order.desired, order.observed.measured.load)
    return {"desiredAlloc": desired, "deployment": f"{own.ref.namespace}/{own.ref.name}",
            "loadFrom": order.observed.origin, "replicas": order.replicas, "told": order.told}


def _held(namespace: str, name: str, reason: str) -> dict[str, str]:
    return {"deployment": f"{namespace}/{name}", "reason": reason}
