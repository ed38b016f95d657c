"""Objects that concern a Fleet."""

import pytest

from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.index import Index
from penstock.serving.kubernetes.interests import interests
from penstock.serving.kubernetes.objects import Ref
from penstock.serving.kubernetes.reconcile import Observed, group_states
from penstock.serving.kubernetes.retire import Retired
from support import cluster_objects as cluster

FLEET = objects.fleet(cluster.fleet_document())
ADOPT = "kubernetes: {adopt: {labels: {team: x}}}"
OTHER = {"kind": "Fleet", "metadata": cluster.metadata("other")}


@pytest.mark.parametrize(("kubernetes", "document", "concerns"), [
    (cluster.CREATE, cluster.deployment(), True),
    (cluster.CREATE, cluster.deployment("other"), False),
    (cluster.CREATE, cluster.pod("a"), True),
    (cluster.CREATE, cluster.pod("a", {"app": "other"}), False),
    (cluster.CREATE, cluster.hpa(), True),
    (cluster.CREATE, cluster.hpa(kind="ReplicaGroup"), True),
    (cluster.CREATE, cluster.hpa("other"), False),
    (cluster.CREATE, {"kind": "ReplicaGroup", "metadata": cluster.metadata("chat-0")}, True),
    (cluster.CREATE, {"kind": "ReplicaGroup", "metadata": cluster.metadata("chat-1")}, False),
    (cluster.CREATE, cluster.fleet_document(), True),
    (cluster.CREATE, OTHER, False),
    (ADOPT, cluster.deployment("new", labels={"team": "x", "more": "y"}), True),
    (ADOPT, cluster.deployment("new", labels={"team": "y"}), False),
    ("kubernetes: {adopt: {name: vllm}}", cluster.deployment("vllm"), True)])
def test_a_change_concerns_the_fleet_that_depends_on_it(kubernetes, document, concerns):
    readers = {"Deployment": objects.workload, "Pod": objects.pod, "Fleet": objects.fleet,
               "ReplicaGroup": objects.replica_group}
    there = Observed(Index(objects.workload(cluster.deployment(labels={"team": "x"}))))
    values = cluster.values_of(kubernetes)
    found = interests(Ref("Fleet", "ns", "chat"), values, group_states(FLEET, values, there))
    assert found.include(readers.get(document["kind"], objects.autoscaler)(document)) == concerns


def test_the_workloads_of_former_groups_concern_the_fleet_until_they_are_gone():
    values = cluster.values_of()
    one = objects.workload(cluster.deployment("chat-old", selector={"app": "old"}))
    former = [Retired(one, ())]
    found = interests(Ref("Fleet", "ns", "chat"), values, [], former)
    assert found.include(one)
    assert found.include(objects.pod(cluster.pod("a", {"app": "old"})))
    assert not interests(Ref("Fleet", "ns", "chat"), values, []).include(one)
