"""Random faults of two controllers and of a real API server, in real time."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack, suppress

import httpx2
from lightkube import ApiError
from lightkube.types import PatchType

from support import cluster_objects as cluster
from support import kube_clients
from support.cluster_schedule import extra_changes
from support.kube_proxy import KubeProxy, is_watch
from support.mute_webhook import mute_webhook
from support.real_cluster import in_namespace

KINDS = ("leader dies", "leader freezes", "server dies", "watches gone", "conflicts", "throttling",
         "cut", "hang", "webhook hangs", "pods die", "scaled by hand")
FAULTS_S, MOST_S, SURE_S = 25.0, 120.0, 1.0
_CODES = {"watches gone": 410, "conflicts": 409, "throttling": 429, "cut": "cut", "hang": "hang"}


class RealSchedule:
    """One schedule. ``server_lock`` keeps schedules beside each other from killing the API server
    that another one waits for."""

    def __init__(self, rng, kube, folder, server_lock):
        self.rng, self.kube, self.folder, self.server_lock = rng, kube, folder, server_lock
        self.faults, self.broken, self.wanted, self.holders = [], [], [], []
        self._order = asyncio.Lock()  # of what the wanted numbers say
        self.num_double = self.num_extra = self.num_changes = 0
        self.ordered_s, self.status_s = 0.0, 0.0
        self.reached_s, self.told, self.lacking = None, "", None

    async def run(self):
        """Run the schedule."""
        async with AsyncExitStack() as stack:
            async with self.server_lock:
                self.one = await stack.enter_async_context(
                    in_namespace(self.kube.kubeconfig, self.folder))
            numbers = await stack.enter_async_context(self.one.trajectory())
            self.proxies, self.kubeconfigs = {}, {}
            for name in ("a", "b"):
                self.proxies[name] = KubeProxy(self.one.kubeconfig)
                self.kubeconfigs[name] = await stack.enter_async_context(
                    self.proxies[name].server(self.folder, name))
            watching = asyncio.create_task(self._watch_holders())
            stack.callback(watching.cancel)
            self.processes = {name: await self._start(name) for name in self.proxies}
            stack.push_async_callback(self._end)
            await self._faults()
            await self._settle()
            self.num_changes = len(numbers)
            # A new Deployment begins with one replica.
            first = numbers[:1] == [1] and self.wanted[0] != 1
            self.num_extra = extra_changes(self.wanted, numbers[first:])
            self.num_double = self._double()
            if self.num_extra:
                self.told = f"wanted {self.wanted}, were {numbers}"

    async def _start(self, name):
        return await asyncio.create_subprocess_exec(
            *self.one.command(name, self.kubeconfigs[name]), stderr=asyncio.subprocess.DEVNULL)

    async def _end(self):
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _faults(self):
        until_s = time.monotonic() + FAULTS_S
        await self._want()
        work = []
        while time.monotonic() < until_s:
            await asyncio.sleep(self.rng.uniform(1.0, 6.0))
            if self.rng.random() < 0.4:
                await self._want()
            else:
                kind = self.rng.choice(KINDS)
                self.faults.append(kind)
                work.append(asyncio.create_task(self._harm(kind)))
        await asyncio.gather(*work)

    async def _settle(self):
        """Wait for the wanted number, then for what Kubernetes does about it, then for the status
        that says so. Nobody kills the API server meanwhile."""
        async with self.server_lock:
            quiet_s, wanted = time.monotonic(), self.wanted[-1]
            try:
                await self.one.until(self._number, wanted, MOST_S)
                self.ordered_s = time.monotonic() - quiet_s
                try:
                    await self.one.until(self.one.replicas, (wanted, wanted), MOST_S)
                except AssertionError:  # Kubernetes has not made the pods: see ``lacking``
                    self.lacking = await self._pods_there()
                served_s = time.monotonic()
                await self.one.until(self._is_told, True)
                self.status_s = time.monotonic() - served_s
                self.reached_s = time.monotonic() - quiet_s
                await asyncio.sleep(5.0)
                assert await self._number() == wanted
                assert await self._is_told()
            except AssertionError as error:
                self.broken.append(str(error)[:300])

    async def _number(self):
        return (await self.one.replicas())[0]

    async def _is_told(self):
        """Whether the Fleet's status says what there is."""
        number, ready = await self.one.replicas()
        fleet = await self.one.get(kube_clients.FLEET, "chat")
        says = await self.one.condition("Ready")
        status = fleet.get("status", {})
        if not fleet or says is None:
            return False  # the server is down
        return status.get("observedGeneration") == fleet["metadata"]["generation"] and \
            status.get("replicas") == f"{ready or 0}/{number}" and \
            (says[0] == "True") == (ready == number)

    async def _pods_there(self):
        """Return the pods that each ReplicaSet wants and has made."""
        return [(one["spec"]["replicas"], one["status"].get("replicas"))
                async for one in self.one.there.list(kube_clients.REPLICA_SET,
                                                     namespace=self.one.namespace)]

    async def _trying(self, work):
        """Do what the API server may be down for."""
        for _ in range(300):
            try:
                return await work()
            except (ApiError, httpx2.HTTPError):
                await asyncio.sleep(0.2)
        raise AssertionError("the API server does not come back")

    async def _want(self):
        async with self._order:
            await self._want_one()

    async def _want_one(self):
        count = self.rng.choice([one for one in range(1, 7) if [one] != self.wanted[-1:]])
        self.wanted.append(count)
        text = cluster.FLEET.replace("count: 2", f"count: {count}")
        await self._trying(lambda: self.one.put(text))

    # -- faults -----------------------------------------------------------------------------------

    async def _harm(self, kind):
        for_s = self.rng.choice((1.0, 4.0, 8.0))
        if kind in ("leader dies", "leader freezes"):
            await self._hurt(kind, for_s)
        elif kind == "server dies":
            async with self.server_lock:
                self.kube.crash()
                await asyncio.sleep(for_s / 4)
                await asyncio.to_thread(self.kube.restart)
        elif kind == "webhook hangs":
            policy = self.rng.choice(("Fail", "Ignore"))
            async with mute_webhook(self.one, policy, self._trying):
                await asyncio.sleep(for_s)
        elif kind == "pods die":
            for pod in await self._trying(self._pods):
                with suppress(ApiError, httpx2.HTTPError):
                    await self.one.there.delete(kube_clients.POD, pod["metadata"]["name"],
                                                namespace=self.one.namespace)
        elif kind == "scaled by hand":
            await self._by_hand()
        else:
            await self._spoil(kind, for_s)

    async def _pods(self):
        found = [one async for one in self.one.there.list(
            kube_clients.POD, namespace=self.one.namespace)]
        return self.rng.sample(found, min(2, len(found)))

    async def _hurt(self, kind, for_s):
        name = await self.one.holder() or "a"
        process = self.processes[name]
        if process.returncode is not None:
            return
        if kind == "leader freezes":
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(self.rng.choice((for_s, 18.0)))
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            return
        process.kill()
        await process.wait()
        await asyncio.sleep(for_s)
        self.processes[name] = await self._start(name)

    async def _by_hand(self):
        async with self._order:
            await self._by_hand_now()

    async def _by_hand_now(self):
        count = self.wanted[-1] + 3
        with suppress(ApiError, httpx2.HTTPError):
            await self.one.there.patch(
                kube_clients.DEPLOYMENT.Scale, "chat-0", {"spec": {"replicas": count}},
                namespace=self.one.namespace, patch_type=PatchType.MERGE)
            self.wanted += [count, self.wanted[-1]]

    async def _spoil(self, kind, for_s):
        def fault(request):
            fits = (is_watch(request) if kind == "watches gone" else
                    request.method != "GET" if kind == "conflicts" else True)
            return _CODES[kind] if fits and self.rng.random() < 0.6 else None

        for proxy in self.proxies.values():
            proxy.fault = fault
            proxy.end_watches(410 if kind == "watches gone" else None)
        await asyncio.sleep(for_s)
        for proxy in self.proxies.values():
            if proxy.fault is fault:
                proxy.fault = lambda request: None

    # -- owners -----------------------------------------------------------------------------------

    async def _watch_holders(self):
        while True:
            holder = await self.one.holder()
            if holder is not None and [holder] != [one for _, one in self.holders[-1:]]:
                self.holders.append((time.monotonic(), holder))
            await asyncio.sleep(0.1)

    def _double(self):
        """Changes by one controller while another has held the Lease for a while."""
        found = 0
        for name, proxy in self.proxies.items():
            for change in proxy.changes:
                before = [one for at_s, one in self.holders if at_s < change.at_s - SURE_S]
                since = {one for at_s, one in self.holders
                         if abs(at_s - change.at_s) <= SURE_S}
                if before and name not in {before[-1], *since} and change.status < 300:
                    found += 1
        return found


