"""Inferno's loop on a cluster in memory."""

import asyncio

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.published.inferno.cluster.cycle_log import CycleLog
from penstock.published.inferno.cluster.data import ConfigMapData
from penstock.published.inferno.cluster.decide import AbortedError, Rules
from penstock.published.inferno.cluster.emulator import LoadEmulator
from penstock.published.inferno.cluster.loop import InfernoLoop
from penstock.published.inferno.emulated_load import Walk
from penstock.published.inferno.loop.cycles import read_cycles
from penstock.published.inferno.operations import optimize_one
from penstock.serving.kubernetes.actions import Label
from penstock.serving.kubernetes.api import ClusterError
from support import inferno_bundles
from support.cluster_objects import pod
from support.fake_cluster import FakeCluster
from support.inferno_cluster import PREFIX, config_maps, deployment, put, server_labels, walkthrough

ACCELERATOR, BATCH = f"{PREFIX}allocation.accelerator", f"{PREFIX}allocation.maxbatchsize"


class Kept:
    """A loop on a cluster with the walkthrough's objects."""

    def __init__(self, rules=None, log=None, *, dynamic=False, there=None):
        self.there, self.notes = there or FakeCluster(), []
        if there is None:
            walkthrough(self.there)
        self.loop = InfernoLoop(self.there, ConfigMapData(self.there, "inferno"), None,
                                rules or Rules(), log, self.notes.append, dynamic=dynamic)

    def invoke(self):
        return asyncio.run(self.loop.invoke())

    def present(self):
        """Accelerator, batch and replicas of every server, as the cluster has them."""
        return {one["metadata"]["labels"][f"{PREFIX}name"]: (
            one["metadata"]["labels"][ACCELERATOR], int(one["metadata"]["labels"][BATCH]),
            one["spec"]["replicas"]) for one in self.there.of("Deployment").values()}

    def data(self, name, key, text):
        document = self.there.objects["ConfigMap", "inferno", name]
        self.there.put("ConfigMap", {**document, "data": {**document["data"], key: text}})


def expected(rows):
    """What ``/optimizeOne`` answers on rows that a collector has shown."""
    system = inferno_bundles.document()["system"] | {"serverData": {"servers": rows}}
    found = optimize_one({"system": system}).document["allocations"]
    return {name: (one["accelerator"], one["maxBatch"], one["numReplicas"])
            for name, one in found.items()}


def test_a_cycle_patches_labels_and_replicas_to_what_optimize_one_answers():
    kept = Kept()
    rows = asyncio.run(kept.loop.collected())["servers"]
    assert len(rows) == 4
    found = kept.invoke()
    assert kept.present() == expected(rows)
    assert found["cycle"] == 1
    for row, shown in zip(rows, found["servers"], strict=True):
        assert row["currentAlloc"] == shown["currentAlloc"]
        assert shown["desiredAlloc"]["numReplicas"] == shown["replicas"]
    assert all("to" in note for note in kept.notes)
    kept.there.actions.clear()
    again = kept.invoke()
    assert not kept.there.actions
    assert [one["currentAlloc"]["numReplicas"] for one in again["servers"]] == [
        one["replicas"] for one in found["servers"]]


@pytest.mark.parametrize("rules", [Rules(), Rules(with_cost=True), Rules(keep_accelerator=True)])
def test_decisions_follow_the_emulated_load_as_optimize_one_does(rules):
    kept = Kept(rules)
    emulator = LoadEmulator(kept.there, np.random.default_rng(3), Walk(0.2, 0.5), (),
                            lambda: 0.0, lambda _: None)
    seen = set()
    for _ in range(12):
        asyncio.run(emulator.step())
        rows = asyncio.run(kept.loop.collected())["servers"]
        kept.invoke()
        assert kept.present() == expected(rows)
        seen.add(tuple(kept.present().values()))
    assert len(seen) > 6


def test_what_the_collector_shows_names_the_deployments():
    kept = Kept()
    found = asyncio.run(kept.loop.collected())
    assert found["kube-resources"]["Free-large"] == {
        "uid": "uid-free-large", "name": "free-large", "space": "infer"}


def test_counts_are_read_before_each_cycle_and_static_data_where_they_are_dynamic():
    broken = "{}"
    kept = Kept()
    kept.invoke()
    kept.data("inferno-static-data", "model-data.json", broken)
    kept.invoke()
    kept.data("inferno-dynamic-data", "capacity-data.json", broken)
    with pytest.raises(InputError, match=r"inferno-dynamic-data: capacity-data\.json: 'count' is"):
        kept.invoke()
    eager = Kept(dynamic=True)
    eager.invoke()
    eager.data("inferno-static-data", "model-data.json", broken)
    with pytest.raises(InputError, match=r"inferno-static-data: model-data\.json: 'models' is"):
        eager.invoke()


def test_wrong_data_change_nothing():
    kept = Kept()
    kept.data("inferno-static-data", "serviceclass-data.json", "nothing")
    before = kept.present()
    with pytest.raises(InputError):
        kept.invoke()
    assert kept.present() == before


def test_wrong_static_data_are_read_again():
    kept = Kept()
    right = kept.there.objects["ConfigMap", "inferno", "inferno-static-data"]["data"]
    kept.data("inferno-static-data", "model-data.json", '{"model": []}')
    with pytest.raises(InputError, match="'models' is missing; found 'model'"):
        kept.invoke()
    kept.data("inferno-static-data", "model-data.json", right["model-data.json"])
    assert kept.invoke()["cycle"] == 1


