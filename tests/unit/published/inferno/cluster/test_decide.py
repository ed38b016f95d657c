"""Decisions of Inferno's loop, as orders for Deployments."""

import pytest

from penstock.published.inferno.cluster.actuate import patches
from penstock.published.inferno.cluster.collect import Observed
from penstock.published.inferno.cluster.data import Part
from penstock.published.inferno.cluster.decide import AbortedError, Rules, decide
from penstock.published.inferno.cluster.labels import managed
from penstock.published.inferno.cluster.series import Measured
from penstock.published.inferno.operations import optimize_one
from penstock.serving.kubernetes.actions import Label
from penstock.serving.kubernetes.objects import Ref, pod
from support import inferno_bundles
from support.cluster_objects import pod as pod_document
from support.inferno_cluster import PREFIX, deployment, server_labels

BATCH = f"{PREFIX}allocation.maxbatchsize"
ACCELERATOR = f"{PREFIX}allocation.accelerator"


def parts(schema="v2", change=lambda system: None):
    system = inferno_bundles.document(schema)["system"]
    system.pop("serverData")
    change(system)
    return {name: Part(name, content) for name, content in system.items()}


def server(name="a", service_class="Premium", model="small", accelerator="A", replicas=1, **load):
    one = managed(deployment(name, server_labels(name, service_class, model, accelerator, **load),
                             replicas))
    return Observed(one, Measured(one.load), "labels")


@pytest.mark.parametrize("schema", ["v1", "v2"])
@pytest.mark.parametrize("rules", [
    Rules(), Rules(keep_accelerator=True), Rules(with_cost=True), Rules(max_batch=16),
    Rules(backend="llmd"), Rules(min_replicas=9)])
def test_orders_are_the_answer_of_optimize_one_on_the_observation(schema, rules):
    servers = [server("a"), server("b", "Free", "large", "B", rpm=120), server("c", rpm=333.25)]
    found = decide(parts(schema), servers, rules)
    answer = optimize_one(found.body)
    assert answer.status == 200
    assert {order.observed.managed.name: (order.desired.accelerator, order.replicas,
                                          order.desired.max_batch) for order in found.orders} == {
        name: (one["accelerator"], one["numReplicas"], one["maxBatch"])
        for name, one in answer.document["allocations"].items()}
    assert any(order.observed.managed.replicas != order.replicas for order in found.orders)


def test_the_observation_is_the_current_allocation_without_its_cost_as_published():
    row = decide(parts(), [server(rpm=59.5)], Rules()).body["system"]["serverData"]["servers"][0]
    assert row["currentAlloc"] == {
        "accelerator": "A", "numReplicas": 1, "maxBatch": 8, "cost": 0.0, "itlAverage": 0.0,
        "ttftAverage": 0.0, "load": {"arrivalRate": 59.5, "throughput": 0.0, "avgInTokens": 128,
                                     "avgOutTokens": 1024}}


@pytest.mark.parametrize(("one", "cost"), [
    (server(replicas=2), 80.0), (server(model="large", accelerator="B"), 92.0),
    (server(accelerator="X"), 0), (server(accelerator=""), 0)])
def test_the_cost_of_present_replicas_can_be_stated(one, cost):
    row = decide(parts(), [one], Rules(with_cost=True)).body["system"]["serverData"]["servers"][0]
    assert row["currentAlloc"]["cost"] == cost


def scarce(system):
    system["capacityData"]["count"] = [{"type": "A", "count": 1}, {"type": "B", "count": 0}]
    system["optimizerData"]["optimizer"]["saturationPolicy"] = "None"


@pytest.mark.parametrize("schema", ["v1", "v2"])
def test_a_server_without_allocation_keeps_its_replicas_and_is_told(schema):
    order, = decide(parts(schema, scarce), [server(replicas=5, rpm=9000)], Rules()).orders
    assert (order.desired, order.replicas, order.labels) == (None, 5, {})
    assert order.told == ("no allocation (no accelerator has room for all its replicas); it keeps "
                          "its 5 replicas")
    assert patches(order, []) == []


@pytest.mark.parametrize("schema", ["v1", "v2"])
def test_inferno_s_trap_is_a_mode(schema):
    rules = Rules(unserved="zero")
    order, = decide(parts(schema, scarce), [server(replicas=5, rpm=9000)], rules).orders
    assert "it gets 0 replicas, as by Inferno's actuator" in order.told
    assert patches(order, []) == [Label(Ref("Deployment", "infer", "a"),
                                        {ACCELERATOR: "", BATCH: "0"}, 0)]


