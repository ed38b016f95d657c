"""Groups with roles under the controller: a DisaggregatedSet where the cluster has that kind."""

import asyncio

import pytest

from penstock.serving.kubernetes.actions import Scale
from penstock.serving.kubernetes.api import LEADER_WORKER_SET, ROLE_SCALERS, ROLE_SETS
from support import cluster_objects as cluster
from support.fake_cluster import FakeCluster
from support.kept_controller import at_work, put_fleet, quicken

APART = cluster.FLEET.replace(
    "replicas: [{count: 2, KUBERNETES}]",
    "replicas:\n  - {count: 2, role: prefill, KUBERNETES}\n"
    "  - {count: 3, role: decode, KUBERNETES}\n"
    "disaggregation: {transfer: {gb_per_s: 50}}")
NAME, ROLE = "disaggregatedset.x-k8s.io/name", "disaggregatedset.x-k8s.io/role"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    quicken(monkeypatch)


def play(there):
    """Do what the controller of DisaggregatedSets does: a scale for each role, and its pods."""
    sets = there.of("DisaggregatedSet")
    for name, one in sets.items():
        for role in one["spec"]["roles"]:
            assert role["scaling"] == {"mode": "External"}
            assert "replicas" not in role["spec"]
            labels = {NAME: name, ROLE: role["name"]}
            scaler = there.of("DisaggregatedSetRoleScaler").get(f"{name}-{role['name']}")
            if scaler is None:
                there.put("DisaggregatedSetRoleScaler", {
                    "kind": "DisaggregatedSetRoleScaler", "spec": {"replicas": 1},
                    "metadata": cluster.metadata(f"{name}-{role['name']}", labels=labels,
                                                 ownerReferences=[{
                                                     "uid": f"uid-{name}", "controller": True}])})
                continue
            for number in range(scaler["spec"]["replicas"]):
                pod = f"{name}-{role['name']}-{number}"
                if pod not in there.of("Pod"):
                    there.put("Pod", cluster.pod(pod, {
                        **labels, "leaderworkerset.sigs.k8s.io/worker-index": "0"}))
    for name in set(there.of("DisaggregatedSetRoleScaler")):
        if not any(name.startswith(f"{one}-") for one in sets):
            there.delete("DisaggregatedSetRoleScaler", name, "ns")


def replicas(there):
    return {name: one["spec"]["replicas"]
            for name, one in there.of("DisaggregatedSetRoleScaler").items()}


def done(kept, **wanted):
    def look():
        play(kept.there)
        return replicas(kept.there) == {f"chat-0-{role}": num for role, num in wanted.items()} \
            and kept.condition("Ready") == ("True", "ReplicasReady")
    return look


def test_both_roles_are_one_set_and_scaled_together(tmp_path):
    async def work():
        there = FakeCluster()
        put_fleet(there, text=APART)
        async with at_work(there, tmp_path) as kept:
            await kept.until(done(kept, prefill=2, decode=3))
            assert list(there.of("DisaggregatedSet")) == ["chat-0"]
            assert not there.of("Deployment")
            put_fleet(there, text=APART.replace("count: 2", "count: 4").replace(
                "count: 3", "count: 6"))
            before = len(there.actions)
            await kept.until(done(kept, prefill=4, decode=6))
            steps = [one for one in there.actions[before:] if isinstance(one, Scale)]
            assert [(one.ref.name, one.before, one.replicas) for one in steps] == [
                ("chat-0-prefill", 2, 4), ("chat-0-decode", 3, 6)]
            groups = there.of("Fleet")["chat"]["status"]["groups"]
            assert [one["ready"] for one in groups] == [4, 6]
    asyncio.run(work())


def test_without_the_kind_each_role_is_a_workload(tmp_path):
    async def work():
        there = FakeCluster(absent=(LEADER_WORKER_SET, ROLE_SETS, ROLE_SCALERS))
        put_fleet(there, text=APART)
        async with at_work(there, tmp_path) as kept:
            await kept.until(lambda: kept.condition("Ready") == ("True", "ReplicasReady"))
            assert (kept.replicas("chat-0"), kept.replicas("chat-1")) == (2, 3)
    asyncio.run(work())


def test_a_set_that_the_file_no_longer_asks_for_goes_once_others_serve(tmp_path):
    async def work():
        there = FakeCluster()
        put_fleet(there, text=APART)
        async with at_work(there, tmp_path) as kept:
            await kept.until(done(kept, prefill=2, decode=3))
            put_fleet(there, cluster.CREATE.replace(": {create", ": {name: whole, create"))
            served = []

            def gone():
                play(there)
                if there.of("DisaggregatedSet"):
                    served.append(kept.replicas("chat-whole"))
                return not there.of("DisaggregatedSet")

            await kept.until(gone)
            assert served[-1] == 2
            assert kept.condition("Ready") == ("True", "ReplicasReady")
    asyncio.run(work())
