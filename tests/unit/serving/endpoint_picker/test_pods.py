"""Pods of a cluster as the endpoints of a pool."""

import asyncio

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.serving.endpoint_picker.pods import PodEndpoints, check_pods, pod_endpoints
from penstock.serving.kubernetes.api import LEADER_WORKER_SET
from penstock.serving.kubernetes.index import Index
from penstock.serving.kubernetes.objects import pod, workload
from penstock.serving.kubernetes.reconcile import Observed
from support import cluster_objects as cluster
from support.fake_cluster import FakeCluster

TWO = cluster.FLEET.replace("replicas: [{count: 2, KUBERNETES}]", """\
replicas:
  - {count: 2, kubernetes: {adopt: {name: a, port: 9000}}}
  - {count: 1, served_as: other, kubernetes: {adopt: {labels: {team: b}}}}
""")


class There:
    """A store with what a test puts there."""

    def __init__(self):
        self.workloads = [cluster.deployment("a"), cluster.deployment("b", labels={"team": "b"})]
        self.pods = []

    def observed(self, namespace, work):
        assert namespace == "ns"
        return Observed(Index(*map(workload, self.workloads), *map(pod, self.pods)))

    def put(self, *pods):
        self.pods = []
        for name, app, address, more in pods:
            one = cluster.pod(name, {"app": app}, **more)
            self.pods.append({**one, "status": {**one["status"], "podIP": address}})


def opened():
    notes, there = [], There()
    return PodEndpoints(parse_fleet(TWO, "chat"), "ns", there, notes.append), there, notes


def shown(endpoints):
    return [(one.replica_id, one.url) for one in endpoints()]


def test_ready_pods_have_the_places_of_their_group():
    endpoints, there, _ = opened()
    assert shown(endpoints) == []
    there.put(("a1", "a", "10.0.0.1", {}), ("a2", "a", "10.0.0.2", {"ready": False}),
              ("b1", "b", "fd00::1", {}), ("a3", "a", "", {}),
              ("a4", "a", "10.0.0.4", {"ending": True}))
    assert shown(endpoints) == [(0, "http://10.0.0.1:9000"), (2, "http://[fd00::1]:8000")]
    assert [one.served_as for one in endpoints()] == [None, "other"]


def test_a_pod_keeps_its_place_and_a_place_is_used_again():
    endpoints, there, notes = opened()
    first, second, third = ((f"p{i}", "a", f"10.0.0.{i}", {}) for i in (1, 2, 3))
    there.put(first, second)
    assert [number for number, _ in shown(endpoints)] == [0, 1]
    there.put(second)
    assert shown(endpoints) == [(1, "http://10.0.0.2:9000")]
    there.put(second, third)
    assert sorted(shown(endpoints)) == [(0, "http://10.0.0.3:9000"), (1, "http://10.0.0.2:9000")]
    assert notes == []


def test_pods_beyond_the_places_are_told_once():
    endpoints, there, notes = opened()
    there.put(*((f"p{i}", "a", f"10.0.0.{i}", {}) for i in range(1, 5)))
    for _ in range(3):
        assert [number for number, _ in shown(endpoints)] == [0, 1]
    assert [note.split(":")[0] for note in notes] == [
        "pod p3 gets no requests", "pod p4 gets no requests"]


def test_a_group_without_a_workload_is_an_error():
    with pytest.raises(InputError, match=r"replicas\[0\].kubernetes: is left out"):
        check_pods(cluster.values_of("max_replicas: 2", cluster.SCALED))


def test_a_cluster_is_followed(monkeypatch):
    monkeypatch.setattr("penstock.serving.kubernetes.store._RETRY_S", 0.01)

    class Closing(FakeCluster):
        async def close(self):
            self.closed = True

    async def work():
        there = Closing(absent=(LEADER_WORKER_SET,))
        there.put("Deployment", cluster.deployment("a", selector={"app": "a"}))
        async with pod_endpoints(parse_fleet(TWO, "chat"), there, lambda _: None) as endpoints:
            there.put("Pod", cluster.pod("a1", {"app": "a"}))
            for _ in range(200):
                if found := shown(endpoints):
                    break
                await asyncio.sleep(0.01)
            assert found == [(0, "http://10.0.0.1:9000")]
            there.delete("Pod", "a1")
            for _ in range(200):
                if not shown(endpoints):
                    break
                await asyncio.sleep(0.01)
            assert shown(endpoints) == []
        assert there.closed
    asyncio.run(work())
