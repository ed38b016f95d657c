"""Pods of a cluster as the endpoints of a pool."""

import asyncio

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.serving.endpoint_picker.pods import (
    PodEndpoints,
    check_pods,
    pod_endpoints,
    pool_ref,
    workload_pods,
)
from penstock.serving.gateway.server import offer_of
from penstock.serving.kubernetes.api import (
    INFERENCE_OBJECTIVES,
    INFERENCE_POOL,
    LEADER_WORKER_SET,
    MODEL_REWRITES,
)
from penstock.serving.kubernetes.index import Index
from penstock.serving.kubernetes.objects import Ref, pod, workload
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
    fleet = parse_fleet(TWO, "chat")
    return PodEndpoints(fleet, workload_pods(fleet, "ns", there), notes.append), there, notes


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


def test_models_are_on_offer_while_no_pod_is_ready():
    endpoints, _, _ = opened()
    assert list(offer_of(endpoints.fleet).models) == ["llama-3.1-8b"]


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


POOL = cluster.FLEET.replace(", KUBERNETES", "")
REF = Ref("InferencePool", "ns", "llama")


class Closing(FakeCluster):
    closed = False

    async def close(self):
        self.closed = True


def pool_document(ports=(8000,), name="llama"):
    return {"metadata": cluster.metadata(name), "spec": {
        "selector": {"matchLabels": {"app": "vllm"}},
        "targetPorts": [{"number": port} for port in ports]}}


def refers(kind, name, pool="llama", created=cluster.TIME, **spec):
    return {"kind": kind, "metadata": {**cluster.metadata(name), "creationTimestamp": created},
            "spec": {"poolRef": {"name": pool}, **spec}}


def followed(there, work, pool=REF):
    """Run ``work`` with the endpoints of a pool; returns what was told."""
    notes = []

    async def run():
        async with pod_endpoints(parse_fleet(POOL, "chat"), there, notes.append,
                                 pool) as endpoints:
            async def until(condition):
                for _ in range(500):
                    if condition(endpoints):
                        return
                    await asyncio.sleep(0.01)
                raise AssertionError(f"{shown(endpoints)}, {endpoints.rules()}, {notes}")

            await work(endpoints, until)
        assert there.closed

    asyncio.run(run())
    return notes


def test_the_endpoints_of_a_pool_are_its_ready_pods_on_each_port():
    there = Closing()
    there.put("InferencePool", pool_document())
    there.put("Pod", cluster.pod("a", {"app": "vllm", "x": "y"}))
    there.put("Pod", cluster.pod("b", {"app": "other"}))
    there.put("Pod", cluster.pod("c", {"app": "vllm"}, ready=False))

    async def work(_, until):
        await until(lambda found: shown(found) == [(0, "http://10.0.0.1:8000")])
        there.put("InferencePool", pool_document((8000, 8001)))
        await until(lambda found: shown(found) == [(0, "http://10.0.0.1:8000"),
                                                   (1, "http://10.0.0.1:8001")])
        there.delete("InferencePool", "llama")
        await until(lambda found: shown(found) == [])
        there.put("InferencePool", pool_document((8001,)))
        await until(lambda found: [url for _, url in shown(found)] == ["http://10.0.0.1:8001"])

    assert followed(there, work) == [
        "InferencePool ns/llama: there is none, so there are no endpoints",
        "InferencePool ns/llama: is there now"]


def test_objectives_and_rewrites_of_the_pool_are_followed():
    there = Closing()
    there.put("InferencePool", pool_document())
    there.put("InferenceObjective", refers("InferenceObjective", "low", priority=-3))
    there.put("InferenceObjective", refers("InferenceObjective", "unset"))
    there.put("InferenceObjective", refers("InferenceObjective", "alien", "another", priority=9))

    async def work(_, until):
        await until(lambda found: found.rules().priorities == {"low": -3, "unset": 0})
        there.put("InferenceObjective", refers("InferenceObjective", "low", priority=5))
        there.put("InferenceModelRewrite", refers("InferenceModelRewrite", "canary", rules=[
            {"matches": [{"model": {"value": "m"}}], "targets": [{"modelRewrite": "n"}]}]))
        await until(lambda found: found.rules().priorities["low"] == 5
                    and found.rules().rewritten("m", "1") == "n")
        there.delete("InferenceModelRewrite", "canary")
        await until(lambda found: found.rules().rewritten("m", "1") == "m")

    assert followed(there, work) == []


def test_absent_kinds_mean_no_objects_and_are_told_once(monkeypatch):
    monkeypatch.setattr("penstock.serving.kubernetes.store._ABSENT_S", 0.01)
    there = Closing(absent=(INFERENCE_POOL, *INFERENCE_OBJECTIVES, *MODEL_REWRITES))

    async def work(_, until):
        await asyncio.sleep(0.2)
        await until(lambda found: shown(found) == [] and found.rules().priorities == {})

    notes = followed(there, work)
    assert [note.split(":")[0] for note in notes if "no such kind" in note] == [
        "InferencePool", "InferenceObjective", "InferenceModelRewrite"]


@pytest.mark.parametrize(("text", "namespace", "found"), [
    ("llama", None, ("", "llama")), ("a/llama", None, ("a", "llama")),
    ("llama", "b", ("b", "llama")), ("a/llama", "a", ("a", "llama"))])
def test_a_pool_is_named_with_or_without_its_namespace(text, namespace, found):
    assert pool_ref(text, parse_fleet(POOL, "chat"), namespace)[1:] == found


@pytest.mark.parametrize(("text", "namespace", "fleet", "said"), [
    ("a/b/c", None, POOL, "expected NAMESPACE/NAME"), ("a/", None, POOL, "NAMESPACE/NAME"),
    ("a/llama", "b", POOL, "expected the namespace of --namespace"),
    ("llama", None, TWO, "found 2 entries; expected one")])
def test_a_wrong_pool_is_one_clear_error(text, namespace, fleet, said):
    with pytest.raises(InputError, match=said):
        pool_ref(text, parse_fleet(fleet, "chat"), namespace)
