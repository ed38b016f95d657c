"""JSON documents of deployments and of the decisions on them."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from penstock.estimate.documents import configuration_document, stages_document
from penstock.policy.place.beside import Neighbour
from penstock.policy.place.values import Device, Placement
from penstock.serving.deployments.deployments import Deployment, Expected
from penstock.serving.deployments.engines import Reply
from penstock.serving.deployments.observations import Observation
from penstock.serving.deployments.store import Event


def deployment_document(one: Deployment, load: tuple[int, int] = (0, 0),
                        seen: Observation | None = None) -> dict[str, Any]:
    """Return a deployment as JSON. ``load`` is how many requests wait and run, ``seen`` the
    observed latency."""
    instance = one.instance
    return {
        "name": one.name, "model": one.model, "engine": one.engine, "options": dict(one.options),
        "state": str(one.state), "reason": one.reason or None, "since_s": one.since_s,
        "registered_s": one.registered_s, "profile": one.profile,
        "intent": (one.intent.criteria.intent
                   if one.intent and not one.intent.configuration else None),
        **(configuration_document(one.configuration) if one.configuration
           else {"configuration": None}),
        **expected_document(one.expected),
        "placement": placement_document(one.placement) if one.placement else None,
        "url": instance.url if instance else None, "pid": instance.pid if instance else None,
        "log": instance.log if instance else None,
        "num_failures": one.num_failures, "num_waiting": load[0], "num_running": load[1],
        "seen": None if seen is None else asdict(seen)}


def reply_document(name: str, reply: Reply, e2e_s: float) -> dict[str, Any]:
    """Return an answer as JSON. ``e2e_s`` includes waiting."""
    return {"name": name, **asdict(reply), "e2e_s": e2e_s}


def event_document(event: Event) -> dict[str, Any]:
    """Return a change of state as JSON."""
    return {**asdict(event), "reason": event.reason or None}


def device_document(device: Device) -> dict[str, Any]:
    """Return an accelerator as JSON, with the memory held on it."""
    return {"device": device.device_id, "node": device.node, "total_bytes": device.total_bytes,
            "used_bytes": device.used_bytes, "free_bytes": device.free_bytes}


def placement_document(placed: Placement) -> dict[str, Any]:
    """Return the placement: the accelerators of each stage, and the bytes on each accelerator."""
    return {**stages_document(placed),
            "bytes_by_device": {str(device): taken
                                for device, taken in sorted(placed.bytes_by_device.items())}}


def beside_document(beside: Iterable[Neighbour]) -> list[dict[str, Any]]:
    """Return the deployments on the same accelerators with their traffic; nulls where the traffic
    is unknown and no wait is expected."""
    return [{"name": one.name, **(asdict(one.traffic) if one.traffic is not None
                                  else {"rate_per_s": None, "service_s": None})} for one in beside]


def expected_document(expected: Expected | None) -> dict[str, Any]:
    """Predictions with their intervals."""
    if expected is None:
        return {"latency_s": None, "memory_bytes": None}
    return {name: None if one is None else asdict(one) for name, one in
            (("latency_s", expected.latency_s), ("memory_bytes", expected.memory_bytes))}
