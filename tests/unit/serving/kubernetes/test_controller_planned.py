"""Fleets whose groups the controller plans, on a cluster in memory."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from penstock.serving.kubernetes.actions import Apply
from penstock.serving.kubernetes.keda import Asked
from penstock.serving.kubernetes.server import shown
from penstock.serving.planning.jobs import Jobs
from penstock.serving.planning.operation import Answer, failure
from support import cluster_objects as cluster
from support.kept_controller import at_work, lacking, put_fleet, quicken


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    quicken(monkeypatch)


class Planner:
    """Plans in memory, in the place of a process. ``prices`` decide between two accelerators."""

    def __init__(self, monkeypatch):
        self.orders, self.waits, self.failing = [], asyncio.Event(), None
        self.waits.set()
        self.kind, self.count = "l40s", 2
        monkeypatch.setattr(Jobs, "answer", lambda _, order: self._answer(order))

    async def _answer(self, order):
        self.orders.append(order)
        await self.waits.wait()
        if self.failing is not None:
            return self.failing
        return Answer(document(self.kind, self.count))


def document(kind="l40s", count=2, **more):
    variant = f"{kind}-bf16"
    return {"served_in_full": True, "cost_per_hour": 2.0, "least": {"cost_per_hour": 1.5},
            "replicas": [{"model": "llama-3.1-8b", "accelerator": kind, "count": count,
                          "precision": "bf16", "kv_precision": "bf16"}],
            "candidates": [{"demand": "llama-3.1-8b", "variant": variant, "cost_per_hour": 1.0}],
            "demands": [{"name": "llama-3.1-8b", "model": "llama-3.1-8b", "rate_per_s": 1.0,
                         "headroom": 0.5, "replicas": {variant: count}, "meets": True,
                         "classes": [{"name": "chat", "attainment": 0.995}]}]} | more


@asynccontextmanager
async def running(tmp_path, monkeypatch):
    """Yield a cluster, its planner and its controller, once a planned fleet runs."""
    there, planner = lacking(), Planner(monkeypatch)
    put_fleet(there, text=cluster.PLANNED)
    async with at_work(there, tmp_path) as kept:
        await kept.until(lambda: kept.condition("Ready") == ("True", "ReplicasReady"))
        yield there, planner, kept


def names(there):
    return sorted(name.rpartition("-")[0] for name in there.of("Deployment"))


def status(there):
    return there.of("Fleet")["chat"]["status"]


def test_a_fleet_without_replicas_is_planned_once_and_runs(tmp_path, monkeypatch):
    async def work():
        there, planner = lacking(), Planner(monkeypatch)
        planner.waits.clear()
        put_fleet(there, text=cluster.PLANNED)
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.condition("Planned") == ("Unknown", "Planning"))
            assert kept.condition("Accepted") == ("True", "Valid")
            planner.waits.set()
            await kept.until(lambda: kept.condition("Ready") == ("True", "ReplicasReady"))
            assert names(there) == ["chat-l40s-bf16"]
            assert status(there)["boundCostPerHour"] == 1.5
            assert status(there)["plan"] == {
                "observedGeneration": 1, "costPerHour": 2.0,
                "groups": [{"model": "llama-3.1-8b", "accelerator": "l40s", "count": 2,
                            "precision": "bf16", "kv_precision": "bf16", "variant": "l40s-bf16",
                            "costPerHour": 2.0}],
                "demands": [{"name": "llama-3.1-8b", "model": "llama-3.1-8b",
                             "ratePerSecond": 1.0, "headroom": 0.5, "attainment": 0.995}]}
            assert kept.condition("Planned") == ("True", "Planned")
            group, = shown(kept.controller)[0].groups
            assert group.key == status(there)["groups"][0]["name"]
            assert kept.controller.wanted(Asked("ns", "chat", group.key)) == 2
        async with at_work(there, tmp_path, "two") as kept:
            lease = there.of("Lease")["penstock-controller"]
            there.put("Lease", {**lease, "spec": {**lease["spec"], "holderIdentity": "two"}})
            await kept.until(lambda: kept.controller.fleets and all(
                one.run is not None for one in kept.controller.fleets.values()))
            assert len(planner.orders) == 1
    asyncio.run(work())


def test_another_kind_serves_before_the_former_one_ends(tmp_path, monkeypatch):
    async def work():
        async with running(tmp_path, monkeypatch) as (there, planner, kept):
            former, = there.of("Deployment")
            planner.kind, planner.count = "h100-80gb", 1
            put_fleet(there, text=cluster.PLANNED.replace("rate_per_s: 1", "rate_per_s: 2"))
            await kept.until(lambda: len(there.of("Deployment")) == 2, play=False)
            await asyncio.sleep(0.1)
            assert there.of("Deployment")[former]["spec"]["replicas"] == 2
            assert [one["workload"] for one in status(there)["retiring"]] == [
                f"Deployment/{former}"]
            assert status(there)["costPerHour"] >= 2.0  # of the former replicas
            await kept.until(lambda: names(there) == ["chat-h100-80gb-bf16"])
            assert [*there.of("ReplicaGroup")] == [*there.of("Deployment")]
            await kept.until(lambda: "retiring" not in status(there))
            assert '"replicas": [' in planner.orders[1].text  # the former groups run
    asyncio.run(work())


@pytest.mark.parametrize(("answer", "part"), [
    (failure(504, "no plan within 600 s"), "no plan within 600 s"),
    (failure(400, "body:1: traffic: no request arrives"), "traffic: no request arrives; the rep"),
    (Answer(document(served_in_full=False, explanations=[{"text": "too few l40s"}])),
     "too few l40s"),
    (Answer(document(served_in_full=False, demands=[{"name": "m", "meets": False}])),
     "no plan keeps the objectives of m"),
])
def test_without_a_plan_the_replicas_stay_and_the_reason_is_told(tmp_path, monkeypatch, answer,
                                                                 part):
    async def work():
        async with running(tmp_path, monkeypatch) as (there, planner, kept):
            before = there.of("Deployment")
            planner.failing = answer
            put_fleet(there, text=cluster.PLANNED.replace("rate_per_s: 1", "rate_per_s: 2"))
            await kept.until(lambda: kept.condition("Planned") == ("False", "NoPlan"))
            message = next(one["message"] for one in status(there)["conditions"]
                           if one["type"] == "Planned")
            assert part in message
            assert there.of("Deployment").keys() == before.keys()
            num_orders = len(planner.orders)
            await kept.until(lambda: any(one.reason == "NoPlan" for one in there.events))
            await asyncio.sleep(0.1)
            assert len(planner.orders) == num_orders  # the same file is not planned again
            assert status(there)["plan"]["observedGeneration"] == 1
    asyncio.run(work())


def test_a_file_that_changes_meanwhile_stops_its_plan(tmp_path, monkeypatch):
    async def work():
        there, planner = lacking(), Planner(monkeypatch)
        planner.waits.clear()
        put_fleet(there, text=cluster.PLANNED)
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: len(planner.orders) == 1)
            put_fleet(there, text=cluster.PLANNED.replace("rate_per_s: 1", "rate_per_s: 2"))
            await kept.until(lambda: len(planner.orders) == 2)
            planner.waits.set()
            await kept.until(lambda: kept.condition("Ready") == ("True", "ReplicasReady"))
            assert status(there)["plan"]["observedGeneration"] == 2
            there.delete("Fleet", "chat")
            await kept.until(lambda: not kept.controller.fleets)
            assert not kept.controller._planning._work
    asyncio.run(work())


def test_groups_that_the_file_states_replace_the_planned_ones(tmp_path, monkeypatch):
    async def work():
        async with running(tmp_path, monkeypatch) as (there, _, kept):
            put_fleet(there, text=cluster.FLEET)
            await kept.until(lambda: [*there.of("Deployment")] == ["chat-0"])
            await kept.until(lambda: "plan" not in status(there))
            assert "boundCostPerHour" not in status(there)
            assert kept.condition("Planned") is None
    asyncio.run(work())


@pytest.mark.parametrize(("old", "new", "part"), [
    ("kubernetes: [{create", "kubernetes: [{accelerator: l40s, create",
     "kubernetes: no entry fits llama-3.1-8b on h100-80gb; expected create"),
    ("engine: {name: vllm}", "engine: {name: atom}", "engine.name: 'atom' has no command line"),
    ("engine: {name: vllm}", "engine: {name: vllm}\npolicies: {scale: penstock}\n"
     "scaling: {start_s: 9}", "scaling.observe: is left out"),
])
def test_a_file_whose_plan_could_not_run_is_not_planned(tmp_path, monkeypatch, old, new, part):
    async def work():
        there, planner = lacking(), Planner(monkeypatch)
        put_fleet(there, text=cluster.PLANNED.replace(old, new))
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.condition("Accepted") == ("False", "Invalid"))
            message = status(there)["conditions"][0]["message"]
            assert part in message, message
            assert planner.orders == []
            assert not [one for one in there.actions if isinstance(one, Apply)]
    asyncio.run(work())


def test_a_policy_starts_from_the_planned_number(tmp_path, monkeypatch):
    async def work():
        there, _ = lacking(), Planner(monkeypatch)
        text = cluster.PLANNED + (
            "policies: {scale: penstock}\nsizing: {max_replicas: 5}\n"
            "scaling: {start_s: 60, observe: {prometheus: 'http://127.0.0.1:9'}}\n")
        put_fleet(there, text=text)
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.condition("Scaling") == ("False", "MetricsMissing"))
            await kept.until(lambda: [one["spec"]["replicas"] for one in
                                      there.of("Deployment").values()] == [2])
            one, = kept.controller.fleets.values()
            assert [(facts.floor, facts.ceiling) for facts in one.run.loop.facts] == [(1, 5)]
            one.run.groups[0].wanted = 1
            one.run.follow(one.states, switching=True)
            assert one.run.targets() == {0: 2}  # former replicas take a part of the requests
            one.run.follow(one.states)
            assert one.run.targets() == {0: 1}
    asyncio.run(work())


def test_the_plan_of_a_process_is_that_of_the_command_line(tmp_path):
    async def work():
        there = lacking()
        put_fleet(there, text=cluster.PLANNED)
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.condition("Ready") == ("True", "ReplicasReady"))
        found = status(there)["plan"]
        assert [(one["variant"], one["count"]) for one in found["groups"]] == [("l40s-bf16", 1)]
        assert found["demands"][0]["headroom"] > 0
    asyncio.run(work())
