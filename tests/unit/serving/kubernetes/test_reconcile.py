"""Steps from what a cluster has to what a fleet asks for."""

import pytest

from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.actions import Annotate, Apply, Create, Release, Scale, SetStatus
from penstock.serving.kubernetes.index import Index
from penstock.serving.kubernetes.names import CREATOR, MANAGER
from penstock.serving.kubernetes.objects import Ref
from penstock.serving.kubernetes.reconcile import (
    Observed,
    change_of,
    group_states,
    group_status,
    reconcile,
)
from support import cluster_objects as cluster

FLEET = objects.fleet(cluster.fleet_document())
WORKLOAD = Ref("Deployment", "ns", "chat-0")
GROUP = objects.replica_group({"kind": "ReplicaGroup", "metadata": cluster.metadata("chat-0"),
                               "spec": {"replicas": 5}})


def seen(*documents, groups=(GROUP,), work=None):
    readers = {"Deployment": objects.workload, "Pod": objects.pod}
    return Observed(Index(*groups, *(readers.get(one["kind"], objects.autoscaler)(one)
                                     for one in documents)), work or {})


def steps(observed, targets, kubernetes=cluster.CREATE):
    values = cluster.values_of(kubernetes)
    states = group_states(FLEET, values, observed)
    return states, reconcile(FLEET, values, states, observed, targets)


ADOPT = "kubernetes: {adopt: {name: vllm}}"


@pytest.mark.parametrize(("targets", "first"), [({0: 7}, 7), ({}, 2)])
def test_a_new_fleet_gets_its_group_its_workload_and_the_replicas_of_its_file(targets, first):
    _, found = steps(Observed(Index()), targets)
    assert [type(one) for one in found] == [Create, Apply]
    assert found[1].manager == CREATOR
    assert found[1].document["spec"]["replicas"] == first
    assert change_of(found[1]) == (WORKLOAD, 0, first)
    assert found[0].document["kind"] == "ReplicaGroup"
    assert "replicas" not in found[0].document["spec"]


def test_the_creator_of_a_workload_keeps_its_first_number_alone():
    _, (_, created) = steps(Observed(Index()), {0: 3})
    new = {**created.document, "metadata": {
        **created.document["metadata"],
        "managedFields": cluster.managed({}, created.document, CREATOR)}}
    _, found = steps(seen(new), {0: 3})
    assert found[0].manager == MANAGER
    assert "replicas" not in found[0].document["spec"]
    assert found[1] == Release(WORKLOAD)
    new["metadata"]["managedFields"] = cluster.released(new)
    _, found = steps(seen(new), {0: 3})
    assert [step.manager for step in found] == [MANAGER]


def test_a_workload_is_scaled_to_the_target_and_then_left_alone():
    _, found = steps(seen(cluster.deployment(replicas=1)), {0: 2})
    assert found[1:] == [Scale(WORKLOAD, 2, 1)]
    _, found = steps(seen(cluster.deployment(replicas=2)), {0: 2})
    assert [type(one) for one in found] == [Apply]


def test_nothing_is_scaled_before_a_decision():
    _, found = steps(seen(cluster.deployment(replicas=7)), {})
    assert [type(one) for one in found] == [Apply]


def test_the_pods_with_the_least_work_go_first_and_those_of_unknown_work_last():
    pods = [cluster.pod("busy"), cluster.pod("idle", cost=0), cluster.pod("dark"),
            cluster.pod("gone", ending=True), cluster.pod("other", {"app": "x"})]
    _, found = steps(seen(cluster.deployment(replicas=3), *pods, work={"busy": 4, "idle": 0}),
                     {0: 1})
    key = "controller.kubernetes.io/pod-deletion-cost"
    assert found[1:] == [Annotate(Ref("Pod", "ns", "busy"), key, "4"),
                         Annotate(Ref("Pod", "ns", "dark"), key, "5"), Scale(WORKLOAD, 1, 3)]


def test_two_owners_of_the_replicas_are_told_and_nothing_is_done():
    states, found = steps(seen(cluster.deployment(replicas=1), cluster.hpa()), {0: 2})
    assert [type(one) for one in found] == [Apply]
    assert states[0].problem[0] == "AnotherOwner"
    assert "HorizontalPodAutoscaler hpa" in states[0].problem[1]


PUBLISH = "kubernetes: {act: publish, adopt: {name: chat-0}}"


