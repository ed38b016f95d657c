"""Clients of a real API server (``kube_api_server``), and a program that plays its nodes."""

import asyncio
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from lightkube import ApiError, AsyncClient, KubeConfig
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.types import PatchType

CRD = create_global_resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition",
                             "customresourcedefinitions")
NAMESPACE = create_global_resource("", "v1", "Namespace", "namespaces")
NODE = create_global_resource("", "v1", "Node", "nodes")
POD = create_namespaced_resource("", "v1", "Pod", "pods")
BINDING = create_namespaced_resource("", "v1", "Binding", "bindings")
EVENT = create_namespaced_resource("", "v1", "Event", "events")
DEPLOYMENT = create_namespaced_resource("apps", "v1", "Deployment", "deployments")
HPA = create_namespaced_resource("autoscaling", "v1", "HorizontalPodAutoscaler",
                                 "horizontalpodautoscalers")
FLEET = create_namespaced_resource("penstock.dev", "v1alpha1", "Fleet", "fleets")
REPLICA_GROUP = create_namespaced_resource("penstock.dev", "v1alpha1", "ReplicaGroup",
                                           "replicagroups")


def client(kubeconfig: Path, manager: str = "user") -> AsyncClient:
    """A client of one event loop."""
    return AsyncClient(KubeConfig.from_file(kubeconfig).get(), field_manager=manager,
                       trust_env=False)


@asynccontextmanager
async def nodes(there: AsyncClient):
    """Let pods find a node, become ready, and go when they are told to."""
    task = asyncio.create_task(_play(there))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _play(there: AsyncClient) -> None:
    with suppress(ApiError):
        await there.create(NODE({"metadata": {"name": "node"}}))
    while True:
        with suppress(ApiError):
            pods = [one async for one in there.list(POD, namespace="*")]
            for one in pods:
                await _step(there, one)
        await asyncio.sleep(0.1)


async def _step(there: AsyncClient, one: dict) -> None:
    metadata, name = one["metadata"], one["metadata"]["name"]
    namespace = metadata["namespace"]
    if "deletionTimestamp" in metadata:
        await there.delete(POD, name, namespace=namespace, grace_period=0)
    elif "nodeName" not in one["spec"]:
        await there.create(BINDING({"metadata": {"name": name, "namespace": namespace},
                                    "target": {"kind": "Node", "name": "node"}}))
    elif one["status"].get("phase", "Pending") == "Pending":
        conditions = [{"type": kind, "status": "True"} for kind in (
            "Initialized", "PodScheduled", "ContainersReady", "Ready")]
        await there.patch(POD.Status, name, {"status": {
            "phase": "Running", "podIP": "10.0.0.1", "conditions": conditions}},
            namespace=namespace, patch_type=PatchType.MERGE)
