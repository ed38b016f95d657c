"""Workloads that Penstock creates for the groups of a fleet."""

import json
from collections.abc import Mapping
from typing import Any

from penstock.engines.engine import engine_of
from penstock.engines.launch.kinds import engine_of_group
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.fleet.values_kubernetes import Created
from penstock.policy.route.roles import BOTH
from penstock.serving.kubernetes.commands import POD_ADDRESS, engine_command
from penstock.serving.kubernetes.names import (
    ACCELERATOR_LABEL,
    API_VERSION,
    FLEET_LABEL,
    GROUP_LABEL,
    MODEL_LABEL,
    ROLE_LABEL,
    WIDTH_LABEL,
    workload_name,
)
from penstock.serving.kubernetes.objects import FleetObject

LEAVE_S = 10
"""Time for which a pod goes on to take requests after it was told to end: until then, gateways may
not have heard of it."""

LEAST_GRACE_S, MOST_GRACE_S = 60, 3600
_START_PERIOD_S, _START_TRIES = 10, 360
_USUAL_ITL_S, _USUAL_TOKENS = 0.1, 4096


def owner(fleet: FleetObject) -> list[dict[str, Any]]:
    """Return the reference by which the cluster deletes an object with its Fleet."""
    return [{"apiVersion": API_VERSION, "kind": "Fleet", "name": fleet.ref.name, "uid": fleet.uid,
             "controller": True, "blockOwnerDeletion": True}]


def labels(fleet: FleetObject, values: Fleet, number: int) -> dict[str, str]:
    """Return the labels of a group's objects and pods."""
    group = values.replicas[number]
    assert group.kubernetes is not None, "the caller has looked"
    return {FLEET_LABEL: fleet.ref.name, GROUP_LABEL: group.kubernetes.key(number),
            MODEL_LABEL: label_value(group.served_name),
            **({} if group.role == BOTH else {ROLE_LABEL: group.role}),
            "app.kubernetes.io/managed-by": "penstock"}


def label_value(text: str) -> str:
    """Return a text as a label's value: at most 63 letters, digits, dashes, dots and
    underscores."""
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in text)[:63].strip("-._")


def replica_group(fleet: FleetObject, values: Fleet, number: int) -> dict[str, Any]:
    """Return the ReplicaGroup of a group, without replicas: those are of its scale."""
    return {"apiVersion": API_VERSION, "kind": "ReplicaGroup",
            "metadata": metadata_of(fleet, values, number),
            "spec": {"fleet": fleet.ref.name, "group": number}}


def created_workload(fleet: FleetObject, values: Fleet, number: int) -> dict[str, Any]:
    """Return a group's Deployment or LeaderWorkerSet, without replicas: who scales it owns them.

    Raises InputError for an engine that has no command line for a pod.
    """
    group = values.replicas[number]
    assert group.kubernetes is not None, "the caller has looked"
    created = group.kubernetes.create
    assert created is not None, "the caller has looked"
    metadata, found = metadata_of(fleet, values, number), labels(fleet, values, number)
    selector = {key: found[key] for key in (FLEET_LABEL, GROUP_LABEL)}
    if created.pods == 1:
        template = _template(values, number, created, found, worker=False)
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
                "spec": {"selector": {"matchLabels": selector}, "template": template}}
    return {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
            "metadata": metadata,
            "spec": {"leaderWorkerTemplate": leader_and_workers(fleet, values, number)}}


def leader_and_workers(fleet: FleetObject, values: Fleet, number: int) -> dict[str, Any]:
    """Return the template of the pods of one replica, the first of which answers requests."""
    group = values.replicas[number]
    assert group.kubernetes is not None, "the caller has looked"
    created = group.kubernetes.create
    assert created is not None, "the caller has looked"
    found = labels(fleet, values, number)
    template = _template(values, number, created, found, worker=False)
    if created.pods == 1:
        return {"size": 1, "workerTemplate": template}
    return {"size": created.pods, "leaderTemplate": template,
            "workerTemplate": _template(values, number, created, found, worker=True),
            "restartPolicy": "RecreateGroupOnPodRestart"}


def metadata_of(fleet: FleetObject, values: Fleet, number: int) -> dict[str, Any]:
    """Return the metadata of a group's objects, whose labels tell what a replica holds."""
    found, group = labels(fleet, values, number), values.replicas[number]
    return {"name": workload_name(fleet.ref.name, found[GROUP_LABEL]),
            "namespace": fleet.ref.namespace, "ownerReferences": owner(fleet),
            "labels": {**found, ACCELERATOR_LABEL: label_value(group.accelerator.name),
                       WIDTH_LABEL: str(group.parallelism.num_accelerators)}}


