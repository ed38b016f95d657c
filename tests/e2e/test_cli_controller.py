"""``penstock controller`` before a real API server."""

import asyncio

import pytest
from lightkube.types import PatchType

from support import cluster_objects as cluster
from support import kube_clients
from support.fake_prometheus import FakePrometheus, engine_samples
from support.real_cluster import in_namespace

pytestmark = pytest.mark.long


def test_a_fleet_runs_changes_and_outlives_its_controller(kubeconfig, tmp_path):
    async def work():
        async with in_namespace(kubeconfig, tmp_path) as one:
            async with one.controller() as first:
                await one.put(cluster.FLEET)
                await one.until(one.replicas, (2, 2))
                await one.until(lambda: one.condition("Ready"), ("True", "ReplicasReady"))
                await one.put(cluster.FLEET.replace("count: 2", "count: 4"))
                await one.until(one.replicas, (4, 4))
                first.kill()
                await first.wait()
            await one.put(cluster.FLEET.replace("count: 2", "count: 1"))
            async with one.controller("two"):
                await one.until(one.replicas, (1, 1))
                events = [event async for event in one.there.list(
                    kube_clients.EVENT, namespace=one.namespace)
                    if event.get("source", {}).get("component") == "penstock"]
                assert any("4 to 1 replicas" in event["message"] for event in events)
                deployment = await one.get(kube_clients.DEPLOYMENT, "chat-0")
                applied = {entry["manager"]: entry["fieldsV1"] for entry in
                           deployment["metadata"]["managedFields"] if entry["operation"] == "Apply"}
                assert "f:replicas" not in applied.pop("penstock")["f:spec"]
                assert all(fields == {"f:spec": {"f:replicas": {}}} for fields in applied.values())
                await one.there.delete(kube_clients.FLEET, "chat", namespace=one.namespace)
                await one.until(one.replicas, (None, None))  # by its owner
    asyncio.run(work())


def test_a_group_follows_an_autoscaler_and_two_owners_are_told(kubeconfig, tmp_path):
    def hpa(kind, name):
        version = {"Deployment": "apps/v1", "ReplicaGroup": "penstock.dev/v1alpha1"}[kind]
        return kube_clients.HPA({
            "metadata": {"name": kind.lower()},
            "spec": {"scaleTargetRef": {"apiVersion": version, "kind": kind, "name": name},
                     "minReplicas": 1, "maxReplicas": 9}})

    async def work():
        async with in_namespace(kubeconfig, tmp_path) as one, one.controller():
            create = cluster.CREATE.replace("create:", "act: publish, create:")
            await one.put(cluster.FLEET, create)
            await one.until(one.replicas, (2, 2))
            await one.there.create(hpa("ReplicaGroup", "chat-0"), namespace=one.namespace)
            await one.there.patch(kube_clients.REPLICA_GROUP.Scale, "chat-0",
                                  {"spec": {"replicas": 5}}, namespace=one.namespace,
                                  patch_type=PatchType.MERGE)
            await one.until(one.replicas, (5, 5))
            scale = await one.there.get(kube_clients.REPLICA_GROUP.Scale, "chat-0",
                                        namespace=one.namespace)
            assert "penstock.dev/fleet=chat" in scale.status.selector
            await one.there.create(hpa("Deployment", "chat-0"), namespace=one.namespace)
            await one.put(cluster.FLEET)
            await one.until(lambda: one.condition("Ready"), ("False", "AnotherOwner"))
    asyncio.run(work())


def test_a_policy_follows_the_load_of_a_cluster(kubeconfig, tmp_path):
    async def work():
        prometheus = FakePrometheus()
        async with prometheus.server() as url, in_namespace(kubeconfig, tmp_path) as one:
            load = {"running": 20}

            async def scrape():
                while True:
                    pods = [pod async for pod in one.there.list(
                        kube_clients.POD, namespace=one.namespace)]
                    prometheus.engines = [sample for pod in pods for sample in engine_samples(
                        pod["metadata"]["name"], running=load["running"], model="llama-3.1-8b",
                        at_s=prometheus.clock())]
                    await asyncio.sleep(0.2)

            scraping = asyncio.create_task(scrape())
            text = cluster.SCALED.replace("http://127.0.0.1:9", url).replace(
                "scale: penstock", "scale: {name: hpa, target: 10}")
            async with one.controller():
                await one.put(text, f"max_replicas: 4, {cluster.CREATE}")
                await one.until(one.replicas, (4, 4))
                await one.until(lambda: one.condition("Scaling"), ("True", "Deciding"))
                await one.until(lambda: one.condition("Ready"), ("True", "ReplicasReady"))
                status = (await one.get(kube_clients.FLEET, "chat"))["status"]
                assert status["replicas"] == "4/4"
                assert status["decisions"][-1]["targets"] == [4]
            scraping.cancel()
    asyncio.run(work())