def test_a_cycle_ends_when_the_caller_is_gone():
    class Slow(FakeCluster):
        async def act(self, action):
            await asyncio.sleep(0.01)
            await super().act(action)

    there = Slow()
    walkthrough(there)
    kept = Kept(there=there)

    async def work():
        task = asyncio.create_task(kept.loop.invoke())
        while not there.actions:
            await asyncio.sleep(0.001)
        task.cancel()
        rows = await kept.loop.collected()  # waits for the end of the cycle
        return [row["currentAlloc"]["numReplicas"] for row in rows["servers"]]

    assert 1 not in asyncio.run(work())


def test_a_server_without_allocation_keeps_its_replicas_and_has_one_event():
    kept = Kept()
    put(kept.there, deployment("odd", server_labels("odd", "Nobody"), replicas=7))
    found = kept.invoke()
    kept.invoke()
    assert kept.present()["odd"] == ("A", 8, 7)
    event, = kept.there.events
    assert (event.ref.name, event.reason, event.kind) == ("odd", "NoAllocation", "Warning")
    assert "it keeps its 7 replicas" in event.message
    shown = next(one for one in found["servers"] if one["name"] == "odd")
    assert (shown["desiredAlloc"], shown["replicas"]) == (None, 7)
    assert sum(event.message == note for note in kept.notes) == 1


@pytest.mark.parametrize(("unserved", "replicas"), [("zero", 0), ("abort", 7)])
def test_the_published_outcomes_of_a_server_without_allocation_are_modes(unserved, replicas):
    kept = Kept(Rules(unserved=unserved))
    put(kept.there, deployment("odd", server_labels("odd", "Nobody"), replicas=7))
    before = kept.present()
    if unserved == "abort":
        with pytest.raises(AbortedError, match="odd"):
            kept.invoke()
        assert kept.present() == before
    else:
        kept.invoke()
    assert kept.present()["odd"][2] == replicas


def test_a_wrong_label_holds_one_deployment():
    kept = Kept()
    labels = server_labels("odd") | {f"{PREFIX}load.rpm": "x"}
    put(kept.there, deployment("odd", labels, replicas=7))
    found = kept.invoke()
    assert kept.present()["odd"][2] == 7
    assert found["held"][0]["deployment"] == "infer/odd"
    assert kept.there.events[0].reason == "NotObserved"
    assert kept.present()["Premium-small"][2] > 1


def test_a_refused_patch_is_told_and_the_others_go_on():
    class Refusing(FakeCluster):
        async def act(self, action):
            if isinstance(action, Label) and action.ref.name == "free-large":
                raise ClusterError("forbidden", 403)
            await super().act(action)

    there = Refusing()
    walkthrough(there)
    kept = Kept(there=there)
    found = kept.invoke()
    assert found["problems"] == ["Deployment infer/free-large: forbidden"]
    assert kept.present()["Free-large"][2] == 1
    assert kept.present()["Premium-large"][2] > 1


def test_a_pod_that_is_gone_by_now_is_no_problem():
    class Ending(FakeCluster):
        async def act(self, action):
            if isinstance(action, Label) and action.ref.kind == "Pod":
                raise ClusterError("not found", 404)
            await super().act(action)

    there = Ending()
    walkthrough(there)
    there.put("Pod", pod("p", {"app": "premium-small", ACCELERATOR: "A"}) | {
        "metadata": {"name": "p", "namespace": "infer",
                     "labels": {"app": "premium-small", ACCELERATOR: "A"}}})
    assert Kept(there=there).invoke()["problems"] == []


def test_no_managed_deployment_is_an_error():
    there = FakeCluster()
    put(there, *config_maps(inferno_bundles.document()["system"]))
    with pytest.raises(InputError, match=r'no Deployment has the label inferno\.server\.managed'):
        Kept(there=there).invoke()


def test_cycles_are_logged_as_inferno_logs_them(tmp_path):
    path = tmp_path / "cycles.jsonl"
    kept = Kept(log=CycleLog(path))
    kept.invoke()
    kept.invoke()
    first, second = read_cycles(path)
    assert (first.number, second.number) == (1, 2)
    assert {one.name: one.num_replicas for one in first.servers} == {
        name: replicas for name, (_, _, replicas) in kept.present().items()}
    assert first.states["small", "A"] == (20.58, 0.041, 0.00128)
    assert first.capacity == {"A": 240, "B": 120}
    assert first.servers[0].targets.itl_ms == 320


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    kept = Kept(log=CycleLog(tmp_path / "none" / "cycles.jsonl"))
    assert "the cycle log cannot be written" in kept.invoke()["problems"][0]
    with pytest.raises(InputError, match="--cycle-log"):
        CycleLog(tmp_path).check()


def test_a_cycle_runs_every_period_and_one_that_is_skipped_is_told():
    kept = Kept()
    kept.there.failing = ClusterError("the API server does not answer")

    async def work():
        task = asyncio.create_task(kept.loop.run(0.01))
        while not kept.notes:
            await asyncio.sleep(0.01)
        kept.there.failing = None
        before = kept.present()
        while kept.present() == before:
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(asyncio.wait_for(work(), 20))
    assert kept.notes[0] == "cycle skipped: the API server does not answer"
