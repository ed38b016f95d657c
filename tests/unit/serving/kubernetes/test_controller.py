"""The controller on a cluster in memory."""

import asyncio
import json

import pytest

from penstock.serving.kubernetes import controller as module
from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.actions import Apply, Tell
from penstock.serving.kubernetes.api import LEADER_WORKER_SET, SCALED_OBJECT, ClusterError
from penstock.serving.kubernetes.keda import Asked
from penstock.serving.kubernetes.server import shown
from support import cluster_objects as cluster
from support.fake_cluster import FakeCluster
from support.fake_prometheus import FakePrometheus, engine_samples
from support.kept_controller import at_work, lacking, put_fleet, quicken


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    quicken(monkeypatch)


def test_a_fleet_gets_its_replicas_and_a_changed_one_others(tmp_path):
    async def work():
        there = lacking()
        put_fleet(there)
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.condition("Ready") == ("True", "ReplicasReady"))
            assert kept.replicas() == 2
            assert there.of("ReplicaGroup")["chat-0"]["status"]["readyReplicas"] == 2
            assert [one.message for one in there.events] == [
                "Deployment chat-0: 0 to 2 replicas: the number of the file"]
            fleet, = shown(kept.controller)
            assert (fleet.groups[0].desired, fleet.groups[0].current) == (2, 2)
            put_fleet(there, text=cluster.FLEET.replace("count: 2", "count: 5"))
            await kept.until(lambda: kept.replicas() == 5)
            await kept.until(lambda: there.of("Fleet")["chat"]["status"]["observedGeneration"] == 2)
    asyncio.run(work())


def test_a_broken_file_leaves_the_replicas_and_says_why(tmp_path):
    async def work():
        there = lacking()
        put_fleet(there)
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.replicas() == 2)
            put_fleet(there, text=cluster.FLEET.replace("llama-3.1-8b", "llama-3.1-8"))
            await kept.until(lambda: kept.condition("Accepted") == ("False", "Invalid"))
            message = there.of("Fleet")["chat"]["status"]["conditions"][0]["message"]
            assert "did you mean 'llama-3.1-8b'?" in message
            assert kept.replicas() == 2
            await kept.until(lambda: any(one.kind == "Warning" for one in there.events))
            put_fleet(there, text=cluster.FLEET.replace("count: 2", "count: 3"))
            await kept.until(lambda: kept.replicas() == 3)
            assert kept.condition("Accepted") == ("True", "Valid")
    asyncio.run(work())


@pytest.mark.parametrize(("kubernetes", "text", "part"), [
    ("max_replicas: 3", cluster.SCALED, "replicas[0].kubernetes: is left out"),
    (cluster.CREATE, cluster.FLEET + "policies: {scale: penstock}\nscaling: {start_s: 9}\n",
     "scaling.observe: is left out"),
    (cluster.CREATE, cluster.FLEET.replace("lengths: {prompt: {fixed: 300}, output: {fixed: 40}}",
                                           "trace: {file: a.csv}"), "a.csv"),
])
def test_a_file_that_a_cluster_cannot_run_is_refused(tmp_path, kubernetes, text, part):
    async def work():
        there = lacking()
        put_fleet(there, kubernetes, text)
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.condition("Accepted") == ("False", "Invalid"))
            message = there.of("Fleet")["chat"]["status"]["conditions"][0]["message"]
            assert part in message, message
            assert not there.of("Deployment")
    asyncio.run(work())


def test_only_the_leader_acts_and_another_takes_over(tmp_path):
    async def work():
        there = lacking()
        put_fleet(there)
        async with at_work(there, tmp_path, "one") as first:
            await first.until(lambda: first.replicas() == 2)
            async with at_work(there, tmp_path, "two") as second:
                await second.until(lambda: second.controller.store.is_whole)
                assert not second.controller.election.leads.is_set()
                assert second.controller.fleets == {}
                lease = there.of("Lease")["penstock-controller"]
                there.put("Lease", {**lease, "spec": {**lease["spec"], "holderIdentity": "two"}})
                await second.until(second.controller.election.leads.is_set)
                put_fleet(there, text=cluster.FLEET.replace("count: 2", "count: 4"))
                await second.until(lambda: second.replicas() == 4)
    asyncio.run(work())


