"""Random faults of controllers and of their cluster, in simulated time.

A world has a cluster in memory, two or three controllers as processes that may be killed or frozen,
and Fleets whose wanted numbers change. Everything is drawn from a seed.
"""

import asyncio
import gc
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import yaml

from penstock.serving.kubernetes.api import LEADER_WORKER_SET, SCALED_OBJECT
from support import cluster_objects as cluster
from support.cluster_front import Candidate
from support.fake_cluster import FakeCluster
from support.simulated_loop import SimulatedLoop

FAULTS_S, MOST_S = 150.0, 240.0
"""Time within which faults begin and numbers change, and the longest time to the desired state
after the last of them."""

KINDS = ("leader dies", "leader freezes", "controller dies", "partition", "server down",
         "watches gone", "conflicts", "throttling", "webhook hangs", "answers lost", "slow watches",
         "pods die", "scaled by hand")
PUBLISH = cluster.CREATE.replace("create:", "act: publish, create:")


def extra_changes(wanted, found):
    """Number of changes that are not, in their order, among those that were wanted."""
    best = [0] * (len(wanted) + 1)
    for replicas in found:
        row = [0]
        for number, one in enumerate(wanted):
            row.append(max(best[number] + (replicas == one), best[number + 1], row[-1]))
        best = row
    return len(found) - best[-1]


