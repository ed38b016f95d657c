"""``penstock controller`` plans a Fleet before a real API server."""

import asyncio

import pytest

from support import cluster_objects as cluster
from support import kube_clients
from support.real_cluster import in_namespace

pytestmark = pytest.mark.long


async def ready_by_workload(one):
    return {found["metadata"]["name"]: found.get("status", {}).get("readyReplicas", 0)
            async for found in one.there.list(kube_clients.DEPLOYMENT, namespace=one.namespace)}


async def status(one):
    return (await one.get(kube_clients.FLEET, "chat")).get("status", {})


def test_a_fleet_without_replicas_is_planned_serves_and_changes_its_kind(kubeconfig, tmp_path):
    async def work():
        async with in_namespace(kubeconfig, tmp_path, start_s=3.0) as one:
            async with one.controller("one"):
                await one.put(cluster.PLANNED)
                await one.until(lambda: one.condition("Ready"), ("True", "ReplicasReady"), 120)
                plan = (await status(one))["plan"]
                assert await one.condition("Planned") == ("True", "Planned")
                group, = plan["groups"]
                assert group["accelerator"] == "l40s"
                assert plan["demands"][0]["attainment"] >= 0.99
                assert 0 < (await status(one))["boundCostPerHour"] <= plan["costPerHour"] == 1.0
                (former, num_ready), = (await ready_by_workload(one)).items()
                assert num_ready == group["count"]
            # Another controller takes the plan over, and the file changes.
            async with one.controller("two"):
                await one.until(one.holder, "two", 60)
                assert (await status(one))["plan"] == plan
                seen, dear = [], cluster.PLANNED.replace("price_per_hour: 1", "price_per_hour: 9")
                async with one.trajectory(former) as numbers:
                    await one.put(dear)

                    async def switched():
                        found = await ready_by_workload(one)
                        seen.append(found)
                        return former not in found and len(found) == 1
                    await one.until(switched, True, 240)
                assert [number for number in numbers if number] == [1]
                assert all(sum(found.values()) >= 1 for found in seen)
                assert any(len(found) == 2 and found[former] == 1 for found in seen)
                await one.until(lambda: one.condition("Ready"), ("True", "ReplicasReady"))

                async def is_over():
                    return "retiring" not in await status(one)
                await one.until(is_over, True)
                found = await status(one)
                assert found["plan"]["groups"][0]["accelerator"] == "h100-80gb"
                assert found["costPerHour"] == found["plan"]["costPerHour"] == 4.0
                groups = [found["metadata"]["name"] async for found in one.there.list(
                    kube_clients.REPLICA_GROUP, namespace=one.namespace)]
                assert groups == [*await ready_by_workload(one)]
    asyncio.run(work())


def test_a_new_workload_begins_with_its_number(kubeconfig, tmp_path):
    async def work():
        async with in_namespace(kubeconfig, tmp_path) as one, one.controller():
            async with one.trajectory() as numbers:
                await one.put(cluster.FLEET.replace("count: 2", "count: 4"))
                await one.until(one.replicas, (4, 4))
                await one.put(cluster.FLEET)
                await one.until(one.replicas, (2, 2))
            assert numbers == [4, 2]
    asyncio.run(work())
