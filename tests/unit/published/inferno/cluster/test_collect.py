"""The collector on a cluster in memory."""

import asyncio

from penstock.published.inferno.cluster.collect import collect
from penstock.published.inferno.values import Load
from penstock.serving.scaling.prometheus import PrometheusError
from support.cluster_objects import pod
from support.fake_cluster import FakeCluster
from support.inferno_cluster import PREFIX, deployment, put, server_labels

RATE = f"{PREFIX}load.rpm"


class Series:
    """Figures that a test states."""

    def __init__(self, figures):
        self.figures = figures

    async def read(self):
        if self.figures is None:
            raise PrometheusError("does not answer within 5 s")
        names = ("finished", "prompt", "output", "ttft", "first", "itl", "paced", "running")
        return {name: self.figures.get(name, {}) for name in names}


def collected(*documents, series=None, backend="serversim", pods=()):
    there = FakeCluster()
    put(there, *documents)
    for one in pods:
        there.put("Pod", one)
    return asyncio.run(collect(there, series, backend))


def without(labels, *names):
    return {name: value for name, value in labels.items() if name not in names}


def test_managed_deployments_are_servers_in_the_order_of_their_names():
    found = collected(deployment("b", server_labels("two")), deployment("a", server_labels("one")),
                      deployment("c", {"app": "c"}))
    assert [one.managed.name for one in found.servers] == ["one", "two"]
    assert {one.origin for one in found.servers} == {"labels"}
    assert (list(found.held), list(found.remarks)) == ([], [])


def test_a_wrong_deployment_is_held_and_the_others_are_collected():
    broken = deployment("b", server_labels("two") | {RATE: "x"})
    twin = deployment("c", server_labels("one"))
    odd = deployment("d", server_labels("four") | {f"{PREFIX}modle": "x"})
    found = collected(deployment("a", server_labels("one")), broken, twin, odd)
    assert [one.managed.name for one in found.servers] == ["one", "four"]
    first, second = found.held
    assert "found 'x'; expected a number" in first.reason
    assert second.reason == ("Deployment infer/c: label inferno.server.name: 'one' is the name of "
                             "Deployment infer/a, too; expected a name of its own")
    assert "inferno.server.modle" in found.remarks[0]


def test_prometheus_is_asked_first_and_labels_state_what_it_does_not_know():
    series = Series({"finished": {("a",): 2.0}, "prompt": {("a",): 200.0},
                     "output": {("a",): 20.0}})
    one, two = collected(deployment("a", server_labels("one")),
                         deployment("b", server_labels("two")), series=series).servers
    assert (one.origin, one.measured.load) == ("prometheus", Load(120.0, 100, 10, 120.0))
    assert (two.origin, two.measured.load) == ("labels", Load(60.0, 128, 1024))


def test_an_unknown_load_is_not_a_load_of_0():
    found = collected(deployment("a", without(server_labels("one"), RATE)), series=Series(None))
    assert not found.servers
    assert "its load is not known" in found.held[0].reason
    assert found.remarks == ["Prometheus does not answer within 5 s; labels state the loads"]


def test_real_engines_are_asked_for_by_the_names_of_their_pods():
    series = Series({"finished": {("ns", "a-1"): 1.0, ("ns", "a-10"): 5.0},
                     "prompt": {("ns", "a-1"): 100.0}, "output": {("ns", "a-1"): 10.0}})
    found = collected(deployment("a", server_labels("one"), namespace="ns"), series=series,
                      backend="llmd", pods=[pod("a-1", {"app": "a"}), pod("a-10", {"app": "b"})])
    assert found.servers[0].measured.load == Load(60.0, 100, 10, 60.0)
    assert [each.name for each in found.pods_of(found.servers[0].managed)] == ["a-1"]