def test_a_server_that_fails_or_hangs_up_is_asked_again(tmp_path):
    async def work():
        there = lacking()
        put_fleet(there)
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.replicas() == 2)
            there.failing = ClusterError("the API server does not answer")
            there.hang_up()
            await asyncio.sleep(0.05)
            there.failing = None
            put_fleet(there, text=cluster.FLEET.replace("count: 2", "count: 3"))
            await kept.until(lambda: kept.replicas() == 3)
            assert any("does not answer" in note for note in kept.notes)
    asyncio.run(work())


SCALED = cluster.SCALED.replace("start_s: 60", "start_s: 1")


def test_a_policy_decides_by_what_prometheus_has_seen(tmp_path):
    async def work():
        there, prometheus = lacking(), FakePrometheus()
        for pod in ("chat-0-0", "chat-0-1"):
            prometheus.engines += engine_samples(pod, running=20, model="llama-3.1-8b",
                                                 at_s=prometheus.clock())
        async with prometheus.server() as url:
            text = SCALED.replace("http://127.0.0.1:9", url).replace(
                "scale: penstock", "scale: {name: hpa, target: 5}")
            put_fleet(there, cluster.CREATE.replace("kubernetes", "max_replicas: 6, kubernetes"),
                      text)
            async with at_work(there, tmp_path) as kept:
                await kept.until(lambda: (kept.replicas() or 0) > 2)
                await kept.until(lambda: there.of("Fleet")["chat"]["status"].get("decisions"))
                status = there.of("Fleet")["chat"]["status"]
                assert "running" in status["decisions"][-1]["reason"]
                record = (tmp_path / "records/ns.chat.jsonl").read_text().splitlines()
                assert json.loads(record[0])["policy"] == "hpa"
    asyncio.run(work())


def test_missing_metrics_are_told_and_change_nothing(tmp_path):
    async def work():
        there = lacking()
        put_fleet(there, text=SCALED)
        there.put("Deployment", cluster.deployment(replicas=4))
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.condition("Scaling") == ("False", "MetricsMissing"))
            assert kept.replicas() == 4
            await asyncio.sleep(0.1)
            num_acted = len(there.actions)
            await asyncio.sleep(0.2)
            assert len(there.actions) == num_acted  # what has been said is not said again
            assert shown(kept.controller)[0].is_missing
    asyncio.run(work())


def test_the_bounds_of_the_file_hold_while_metrics_are_missing(tmp_path):
    async def work():
        there = lacking()
        put_fleet(there, "max_replicas: 3, " + cluster.CREATE, text=SCALED)
        there.put("Deployment", cluster.deployment(replicas=6))
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.replicas() == 3)
            put_fleet(there, "max_replicas: 8, min_replicas: 5, " + cluster.CREATE,
                      text=SCALED.replace("count: 2", "count: 6"))
            await kept.until(lambda: kept.replicas() == 5)
    asyncio.run(work())


def test_a_refused_step_is_in_the_status(tmp_path):
    class Strict(FakeCluster):
        async def act(self, action):
            if isinstance(action, Apply):
                raise ClusterError("deployments.apps is forbidden", 403)
            await super().act(action)

    async def work():
        there = Strict(absent=(LEADER_WORKER_SET, SCALED_OBJECT))
        put_fleet(there)
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.condition("Ready") == ("False", "Refused"))
            assert "forbidden" in there.of("Fleet")["chat"]["status"]["conditions"][1]["message"]
    asyncio.run(work())


def test_an_event_that_is_refused_keeps_nothing_else(tmp_path):
    class Mute(FakeCluster):
        async def act(self, action):
            if isinstance(action, Tell):
                raise ClusterError("events is forbidden", 403)
            await super().act(action)

    async def work():
        there = Mute(absent=(LEADER_WORKER_SET, SCALED_OBJECT))
        put_fleet(there)
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.condition("Ready") == ("True", "ReplicasReady"))
            assert kept.replicas() == 2
            assert any("events is forbidden" in note for note in kept.notes)
    asyncio.run(work())