def grace_s(fleet: Fleet, group: ReplicaGroup) -> int:
    """Return the time that a pod has to end: for the longest answer of the group's traffic, at the
    slowest pace that an objective allows."""
    tokens = [spec.max_tokens or _USUAL_TOKENS for spec in fleet.traffic
              if spec.model in (None, group.model.name)] or [_USUAL_TOKENS]
    paces = [one.slo.itl_s or _USUAL_ITL_S for one in fleet.service_classes]
    longest_s = LEAVE_S + max(tokens) * max(paces)
    return round(min(max(longest_s, LEAST_GRACE_S), MOST_GRACE_S))


def _template(fleet: Fleet, number: int, created: Created, found: Mapping[str, str],
              *, worker: bool) -> dict[str, Any]:
    group = fleet.replicas[number]
    per_pod = group.parallelism.num_accelerators // created.pods
    amounts = {created.resource: str(per_pod)}
    command = engine_command(fleet, number, worker=worker)
    container: dict[str, Any] = {
        "name": "engine", "image": created.image, "command": command.words,
        "resources": {"limits": amounts, "requests": amounts},
        "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}]}
    if command.environment:
        address = {"fieldRef": {"fieldPath": "status.podIP"}}
        container["env"] = [{"name": POD_ADDRESS, "valueFrom": address},
                            *({"name": name, "value": value}
                              for name, value in command.environment.items())]
    if created.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in created.secrets]
    if not worker:
        container |= _served(created, group.served_name,
                             whole=group.role == BOTH or not needs_both(fleet, number))
    spec: dict[str, Any] = {
        "containers": [container],
        # Tensor parallelism exchanges tensors through shared memory; a container has 64 MiB of it.
        "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}],
        "terminationGracePeriodSeconds": grace_s(fleet, group),
        "enableServiceLinks": False}
    if created.node_selector:
        spec["nodeSelector"] = dict(created.node_selector)
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": str(created.port)}
    template = {"metadata": {"labels": dict(found),
                             **({} if worker else {"annotations": annotations})}, "spec": spec}
    found_template: dict[str, Any] = laid_over(template, created.template)
    return found_template


def needs_both(fleet: Fleet, number: int) -> bool:
    """Whether an engine of a group cannot serve a whole request while it has a role."""
    connector = engine_of(engine_of_group(fleet, number)).connector
    return connector is not None and connector.needs_both


def _served(created: Created, model: str, *, whole: bool) -> dict[str, Any]:
    """Return the port, the probes and the end of a container that answers requests.

    A pod has started once it has answered a request, if it serves a ``whole`` one: an engine's
    health check answers before the first step has been compiled.
    """
    body = json.dumps({"model": model, "prompt": "1", "max_tokens": 1})
    url = f"http://127.0.0.1:{created.port}/v1/completions"
    ask = ("import urllib.request as r;"
           f"r.urlopen(r.Request({url!r},{body!r}.encode(),"
           "{'Content-Type':'application/json'}),timeout=60).read()")
    health = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5,
              "timeoutSeconds": 5}
    return {"ports": [{"name": "http", "containerPort": created.port}],
            "startupProbe": {**({"exec": {"command": ["python3", "-c", ask]}} if whole else
                                {"httpGet": health["httpGet"]}), "timeoutSeconds": 60,
                             "periodSeconds": _START_PERIOD_S, "failureThreshold": _START_TRIES},
            "readinessProbe": {**health, "failureThreshold": 2},
            "livenessProbe": {**health, "failureThreshold": 12},
            "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVE_S)]}}}}


def laid_over(base: Any, over: Any) -> Any:
    """Return ``base`` with the parts of ``over``. Lists of named entries are merged by name, other
    lists are replaced."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return {**base, **{key: laid_over(base[key], value) if key in base else value
                           for key, value in over.items()}}
    if isinstance(base, list) and isinstance(over, list) and _named(base) and _named(over):
        by_name = {one["name"]: one for one in base}
        for one in over:
            by_name[one["name"]] = laid_over(by_name.get(one["name"], {}), one)
        return [*by_name.values()]
    return over


def _named(entries: list[Any]) -> bool:
    return all(isinstance(one, Mapping) and "name" in one for one in entries)
