"""Faults of a real API server and of controllers: the desired state is reached, and no replica more
is started or ended on the way."""

import asyncio
import random
import signal
from contextlib import asynccontextmanager

import pytest

from support import cluster_objects as cluster
from support import kube_clients
from support.kube_proxy import KubeProxy, is_change, is_watch
from support.mute_webhook import mute_webhook
from support.real_cluster import in_namespace

pytestmark = pytest.mark.long


def of(count):
    return cluster.FLEET.replace("count: 2", f"count: {count}")


def since(found, first):
    """The numbers from the first on: a Deployment begins with one replica."""
    return found[found.index(first):]


@asynccontextmanager
async def behind_a_proxy(kubeconfig, folder):
    """A namespace, its controller's proxy, and the numbers of replicas of its Deployment."""
    async with in_namespace(kubeconfig, folder) as one:
        proxy = KubeProxy(one.kubeconfig)
        async with proxy.server(folder) as path, one.trajectory() as numbers, \
                one.controller("one", path):
            yield one, proxy, numbers


def test_an_api_server_is_killed_and_comes_back_on_its_data(kube, kubeconfig, tmp_path):
    async def work():
        async with in_namespace(kubeconfig, tmp_path) as one, one.trajectory() as numbers, \
                one.controller():
            await one.put(of(2))
            await one.until(one.replicas, (2, 2))
            kube.crash()
            await asyncio.sleep(1.0)
            await asyncio.to_thread(kube.restart)

            async def changed():
                try:
                    await one.put(of(4))
                except Exception:
                    return False
                return True

            await one.until(changed, True)
            await one.until(one.replicas, (4, 4))
            await one.until(lambda: one.condition("Ready"), ("True", "ReplicasReady"))
            assert since(numbers, 2) == [2, 4]
    asyncio.run(work())


def test_of_two_controllers_one_acts_and_the_other_takes_over(kubeconfig, tmp_path):
    """The leader is stopped for longer than its Lease, goes on when another leads, and takes over
    again when that one is killed."""
    async def work():
        async with in_namespace(kubeconfig, tmp_path) as one, one.trajectory() as numbers:
            proxies = {name: KubeProxy(one.kubeconfig) for name in ("first", "second")}
            async with proxies["first"].server(tmp_path, "first") as first, \
                    proxies["second"].server(tmp_path, "second") as second, \
                    one.controller("first", first) as stopped:
                await one.put(of(2))
                await one.until(one.replicas, (2, 2))
                async with one.controller("second", second) as killed:
                    await asyncio.sleep(1.0)
                    assert proxies["second"].changes == []
                    stopped.send_signal(signal.SIGSTOP)
                    before = len(proxies["first"].changes)
                    await one.put(of(4))
                    await one.until(one.replicas, (4, 4))
                    assert await one.holder() == "second"
                    stopped.send_signal(signal.SIGCONT)
                    await one.put(of(3))
                    await one.until(one.replicas, (3, 3))
                    assert len(proxies["first"].changes) == before  # nothing since it goes on
                    killed.kill()
                    await killed.wait()
                    num_second = len(proxies["second"].changes)
                await one.put(of(5))
                await one.until(one.replicas, (5, 5))
                assert await one.holder() == "first"
                assert len(proxies["second"].changes) == num_second
            assert since(numbers, 2) == [2, 4, 3, 5]
    asyncio.run(work())


@pytest.mark.parametrize("wrong", ["gone", "conflict", "busy", "cut"])
def test_answers_of_a_server_in_trouble(kubeconfig, tmp_path, wrong):
    """Watches that are too old, conflicts, throttling and cut connections, each for a third of the
    requests. They are drawn: of every third request, the same one of a cycle could always be it."""
    rng = random.Random(1)

    def some(request):
        code = {"gone": 410, "conflict": 409, "busy": 429, "cut": "cut"}[wrong]
        if (wrong == "gone") != is_watch(request) and wrong in ("gone", "conflict"):
            return None
        if wrong == "conflict" and not is_change(request):
            return None
        return code if rng.random() < 1 / 3 else None

    async def work():
        async with behind_a_proxy(kubeconfig, tmp_path) as (one, proxy, numbers):
            proxy.fault = some
            await one.put(of(2))
            await one.until(one.replicas, (2, 2))
            for count in (4, 1):
                if wrong == "gone":
                    proxy.end_watches(410)
                await one.put(of(count))
                await one.until(one.replicas, (count, count))
            assert proxy.made
            proxy.fault = lambda request: None
            await one.until(lambda: one.condition("Ready"), ("True", "ReplicasReady"))
            assert since(numbers, 2) == [2, 4, 1]
    asyncio.run(work())


def test_a_busy_server_is_left_alone_for_as_long_as_it_wants(kubeconfig, tmp_path):
    async def work():
        async with behind_a_proxy(kubeconfig, tmp_path) as (one, proxy, _):
            await one.put(of(2))
            await one.until(lambda: one.condition("Ready"), ("True", "ReplicasReady"))
            proxy.fault = lambda request: 429 if is_change(request) else None
            proxy.retry_after_s = 4
            await one.put(of(3))
            await asyncio.sleep(3.0)
            assert len(proxy.made) == 1
            proxy.fault = lambda request: None
            await one.until(one.replicas, (3, 3))
    asyncio.run(work())


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
def test_an_admission_webhook_that_hangs(kubeconfig, tmp_path, policy):
    async def work():
        async with behind_a_proxy(kubeconfig, tmp_path) as (one, _, numbers):
            await one.put(of(2))
            await one.until(one.replicas, (2, 2))
            async with mute_webhook(one, policy):
                await one.put(of(4))
                if policy == "Ignore":
                    await one.until(one.replicas, (4, 4))
                else:
                    await one.until(lambda: one.condition("Ready"), ("False", "Refused"))
                    fleet = await one.get(kube_clients.FLEET, "chat")
                    assert "mute.example.com" in fleet["status"]["conditions"][1]["message"]
                    assert numbers[-1] == 2
            await one.until(one.replicas, (4, 4))
            await one.until(lambda: one.condition("Ready"), ("True", "ReplicasReady"))
            assert since(numbers, 2) == [2, 4]
    asyncio.run(work())