def test_a_lease_that_is_lost_within_a_look_ends_it(tmp_path):
    class Slow(FakeCluster):
        after = None

        async def act(self, action):
            await super().act(action)
            if self.after is not None:
                self.after()

    async def work():
        there = Slow(absent=(LEADER_WORKER_SET, SCALED_OBJECT))
        async with at_work(there, tmp_path) as kept:
            await kept.until(kept.controller.election.leads.is_set)

            def lose():
                kept.controller.election._renewed_s = float("-inf")

            there.after = lose
            there.actions.clear()
            put_fleet(there)
            await kept.until(lambda: any("the Lease is lost" in note for note in kept.notes))
            assert len(there.actions) == 1
    asyncio.run(work())


def test_a_fleet_whose_step_hangs_holds_no_other_up(tmp_path):
    class Hung(FakeCluster):
        async def act(self, action):
            if isinstance(action, Apply) and action.document["metadata"]["name"] == "chat-0":
                await asyncio.sleep(3600)
            await super().act(action)

    async def work():
        there = Hung(absent=(LEADER_WORKER_SET, SCALED_OBJECT))
        put_fleet(there)
        spec = there.of("Fleet")["chat"]["spec"]
        there.put("Fleet", {"metadata": {"name": "more", "namespace": "ns"}, "spec": spec})
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.replicas("more-0") == 2)
    asyncio.run(work())


def test_a_change_is_a_look_at_the_fleets_that_it_concerns(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PERIOD_S", 3600.0)

    async def work():
        there, looks = lacking(), []
        put_fleet(there)
        spec = there.of("Fleet")["chat"]["spec"]
        there.put("Fleet", {"metadata": {"name": "more", "namespace": "ns"}, "spec": spec})
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: all(
                one.get("status", {}).get("replicas") == "2/2" for one in
                there.of("Fleet").values()) and len(there.of("Fleet")) == 2)
            await asyncio.sleep(0.1)
            look = kept.controller._look_at

            async def counted(ref, fleet):
                looks.append(ref.name)
                await look(ref, fleet)

            monkeypatch.setattr(kept.controller, "_look_at", counted)
            there.delete("Pod", next(name for name in there.of("Pod") if name.startswith("more")))
            await kept.until(lambda: looks)
            await asyncio.sleep(0.1)
            assert set(looks) == {"more"}
    asyncio.run(work())


def test_a_controller_that_does_not_lead_knows_the_leader_s_number(tmp_path):
    async def work():
        there = lacking()
        put_fleet(there)
        async with at_work(there, tmp_path, "one") as first, \
                at_work(there, tmp_path, "two") as second:
            await first.until(lambda: first.condition("Ready") == ("True", "ReplicasReady"))
            both = (first, second) if first.controller.election.leads.is_set() else (second, first)
            await first.until(lambda: both[1].controller.store.is_whole)
            for one in both:
                assert one.controller.wanted(Asked("ns", "chat", "0")) == 2
            assert both[1].controller.fleets == {}
            assert both[1].controller.wanted(Asked("ns", "chat", "4")) is None
            assert both[1].controller.wanted(Asked("ns", "other", "0")) is None
    asyncio.run(work())


def test_a_budget_holds_at_every_moment(tmp_path):
    async def work():
        there = lacking()
        text = SCALED.replace("scaling: {", "scaling: {budget: {cost_per_hour: 12}, ")
        put_fleet(there, "max_replicas: 9, kubernetes: {adopt: {name: chat-0}}", text=text)
        there.put("Deployment", cluster.deployment(replicas=2))
        there.put("Pod", cluster.pod("old", {"app": "chat-0"}, ending=True))
        async with at_work(there, tmp_path) as kept:
            ref = objects.Ref("Fleet", "ns", "chat")
            await kept.until(lambda: ref in kept.controller.fleets
                             and kept.controller.fleets[ref].run is not None, play=False)
            kept.controller.fleets[ref].run.groups[0].order(5)
            await asyncio.sleep(0.1)
            assert kept.replicas() == 2  # with the pod that ends there are three
            there.delete("Pod", "old")
            await kept.until(lambda: kept.replicas() == 3, play=False)
            await asyncio.sleep(0.1)
            assert kept.replicas() == 3
    asyncio.run(work())
