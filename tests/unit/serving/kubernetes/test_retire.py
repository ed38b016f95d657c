"""Former groups: which workloads they have, and when these end."""

import json

import pytest

from penstock.fleet.load import parse_fleet
from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.actions import Annotate, Delete, Scale
from penstock.serving.kubernetes.index import Index
from penstock.serving.kubernetes.objects import Ref
from penstock.serving.kubernetes.reconcile import Observed, group_states
from penstock.serving.kubernetes.retire import Switch, retired
from penstock.serving.kubernetes.status import retired_entry
from support import cluster_objects as cluster

FLEET = objects.fleet(cluster.fleet_document())
OLD = Ref("Deployment", "ns", "chat-old")


def former(replicas=1, name="chat-old", owner=FLEET.uid, model="llama-3.1-8b", width="1",
           accelerator="h100-80gb"):
    found = cluster.deployment(name, replicas, {
        "penstock.dev/fleet": "chat", "penstock.dev/model": model,
        "penstock.dev/accelerator": accelerator,
        "penstock.dev/accelerators-per-replica": width})
    found["metadata"]["ownerReferences"] = [{"uid": owner, "controller": True}]
    return found


def present(replicas, ready, name="chat-0"):
    return [cluster.deployment(name, replicas), *(
        cluster.pod(f"{name}-{i}", {"app": name}, ready=i < ready) for i in range(replicas))]


def pods(number, **more):
    return [cluster.pod(f"old-{i}", {"app": "chat-old"}, **more) for i in range(number)]


def switched(*documents, count=None, replicas=2, kubernetes=cluster.CREATE):
    """The steps, the allowed replicas and the former groups, of a pool of ``count``."""
    text = cluster.text_of(kubernetes).replace("count: 2", f"count: {replicas}").replace(
        "count: 64", f"count: {count or 64}")
    values = parse_fleet(text, "chat")
    readers = {"Deployment": objects.workload, "Pod": objects.pod,
               "HorizontalPodAutoscaler": objects.autoscaler,
               "ReplicaGroup": objects.replica_group}
    index = Index(*(readers[one["kind"]](one) for one in documents))
    states = group_states(FLEET, values, Observed(index))
    gone = retired(FLEET, values, states, index)
    switch = Switch(values, states, gone, {0: replicas})
    return [*switch.steps(index, {})], switch.allowed(), gone


@pytest.mark.parametrize(("ready", "expected"), [(0, []), (1, []), (2, [Scale(OLD, 0, 3)])])
def test_former_replicas_stay_until_all_others_serve(ready, expected):
    found, allowed, _ = switched(former(3), *pods(3), *present(2, ready))
    assert [step for step in found if not isinstance(step, Annotate)] == expected
    assert len(found) == len(expected) * 4  # each pod first says what its end costs
    assert allowed == {0: 2}


def test_a_workload_goes_once_its_last_pod_has_ended():
    assert switched(former(0), *pods(1, ending=True), *present(2, 2))[0] == []
    found, _, _ = switched(former(0), *present(2, 2))
    assert found == [Delete(OLD)]
    group = {"kind": "ReplicaGroup", "metadata": cluster.metadata("chat-old"), "spec": {}}
    found, _, _ = switched(former(0), group, *present(2, 2))
    assert found == [Delete(OLD), Delete(Ref("ReplicaGroup", "ns", "chat-old"))]


def test_the_replicas_of_an_autoscaler_are_not_ours_and_go_with_their_workload():
    hpa = cluster.hpa("chat-old")
    assert switched(former(3), hpa, *pods(3), *present(2, 1))[0] == []
    assert switched(former(3), hpa, *pods(3), *present(2, 2))[0] == [Delete(OLD)]


@pytest.mark.parametrize("one", [
    former(owner="another Fleet's uid"), former(name="chat-0"), cluster.deployment("chat-old")])
def test_a_workload_that_the_fleet_did_not_create_or_still_means_is_kept(one):
    assert switched(one, *present(2, 2)[1:])[2] == []


def test_an_adopted_workload_is_no_former_group():
    assert switched(former(3), kubernetes="kubernetes: {adopt: {name: chat-old}}")[2] == []


def test_the_replicas_of_a_model_that_is_gone_end_at_once():
    found, _, _ = switched(former(3, model="another"), *present(2, 0))
    assert found == [Scale(OLD, 0, 3)]


def test_new_replicas_start_as_far_as_there_is_room():
    _, allowed, _ = switched(former(3), *pods(3), count=4, replicas=4)
    assert allowed == {0: 1}
    _, allowed, _ = switched(former(1, width="2"), *pods(3), count=8, replicas=4)
    assert allowed == {0: 2}  # three pods of two accelerators each have not ended
    _, allowed, _ = switched(former(1, accelerator="l4"), *pods(3), count=4, replicas=4)
    assert allowed == {0: 4}


@pytest.mark.parametrize(("documents", "expected"), [
    ([former(4), *pods(4)], [Scale(OLD, 3, 4)]),  # nothing of the new group yet
    ([former(3), *pods(3), *present(1, 0)], []),  # a new replica starts
    ([former(3), *pods(3), *present(1, 1)], [Scale(OLD, 2, 3)]),
    ([former(2), *pods(2), cluster.pod("e", {"app": "chat-old"}, ending=True), *present(1, 1)],
     []),  # its accelerator is not free yet
    ([former(1, width="4"), *pods(1)], []),  # the only replica that serves
])
def test_where_there_is_no_room_former_replicas_give_way_one_after_another(documents, expected):
    found, _, _ = switched(*documents, count=4, replicas=4)
    assert [step for step in found if isinstance(step, Scale)] == expected


def two_groups(first, second):
    """The allowed replicas of two groups of a model, which want 1 and 2."""
    text = cluster.text_of(text=cluster.FLEET.replace(
        "[{count: 2, KUBERNETES}]",
        "[{count: 1, KUBERNETES}, {count: 2, parallelism: {tensor: 2}, KUBERNETES}]"))
    values = parse_fleet(text, "chat")
    index = Index(*(objects.workload(one) if one["kind"] == "Deployment" else objects.pod(one)
                    for one in (*first, *second)))
    states = group_states(FLEET, values, Observed(index))
    return Switch(values, states, [], {0: 1, 1: 2}).allowed()


def test_a_group_shrinks_once_the_groups_that_grow_beside_it_serve():
    second = present(2, 1, "chat-1")
    assert two_groups(present(4, 4), second) == {0: 4, 1: 2}
    assert two_groups(present(4, 4), present(2, 2, "chat-1")) == {0: 1, 1: 2}
    assert two_groups(present(4, 0), present(2, 2, "chat-1")) == {0: 1, 1: 2}  # none of its serve


def test_the_entry_of_a_former_group_tells_what_it_still_costs():
    documents = [former(2, width="2"), *pods(2), cluster.pod("e", {"app": "chat-old"}, ending=True)]
    _, _, (one,) = switched(*documents)
    assert retired_entry(parse_fleet(cluster.text_of(), "chat"), one) == {
        "workload": "Deployment/chat-old", "replicas": 2, "ready": 2, "draining": 1,
        "costPerHour": 24.0}
    assert json.dumps(retired_entry(parse_fleet(cluster.text_of(), "chat"), switched(
        former(2, accelerator="gone"), *pods(2))[2][0])).endswith('"costPerHour": 0.0}')