class World:
    """One schedule."""

    def __init__(self, seed):
        self.rng = Random(seed)
        self.loop = SimulatedLoop(self.rng)
        self.loop.in_threads = self._at_once
        self.there = FakeCluster(absent=(LEADER_WORKER_SET, SCALED_OBJECT))
        self.moved, self.broken, self.seen, self.faults = [], [], Counter(), Counter()
        self.wanted, self.num_double = {}, 0
        self.ordered_s, self.reached_s, self.all = 0.0, None, []
        self._until_s, self._tasks = {}, []

    def _at_once(self, func, *args):
        done = self.loop.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def now(self):
        return datetime(2026, 11, 25, tzinfo=UTC) + timedelta(seconds=self.loop.time())

    def has(self, kind):
        """Whether a fault goes on."""
        return self._until_s.get(kind, 0.0) > self.loop.time()

    def holder(self):
        return self.there.of("Lease").get("penstock-controller", {"spec": {}})["spec"].get(
            "holderIdentity")

    def server(self, work):
        """Let the cluster do something by itself."""
        self._tasks.append(self.loop.create_task(work))

    def run(self, folder=Path("unused")):
        """Run the schedule, and return what went wrong."""
        gc.disable()  # finalizers run after the loop, and are told nothing
        try:
            self.loop.run_until_complete(self._run(folder))
        finally:
            self.loop.close()
            self.loop._check_closed = lambda: None
            for one in self.all:
                self.loop.bury(one.process)
            gc.enable()
            gc.collect()
        self.num_extra = sum(extra_changes(counts, [
            one.replicas for one in self.moved if one.workload == f"{name}-0"])
            for name, (_, counts) in self.wanted.items())
        self.num_double += sum(one.by != one.holder and not one.is_late for one in self.moved)
        return self.broken

    async def _run(self, folder):
        self.candidates = [Candidate(self, f"c{number}", folder)
                                      for number in range(self.rng.choice((2, 2, 3)))]
        self._folder = folder
        for number in range(self.rng.choice((1, 2, 3))):
            self._want(f"f{number}", self.rng.randint(1, 6), self.rng.random() < 0.3)
        self.server(self._play())
        self.server(self._watch_owners())
        begun_s = self.loop.time()
        while (left_s := begun_s + FAULTS_S - self.loop.time()) > 0:
            await asyncio.sleep(min(left_s, self.rng.expovariate(1 / 10.0)))
            if self.rng.random() < 0.4:
                name = self.rng.choice([*self.wanted])
                self._want(name, self.rng.randint(1, 8))
            else:
                await self._harm(self.rng.choice(KINDS))
        quiet_s = max(self.loop.time(), *self._until_s.values(), self._quiet_s)
        await asyncio.sleep(quiet_s - self.loop.time())
        while not self._is_reached():
            if not self._is_ordered():
                self.ordered_s = self.loop.time() - quiet_s
            if self.loop.time() > quiet_s + MOST_S:
                self.broken.append(f"not reached: {self._differences()}")
                break
            await asyncio.sleep(0.1)
        self.reached_s = self.loop.time() - quiet_s
        await asyncio.sleep(60.0)  # it stays so
        if not self._is_reached():
            self.broken.append(f"left again: {self._differences()}")
        self.broken += [f"an error of asyncio: {one}" for one in self.loop.troubles]
        for task in self._tasks:
            task.cancel()

    # -- wanted numbers ---------------------------------------------------------------------------

    _quiet_s = 0.0

    def _want(self, name, count, publish=None):
        if publish is None:
            publish = self.wanted[name][0]
        _, counts = self.wanted.setdefault(name, (publish, []))
        if not counts or not publish:
            text = cluster.FLEET.replace("name: chat", f"name: {name}", 1).replace(
                "count: 2", f"count: {max(1, count) if publish else count}")
            self.there.put("Fleet", {"metadata": {"name": name, "namespace": "ns"}, "spec":
                           yaml.safe_load(cluster.text_of(PUBLISH if publish else cluster.CREATE,
                                                          text))})
            if publish:
                self.there.put("HorizontalPodAutoscaler",
                               cluster.hpa(f"{name}-0", "ReplicaGroup", f"hpa-{name}"))
                count = max(1, count)
        elif f"{name}-0" in self.there.of("ReplicaGroup"):  # an HPA has its number of Penstock
            group = self.there.of("ReplicaGroup")[f"{name}-0"]
            self.there.put("ReplicaGroup", {**group, "spec": {**group["spec"], "replicas": count}})
        else:
            return
        if counts[-1:] != [count]:
            counts.append(count)

    def _differences(self):
        return {name: (counts[-1], self.there.of("Deployment").get(f"{name}-0", {"spec": {}})[
            "spec"].get("replicas"), [
                (one["type"], one["status"], one["message"]) for one in self.there.of("Fleet")[
                    name].get("status", {}).get("conditions", ())])
                for name, (_, counts) in self.wanted.items()}

    def _is_ordered(self):
        return all(self.there.of("Deployment").get(f"{name}-0", {"spec": {}})["spec"].get(
            "replicas") == counts[-1] for name, (_, counts) in self.wanted.items())

    def _is_reached(self):
        if not self._is_ordered():
            return False
        for name in self.wanted:
            fleet = self.there.of("Fleet")[name]
            conditions = {one["type"]: one["status"] for one in
                          fleet.get("status", {}).get("conditions", ())}
            if conditions.get("Ready") != "True" or fleet["status"]["observedGeneration"] \
                    != fleet["metadata"]["generation"]:
                return False
        return True

    # -- faults -----------------------------------------------------------------------------------

    async def _harm(self, kind):
        rng = self.rng
        living = [one for one in self.candidates if not one.process.dead]
        if not living:
            return
        leader = next((one for one in living if one.name == self.holder()), rng.choice(living))
        self.faults[kind] += 1
        for_s = rng.choice((1.0, 5.0, 12.0, 25.0))
        if kind in ("leader dies", "controller dies"):
            self._replace(leader if kind == "leader dies" else rng.choice(living), for_s)
        elif kind == "leader freezes" and not leader.process.frozen:
            self.loop.freeze(leader.process)
            self._after(for_s, lambda: self.loop.thaw(leader.process))
        elif kind == "partition":
            leader.front.is_cut = True
            self._after(for_s, lambda: setattr(leader.front, "is_cut", False))
        elif kind == "pods die":
            pods = [*self.there.of("Pod")]
            for pod in rng.sample(pods, min(len(pods), 2)):
                self.there.delete("Pod", pod)
        elif kind == "scaled by hand":
            self._by_hand(f"{rng.choice([*self.wanted])}-0")
        else:
            self._until_s[kind] = self.loop.time() + for_s
            if kind in ("watches gone", "server down"):
                self.there.hang_up()

    def _by_hand(self, name):
        found = self.there.of("Deployment").get(name)
        if found is not None and "replicas" in found["spec"]:
            counts = self.wanted[name.removesuffix("-0")][1]
            replicas = found["spec"]["replicas"] + self.rng.choice((1, 2))
            self.there.put("Deployment", {**found, "spec": {**found["spec"],
                                                            "replicas": replicas}})
            counts.append(counts[-1])  # the controller's step back is wanted

    def _replace(self, one, after_s):
        self.loop.kill(one.process)

        def start():
            new = Candidate(self, f"{one.name}'", self._folder)
            self.candidates[self.candidates.index(one)] = new

        self._after(after_s, start)

    def _after(self, for_s, do):
        self._quiet_s = max(self._quiet_s, self.loop.time() + for_s)
        self.loop.call_later(for_s, do)

    async def _play(self):
        while True:
            self.there.play()
            await asyncio.sleep(0.5)

    async def _watch_owners(self):
        while True:
            acting = [one.name for one in self.candidates if one.acts]
            if len(acting) > 1:
                self.num_double += 1
                self.broken.append(f"two may act at {self.loop.time()}: {acting}")
            await asyncio.sleep(0.1)
