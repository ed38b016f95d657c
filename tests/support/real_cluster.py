"""Namespaces of a real API server, with ``penstock controller`` as a process of its own."""

import asyncio
import os
import re
import signal
import sys
from contextlib import asynccontextmanager, suppress

import httpx2
import yaml
from lightkube import ApiError

from support import cluster_objects as cluster
from support import kube_clients

PENSTOCK = [sys.executable, "-m", "penstock"]


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
        except (ApiError, httpx2.HTTPError):
            return {}

    async def replicas(self, name="chat-0"):
        found = await self.get(kube_clients.DEPLOYMENT, name)
        return found.get("spec", {}).get("replicas"), found.get("status", {}).get("readyReplicas")

    async def condition(self, name):
        found = (await self.get(kube_clients.FLEET, "chat")).get("status", {}).get("conditions", ())
        return next(((one["status"], one["reason"]) for one in found if one["type"] == name), None)

    def url(self):
        """URL of the newest controller, from what it said."""
        return re.findall(r"listens on (http://\S+)", self.notes.read_text())[-1]

    async def holder(self):
        lease = await self.get(kube_clients.LEASE, "penstock-controller")
        return lease.get("spec", {}).get("holderIdentity")

    async def until(self, what, expected, for_s=60):
        for _ in range(round(for_s * 10)):
            found = await what()
            if found == expected:
                return
            await asyncio.sleep(0.1)
        raise AssertionError((found, expected, self.notes.read_text()[-2000:]))

    def command(self, identity, kubeconfig):
        return [*PENSTOCK, "controller", "--kubeconfig", str(kubeconfig), "--namespace",
                self.namespace, "--port", "0", "--identity", identity, "--records",
                str(self.folder / "records")]

    @asynccontextmanager
    async def controller(self, identity="one", kubeconfig=None):
        with self.notes.open("ab") as notes:
            process = await asyncio.create_subprocess_exec(
                *self.command(identity, kubeconfig or self.kubeconfig), stderr=notes)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGCONT)
            await asyncio.wait_for(process.wait(), 20)

    @asynccontextmanager
    async def trajectory(self, name="chat-0"):
        """Yield the list to which every number of replicas of a Deployment is added."""
        found = []
        task = asyncio.create_task(self._follow(name, found))
        try:
            yield found
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _follow(self, name, found):
        version = None
        while True:
            try:
                async for _, one in self.there.watch(kube_clients.DEPLOYMENT,
                                                     namespace=self.namespace,
                                                     resource_version=version):
                    version = one["metadata"]["resourceVersion"]
                    if one["metadata"]["name"] == name and \
                            found[-1:] != [one["spec"]["replicas"]]:
                        found.append(one["spec"]["replicas"])
            except ApiError:
                version = None
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.2)


@asynccontextmanager
async def in_namespace(kubeconfig, folder, start_s=0.0):
    async with kube_clients.client(kubeconfig) as there, kube_clients.client(
            kubeconfig, "nodes") as nodes:
        found = await new_namespace(there, kubeconfig, folder)
        async with kube_clients.nodes(nodes, start_s):
            yield found


async def new_namespace(there, kubeconfig, folder):
    process = await asyncio.create_subprocess_exec(*PENSTOCK, "controller", "--crds",
                                                   stdout=asyncio.subprocess.PIPE)
    text, _ = await process.communicate()
    for one in yaml.safe_load_all(text):
        await there.apply(kube_clients.CRD(one), force=True)
    name = f"t-{os.urandom(4).hex()}"
    await there.create(kube_clients.NAMESPACE({"metadata": {"name": name,
                                                            "labels": {"test": name}}}))
    found = Cluster(there, name, in_its_namespace(kubeconfig, name, folder), folder)

    async def known():
        try:
            return [one async for one in there.list(kube_clients.FLEET, namespace=name)]
        except httpx2.HTTPStatusError:  # the definition is not served yet
            return None

    found.notes.touch()
    await found.until(known, [])
    return found


def in_its_namespace(kubeconfig, namespace, folder):
    """A kubeconfig whose controllers have their Lease in a namespace."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = namespace
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path
