"""``penstock controller`` before a real API server."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import httpx2
import pytest
import yaml
from lightkube import ApiError
from lightkube.types import PatchType

from support import cluster_objects as cluster
from support import kube_api_server, kube_clients
from support.fake_prometheus import FakePrometheus, engine_samples

pytestmark = pytest.mark.long
PENSTOCK = [sys.executable, "-m", "penstock"]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    try:
        with kube_api_server.api_server(folder, controllers=True) as one:
            yield one.kubeconfig
    except kube_api_server.AbsentError as reason:
        pytest.skip(str(reason))


class Cluster:
    """A namespace of its own, and a client."""

    def __init__(self, there, namespace, kubeconfig, folder):
        self.there, self.namespace = there, namespace
        self.kubeconfig, self.folder = kubeconfig, folder
        self.notes = folder / "notes.txt"

    async def put(self, text, kubernetes=cluster.CREATE):
        spec = yaml.safe_load(cluster.text_of(kubernetes, text))
        await self.there.apply(kube_clients.FLEET({
            "apiVersion": "penstock.dev/v1alpha1", "kind": "Fleet",
            "metadata": {"name": "chat", "namespace": self.namespace}, "spec": spec}), force=True)

    async def get(self, kind, name):
        try:
            return await self.there.get(kind, name, namespace=self.namespace)
        except ApiError:
            return {}

    async def replicas(self, name="chat-0"):
        found = await self.get(kube_clients.DEPLOYMENT, name)
        return found.get("spec", {}).get("replicas"), found.get("status", {}).get("readyReplicas")

    async def condition(self, name):
        found = (await self.get(kube_clients.FLEET, "chat")).get("status", {}).get("conditions", ())
        return next(((one["status"], one["reason"]) for one in found if one["type"] == name), None)

    async def until(self, what, expected):
        for _ in range(600):
            found = await what()
            if found == expected:
                return
            await asyncio.sleep(0.1)
        raise AssertionError((found, expected, self.notes.read_text()[-2000:]))

    @asynccontextmanager
    async def controller(self, identity="one"):
        with self.notes.open("ab") as notes:
            process = await asyncio.create_subprocess_exec(
                *PENSTOCK, "controller", "--kubeconfig", str(self.kubeconfig), "--namespace",
                self.namespace, "--port", "0", "--identity", identity, "--records",
                str(self.folder / "records"), stderr=notes)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 20)


@asynccontextmanager
async def in_namespace(kubeconfig, folder):
    async with kube_clients.client(kubeconfig) as there, kube_clients.client(
            kubeconfig, "nodes") as nodes:
        found = await new_namespace(there, kubeconfig, folder)
        async with kube_clients.nodes(nodes):
            yield found


async def new_namespace(there, kubeconfig, folder):
    process = await asyncio.create_subprocess_exec(*PENSTOCK, "controller", "--crds",
                                                   stdout=asyncio.subprocess.PIPE)
    text, _ = await process.communicate()
    for one in yaml.safe_load_all(text):
        await there.apply(kube_clients.CRD(one), force=True)
    name = f"t-{os.urandom(4).hex()}"
    await there.create(kube_clients.NAMESPACE({"metadata": {"name": name}}))
    found = Cluster(there, name, kubeconfig, folder)

    async def known():
        try:
            return [one async for one in there.list(kube_clients.FLEET, namespace=name)]
        except httpx2.HTTPStatusError:  # the definition is not served yet
            return None

    found.notes.touch()
    await found.until(known, [])
    return found


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
                applied = [entry for entry in deployment["metadata"]["managedFields"]
                           if entry["operation"] == "Apply"]
                assert [entry["manager"] for entry in applied] == ["penstock"]
                assert "f:replicas" not in applied[0]["fieldsV1"]["f:spec"]
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
