"""An HPA of a real cluster follows the number that ``penstock controller`` publishes."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from support import cluster_objects as cluster
from support import kube_clients
from support.fake_prometheus import FakePrometheus, engine_samples
from support.metrics_adapter import MetricsAdapter
from support.real_cluster import in_namespace

pytestmark = pytest.mark.long
PUBLISH = cluster.CREATE.replace("create:", "act: publish, create:")
VERSIONS = {"Deployment": "apps/v1", "ReplicaGroup": "penstock.dev/v1alpha1"}


def hpa_version(kube):
    """The newest version of an HPA with external metrics that the server has."""
    found = kube.ask("GET", "/apis/autoscaling").document["versions"]
    known = {one["version"] for one in found}
    return next(one for one in ("v2", "v2beta2") if one in known)


def hpa(kube, namespace, kind):
    """The HPA of docs/howto/keep-your-autoscaler.md."""
    return kube_clients.hpa_of(hpa_version(kube))({
        "metadata": {"name": "chat", "namespace": namespace}, "spec": {
            "scaleTargetRef": {"apiVersion": VERSIONS[kind], "kind": kind, "name": "chat-0"},
            "minReplicas": 1, "maxReplicas": 12,
            "metrics": [{"type": "External", "external": {
                "metric": {"name": "penstock_desired_replicas",
                           "selector": {"matchLabels": {"fleet": "chat", "group": "0"}}},
                "target": {"type": "AverageValue", "averageValue": "1"}}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}})


@asynccontextmanager
async def scraped(one, prometheus, load):
    """Prometheus sees a load that the pods share evenly."""
    async def scrape():
        while True:
            pods = [pod["metadata"]["name"] async for pod in one.there.list(
                kube_clients.POD, namespace=one.namespace)
                if "deletionTimestamp" not in pod["metadata"]]
            more, num = load["running"], max(len(pods), 1)
            prometheus.engines = [sample for i, pod in enumerate(pods) for sample in engine_samples(
                pod, running=more // num + (i < more % num), model="llama-3.1-8b",
                at_s=prometheus.clock())]
            await asyncio.sleep(0.2)

    task = asyncio.create_task(scrape())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaGroup"])
def test_an_hpa_follows_penstock_s_number(kube, kubeconfig, tmp_path, kind):
    async def work():
        prometheus, load = FakePrometheus(), {"running": 10}
        async with prometheus.server() as url, in_namespace(kubeconfig, tmp_path) as one, \
                one.trajectory() as numbers, scraped(one, prometheus, load), one.controller():
            text = cluster.SCALED.replace("http://127.0.0.1:9", url).replace(
                "scale: penstock", "scale: {name: hpa, target: 10, down_window_s: 0}").replace(
                "count: 2", "count: 1, min_replicas: 1, max_replicas: 12")
            await one.put(text, PUBLISH)
            await one.until(one.replicas, (1, 1))
            adapter = MetricsAdapter(f"{one.url()}/metrics", kubeconfig.parent / "pki")
            async with adapter.registered(one.there, one.namespace):
                await one.there.create(hpa(kube, one.namespace, kind))
                for running, replicas in ((30, 3), (70, 7), (10, 1)):
                    load["running"] = running
                    await one.until(one.replicas, (replicas, replicas), for_s=90)
                await one.until(lambda: one.condition("Ready"), ("True", "ReplicasReady"))
            # An HPA adds 4 pods in 15 s at most, so 5 may come between 3 and 7.
            assert [one for one in numbers if one != 5] == [1, 3, 7, 1]
            assert all(adapter.asked)  # by users that the API server names
    asyncio.run(work())
