"""A controller at work on a cluster in memory."""

import asyncio
from contextlib import asynccontextmanager, suppress

import aiohttp
import yaml

from penstock.serving.kubernetes.api import LEADER_WORKER_SET, SCALED_OBJECT
from penstock.serving.kubernetes.controller import Controller
from penstock.serving.kubernetes.election import Election
from penstock.serving.kubernetes.metrics import ControllerMetrics
from support import cluster_objects as cluster
from support.fake_cluster import FakeCluster


def quicken(monkeypatch):
    """Let a controller's waits be short."""
    monkeypatch.setattr("penstock.serving.kubernetes.work_queue.APART_S", 0.001)
    monkeypatch.setattr("penstock.serving.kubernetes.controller.PERIOD_S", 0.02)
    monkeypatch.setattr("penstock.serving.kubernetes.store._RETRY_S", 0.01)
    monkeypatch.setattr("penstock.serving.kubernetes.election.RETRY_S", 0.01)


class Kept:
    """A controller at work on a cluster in memory."""

    def __init__(self, there, tmp_path, session, identity="one"):
        self.notes, self.there = [], there
        self.metrics = ControllerMetrics()
        clock = asyncio.get_running_loop().time
        election = Election(there, "ns", identity, clock, self.notes.append)
        self.controller = Controller(there, election, session, tmp_path / "records", self.metrics,
                                     self.notes.append)

    async def until(self, what, play=True):
        for _ in range(3000):
            if play:
                self.there.play()
            if what():
                return
            await asyncio.sleep(0.01)
        raise AssertionError((self.notes[-5:], self.there.actions[-5:], self.there.of("Fleet")))

    def condition(self, name):
        found = self.there.of("Fleet")["chat"].get("status", {}).get("conditions", ())
        return next(((one["status"], one["reason"]) for one in found if one["type"] == name), None)

    def replicas(self, name="chat-0"):
        return self.there.of("Deployment").get(name, {"spec": {}})["spec"].get("replicas")


@asynccontextmanager
async def at_work(there, tmp_path, identity="one"):
    async with aiohttp.ClientSession() as session:
        kept = Kept(there, tmp_path, session, identity)
        task = asyncio.create_task(kept.controller.run())
        try:
            yield kept
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def put_fleet(there, kubernetes=cluster.CREATE, text=cluster.FLEET):
    status = there.of("Fleet").get("chat", {}).get("status", {})  # who writes a file leaves it
    there.put("Fleet", {"metadata": {"name": "chat", "namespace": "ns"}, "status": status,
                        "spec": yaml.safe_load(cluster.text_of(kubernetes, text))})


def lacking():
    return FakeCluster(absent=(LEADER_WORKER_SET, SCALED_OBJECT))