@pytest.mark.parametrize(("others", "expected"), [
    ([], []),  # nobody follows the number
    ([cluster.hpa()], []),  # the HPA changes the workload itself
    ([cluster.hpa(kind="ReplicaGroup")], [Scale(WORKLOAD, 5, 1)]),
    ([cluster.hpa(kind="ReplicaGroup"), cluster.hpa(name="second")], []),
])
def test_a_published_number_is_followed_by_others(others, expected):
    _, found = steps(seen(cluster.deployment(replicas=1), *others), {0: 2}, PUBLISH)
    assert found == expected


def test_the_scale_of_a_new_published_group_begins_with_what_there_is():
    _, found = steps(seen(cluster.deployment(replicas=4), groups=()), {0: 2}, PUBLISH)
    assert found[0].document["spec"]["replicas"] == 4


def test_advice_changes_nothing():
    _, found = steps(seen(cluster.deployment("vllm", replicas=1)), {0: 2},
                     "kubernetes: {act: advise, adopt: {name: vllm}}")
    assert found == []


def test_a_workload_is_adopted_by_name_or_by_labels():
    there = cluster.deployment("vllm", labels={"team": "a", "app": "vllm"})
    for text in (ADOPT, "kubernetes: {adopt: {labels: {team: a}}}"):
        states, found = steps(seen(there), {0: 2}, text)
        assert states[0].workload.ref.name == "vllm"
        assert found == [Scale(Ref("Deployment", "ns", "vllm"), 2, 1)]


def test_labels_of_several_workloads_are_a_problem():
    two = [cluster.deployment(name, labels={"team": "a"}) for name in ("a", "b")]
    states, found = steps(seen(*two), {0: 2}, "kubernetes: {adopt: {labels: {team: a}}}")
    assert states[0].problem == ("AmbiguousWorkload",
                                 "replicas[0]: several workloads have the labels: a, b")
    assert found == []


def test_a_missing_workload_is_a_problem():
    states, found = steps(seen(), {0: 2}, ADOPT)
    assert states[0].problem == ("WorkloadNotFound", "replicas[0]: there is no Deployment vllm")
    assert found == []


def test_a_workload_of_another_namespace_is_not_ours():
    other = cluster.deployment("vllm")
    other["metadata"]["namespace"] = "other"
    states, _ = steps(seen(other), {0: 2}, ADOPT)
    assert states[0].workload is None


def test_a_fleet_that_ends_is_left_alone():
    ending = objects.fleet(cluster.fleet_document() | {"metadata": cluster.metadata(
        "chat", deletionTimestamp=cluster.TIME)})
    values, observed = cluster.values_of(), seen(cluster.deployment(replicas=1))
    assert reconcile(ending, values, group_states(ending, values, observed), observed, {0: 2}) == []


def test_the_status_of_a_group_has_its_selector_and_is_written_once():
    observed = seen(cluster.deployment(replicas=3), cluster.pod("a"), cluster.pod("b", ready=False),
                    cluster.pod("c", ending=True))
    states, _ = steps(observed, {0: 3})
    found = [*group_status(states[0], GROUP, 3)]
    assert found == [SetStatus(GROUP.ref, {
        "replicas": 2, "readyReplicas": 1, "observedGeneration": 0, "desiredReplicas": 3,
        "workload": "Deployment/chat-0", "selector": "app=chat-0"})]
    again = objects.replica_group({"kind": "ReplicaGroup", "metadata": cluster.metadata("chat-0"),
                                   "spec": {}, "status": found[0].status})
    assert [*group_status(states[0], again, 3)] == []


def test_a_workload_is_of_one_group_and_of_one_fleet():
    text = cluster.FLEET.replace("KUBERNETES}", "kubernetes: {adopt: {name: a}}}, {count: 1, "
                                 "kubernetes: {adopt: {labels: {team: x}}}}")
    values, observed = cluster.values_of(text=text), seen(
        cluster.deployment("a", labels={"team": "x"}), groups=())
    first, second = group_states(FLEET, values, observed)
    assert first.workload is not None
    assert second.problem == ("SharedWorkload", "replicas[1]: Deployment a is the workload of "
                              "replicas[0], too")
    assert [step.ref.name for step in reconcile(FLEET, values, [first, second], observed,
                                                {0: 3, 1: 5}) if isinstance(step, Scale)] == ["a"]
    first, _ = group_states(FLEET, values, observed, {Ref("Deployment", "ns", "a"): "Fleet b"})
    assert first.problem[0] == "SharedWorkload"
