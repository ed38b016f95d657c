"""The objects of a cluster, kept up to date."""

import asyncio
from contextlib import asynccontextmanager, suppress

from penstock.serving.kubernetes import store as module
from penstock.serving.kubernetes.api import ClusterError
from penstock.serving.kubernetes.objects import Ref
from penstock.serving.kubernetes.store import Store
from support import cluster_objects as cluster
from support.fake_cluster import FakeCluster


@asynccontextmanager
async def followed(there):
    told, notes = [], []
    one = Store(there, told.append, notes.append)
    task = asyncio.create_task(one.run())
    try:
        await asyncio.wait_for(one.whole.wait(), 10)
        yield one, told
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(what):
    for _ in range(500):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


def test_changes_that_no_decision_needs_are_not_told():
    async def work():
        there = FakeCluster()
        there.put("Deployment", cluster.deployment())
        async with followed(there) as (one, told):
            told.clear()
            there.put("Deployment", cluster.deployment(readyReplicas=4))
            there.put("Pod", cluster.pod("a"))
            await until(lambda: told)
            assert [thing.name for thing in told] == ["a"]
            there.put("Deployment", cluster.deployment(replicas=2, selector={"app": "b"}))
            await until(lambda: len(told) == 3)
            assert [thing.replicas for thing in told[1:]] == [1, 2]  # before and after
            assert one.observed("ns", {}).index.pods({"app": "chat-0"})[0].name == "a"
    asyncio.run(work())


def test_what_went_while_nobody_watched_is_gone_after_the_next_list(monkeypatch):
    monkeypatch.setattr(module, "_RETRY_S", 0.01)

    async def work():
        there = FakeCluster()
        for name in "ab":
            there.put("Pod", cluster.pod(name))
        async with followed(there) as (one, told):
            told.clear()
            watches, there._watches = there._watches, []  # nobody is told
            there.delete("Pod", "a")
            there._watches = watches
            there.hang_up()
            await until(lambda: told)
            assert [thing.name for thing in told] == ["a"]
            assert [pod.name for pod in one.observed("ns", {}).index.pods({"app": "chat-0"})] \
                == ["b"]
    asyncio.run(work())


def test_a_watch_that_is_always_too_old_is_not_met_by_lists_without_end():
    class Stale(FakeCluster):
        lists = 0

        async def list(self, kind):
            self.lists += 1
            return await super().list(kind)

        async def watch(self, kind, version):
            raise ClusterError("too old", 410)
            yield

    async def work():
        there = Stale()
        async with followed(there):
            await asyncio.sleep(0.5)
            assert there.lists <= 7 * (0.5 / module._STALE_S + 2)
    asyncio.run(work())


def test_a_fleet_is_found_by_its_name():
    async def work():
        there = FakeCluster()
        there.put("Fleet", cluster.fleet_document())
        async with followed(there) as (one, _):
            assert one.fleet(Ref("Fleet", "ns", "chat")).uid == "uid-chat"
            assert one.fleet(Ref("Fleet", "elsewhere", "chat")) is None
            assert len(one.fleets()) == 1
    asyncio.run(work())
