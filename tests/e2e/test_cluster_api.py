"""Steps on a real API server: replicas that somebody has changed, zero, Events that repeat."""

import asyncio

import pytest

from penstock.serving.kubernetes import api
from penstock.serving.kubernetes.actions import Scale, Tell
from penstock.serving.kubernetes.api import ClusterError
from penstock.serving.kubernetes.objects import Ref
from support import cluster_objects as cluster
from support import kube_clients
from support.real_cluster import in_namespace

pytestmark = pytest.mark.long


def test_replicas_change_where_they_still_are_what_was_seen(kubeconfig, tmp_path):
    async def work():
        async with in_namespace(kubeconfig, tmp_path) as one:
            there = api.open_cluster(kubeconfig, None, one.namespace)
            template = {"metadata": {"labels": {"app": "x"}},
                        "spec": {"containers": [{"name": "c", "image": "none"}]}}
            await one.there.create(kube_clients.DEPLOYMENT({
                "metadata": {"name": "x", "namespace": one.namespace}, "spec": {
                    "replicas": 2, "selector": {"matchLabels": {"app": "x"}},
                    "template": template}}))
            await one.there.create(kube_clients.REPLICA_GROUP({
                "metadata": {"name": "x", "namespace": one.namespace},
                "spec": {"fleet": "x", "group": 0, "replicas": 2}}))
            for kind in ("Deployment", "ReplicaGroup"):
                ref = Ref(kind, one.namespace, "x")
                for before, after in ((2, 0), (0, 3), (3, 1)):
                    await there.act(Scale(ref, after, before))
                    for seen in {0, 2, 5} - {after}:
                        with pytest.raises(ClusterError) as caught:
                            await there.act(Scale(ref, 9, seen))
                        assert caught.value.status == 409
                found = await one.there.get(getattr(kube_clients, {
                    "Deployment": "DEPLOYMENT", "ReplicaGroup": "REPLICA_GROUP"}[kind]), "x",
                    namespace=one.namespace)
                assert found["spec"]["replicas"] == 1
            await there.close()
    asyncio.run(work())


def test_events_that_repeat_are_one_object(kubeconfig, tmp_path):
    async def work():
        async with in_namespace(kubeconfig, tmp_path) as one:
            there = api.open_cluster(kubeconfig, None, one.namespace)
            await one.put(cluster.FLEET)
            fleet = await one.get(kube_clients.FLEET, "chat")
            for number in range(5):
                await there.act(Tell(Ref("Fleet", one.namespace, "chat"), fleet["metadata"]["uid"],
                                     "Normal", "Scaled", f"{number} to {number + 1}", "a"))
            event, = [event async for event in one.there.list(
                kube_clients.EVENT, namespace=one.namespace) if event["reason"] == "Scaled"]
            assert (event["count"], event["message"]) == (5, "4 to 5")
            await there.close()
    asyncio.run(work())
