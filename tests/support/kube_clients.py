"""Clients of a real API server (``kube_api_server``), and a program that plays its nodes."""

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
from lightkube import ApiError, AsyncClient, KubeConfig
from lightkube.generic_resource import (
    create_global_resource,
    create_namespaced_resource,
    get_generic_resource,
)
from lightkube.types import PatchType


def kind_of(create, group, version, name, plural):
    """Lightkube's class of a kind, of which it keeps one in a process."""
    whole = f"{group}/{version}" if group else version
    return get_generic_resource(whole, name) or create(group, version, name, plural)


CRD = kind_of(create_global_resource, "apiextensions.k8s.io", "v1", "CustomResourceDefinition",
                             "customresourcedefinitions")
NAMESPACE = kind_of(create_global_resource, "", "v1", "Namespace", "namespaces")
NODE = kind_of(create_global_resource, "", "v1", "Node", "nodes")
POD = kind_of(create_namespaced_resource, "", "v1", "Pod", "pods")
BINDING = kind_of(create_namespaced_resource, "", "v1", "Binding", "bindings")
EVENT = kind_of(create_namespaced_resource, "", "v1", "Event", "events")
DEPLOYMENT = kind_of(create_namespaced_resource, "apps", "v1", "Deployment", "deployments")
REPLICA_SET = kind_of(create_namespaced_resource, "apps", "v1", "ReplicaSet", "replicasets")
HPA = kind_of(create_namespaced_resource, "autoscaling", "v1", "HorizontalPodAutoscaler",
                                 "horizontalpodautoscalers")
LEASE = kind_of(create_namespaced_resource, "coordination.k8s.io", "v1", "Lease", "leases")
WEBHOOKS = kind_of(create_global_resource, "admissionregistration.k8s.io", "v1",
                   "ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
API_SERVICE = kind_of(create_global_resource, "apiregistration.k8s.io", "v1", "APIService",
                      "apiservices")
SERVICE = kind_of(create_namespaced_resource, "", "v1", "Service", "services")
FLEET = kind_of(create_namespaced_resource, "penstock.dev", "v1alpha1", "Fleet", "fleets")
REPLICA_GROUP = kind_of(create_namespaced_resource, "penstock.dev", "v1alpha1", "ReplicaGroup",
                                           "replicagroups")


def hpa_of(version):
    """The class of an HPA of a version."""
    return kind_of(create_namespaced_resource, "autoscaling", version, "HorizontalPodAutoscaler",
                   "horizontalpodautoscalers")


def client(kubeconfig: Path, manager: str = "user") -> AsyncClient:
    """A client of one event loop."""
    return AsyncClient(KubeConfig.from_file(kubeconfig).get(), field_manager=manager,
                       trust_env=False)


@asynccontextmanager
async def nodes(there: AsyncClient, start_s: float = 0.0):
    """Let pods find a node, become ready after a while, and go when they are told to."""
    task = asyncio.create_task(_play(there, start_s))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _play(there: AsyncClient, start_s: float) -> None:
    ready_s: dict[str, float] = {}
    with suppress(ApiError, httpx2.HTTPError):
        await there.create(NODE({"metadata": {"name": "node"}}))
    while True:
        with suppress(ApiError, httpx2.HTTPError):  # the server may be down for a while
            pods = [one async for one in there.list(POD, namespace="*")]
            for one in pods:
                begun_s = ready_s.setdefault(one["metadata"]["name"], time.monotonic())
                await _step(there, one, time.monotonic() - begun_s >= start_s)
        await asyncio.sleep(0.1)


async def _step(there: AsyncClient, one: dict, is_started: bool) -> None:
    metadata, name = one["metadata"], one["metadata"]["name"]
    namespace = metadata["namespace"]
    if "deletionTimestamp" in metadata:
        await there.delete(POD, name, namespace=namespace, grace_period=0)
    elif "nodeName" not in one["spec"]:
        await there.create(BINDING({"metadata": {"name": name, "namespace": namespace},
                                    "target": {"kind": "Node", "name": "node"}}))
    elif is_started and one["status"].get("phase", "Pending") == "Pending":
        conditions = [{"type": kind, "status": "True"} for kind in (
            "Initialized", "PodScheduled", "ContainersReady", "Ready")]
        await there.patch(POD.Status, name, {"status": {
            "phase": "Running", "podIP": "10.0.0.1", "conditions": conditions}},
            namespace=namespace, patch_type=PatchType.MERGE)