def test_optimizer_light_s_answer_is_a_mode():
    with pytest.raises(AbortedError, match=r"no feasible allocation for servers: \[b\]"):
        decide(parts(), [server("a"), server("b", "Nobody")], Rules(unserved="abort"))


def test_the_others_are_served_and_a_wrong_class_is_told_with_the_nearest():
    left, served = decide(parts(), [server("a", "Premum"), server("b")], Rules()).orders
    assert "no service class 'Premum'; did you mean 'Premium'?" in left.told
    assert served.desired is not None


def test_a_mixture_of_accelerators_is_no_order():
    def mixed(system):
        system["optimizerData"]["optimizer"] = {"milpSolver": True, "heterogeneous": True}
        system["capacityData"]["count"] = [{"type": "A", "count": 4}, {"type": "B", "count": 200}]

    orders = decide(parts(change=mixed), [server(rpm=700.0), server("b", model="large")],
                    Rules()).orders
    assert all(order.desired is not None or order.replicas == 1 for order in orders)


def test_a_server_without_load_has_no_replicas_unless_a_floor_is_stated():
    idle = server(rpm=0)
    order, = decide(parts(), [idle], Rules()).orders
    assert (order.replicas, order.labels[ACCELERATOR]) == (0, "")
    kept, = decide(parts(), [idle], Rules(keep_accelerator=True)).orders
    assert ACCELERATOR not in kept.labels  # remembered for the time when load comes
    floor, = decide(parts(), [idle], Rules(min_replicas=1)).orders
    assert floor.replicas == 1


def test_real_engines_stay_where_they_are_and_only_replicas_are_ordered():
    order, = decide(parts(), [server(accelerator="2xA", replicas=5)], Rules(backend="llmd")).orders
    assert (order.desired.accelerator, order.labels) == ("2xA", {})
    assert patches(order, []) == [Label(Ref("Deployment", "infer", "a"), {}, order.replicas)]


def test_a_saturated_server_is_told():
    def few(system):
        system["capacityData"]["count"] = [{"type": "A", "count": 1}, {"type": "B", "count": 0}]

    order, = decide(parts(change=few), [server(rpm=9000)], Rules()).orders
    assert (order.replicas, order.told) == (
        1, "more arrives than its replicas serve within their targets")


def test_data_of_a_version_that_searches_batches_are_a_doubt():
    def newer(system):
        for model in system["modelData"]["models"]:
            del model["atTokens"]

    found = decide(parts(change=newer), [server()], Rules())
    assert "'small' on 'A' has no atTokens, so its batch is 1 (5 such" in found.doubts[0]
    found = decide(parts(change=newer), [server()], Rules(max_batch=64))
    assert (found.doubts, found.orders[0].desired.max_batch) == ((), 64)


def test_names_that_lead_nowhere_are_doubts():
    def typo(system):
        system["modelData"]["models"][0]["acc"] = "AA"

    assert "did you mean 'A'?" in decide(parts(change=typo), [server()], Rules()).doubts[0]


def test_no_server_is_a_decision_without_orders():
    assert decide(parts(), [], Rules()).orders == []


def test_labels_and_replicas_change_in_one_patch_and_pods_that_carry_labels_are_told():
    order, = decide(parts(), [server(accelerator="2xA", replicas=5)], Rules()).orders
    told, silent = (pod(pod_document(name, labels)) for name, labels in (
        ("a-1", {"app": "a", ACCELERATOR: "2xA"}), ("a-2", {"app": "a"})))
    deployment_patch, pod_patch = patches(order, [told, silent])
    assert deployment_patch == Label(Ref("Deployment", "infer", "a"), {
        ACCELERATOR: order.desired.accelerator, BATCH: str(order.desired.max_batch)},
        order.replicas)
    assert (pod_patch.ref, pod_patch.labels) == (Ref("Pod", "ns", "a-1"), order.labels)


def test_what_is_as_ordered_is_left_alone():
    order, = decide(parts(), [server()], Rules()).orders
    again = server(accelerator=order.desired.accelerator, replicas=order.replicas,
                   batch=order.desired.max_batch)
    same, = decide(parts(), [again], Rules()).orders
    assert patches(same, []) == []
