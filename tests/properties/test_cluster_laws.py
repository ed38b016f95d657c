"""Laws of the steps on a cluster: they end, they do not repeat, and nobody has two owners."""

import json

from hypothesis import given
from hypothesis import strategies as st

from penstock.fleet.load import parse_fleet
from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.actions import (
    Annotate,
    Apply,
    Create,
    Delete,
    Release,
    Scale,
    SetStatus,
)
from penstock.serving.kubernetes.index import Index
from penstock.serving.kubernetes.objects import Ref
from penstock.serving.kubernetes.reconcile import Observed, group_states, group_status, reconcile
from support import cluster_objects as cluster
from support.scaled_examples import examples

CREATE = {"image": "i:1", "model": "m"}
SPEC = json.loads(json.dumps({
    "name": "chat", "accelerators": [{"name": "h100-80gb", "count": 64}],
    "models": [{"name": "llama-3.1-8b"}], "service_classes": [{"name": "chat"}],
    "traffic": [{"lengths": {"prompt": {"fixed": 9}, "output": {"fixed": 9}}, "rate_per_s": 1}],
    "engine": {"name": "vllm"}}))
ways = st.sampled_from([{"create": CREATE}, {"adopt": {"name": "a"}}, {"adopt": {"name": "b"}},
                        {"adopt": {"labels": {"team": "x"}}}])
groups = st.lists(st.tuples(st.sampled_from(["scale", "publish", "advise"]), ways,
                            st.integers(1, 4)), min_size=1, max_size=3)
names = st.sampled_from(["a", "b", "c", "chat-0", "chat-1", "chat-2"])
worlds = st.fixed_dictionaries({
    "groups": groups,
    "workloads": st.dictionaries(names, st.tuples(st.integers(0, 6), st.booleans()), max_size=5),
    "pods": st.lists(st.tuples(names, st.booleans(), st.booleans(),
                               st.one_of(st.none(), st.integers(0, 5))), max_size=8),
    "set": st.dictionaries(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 6))),
    "hpas": st.lists(st.tuples(st.sampled_from(["Deployment", "ReplicaGroup"]), names), max_size=3),
    "targets": st.dictionaries(st.integers(0, 2), st.integers(0, 6)),
    "work": st.dictionaries(st.sampled_from([f"p{i}" for i in range(8)]), st.integers(0, 9))})


class World:
    """A namespace that obeys the steps."""

    def __init__(self, drawn):
        entries = []
        for act, way, count in drawn["groups"]:
            entries.append({"count": count, "kubernetes": {"act": act, **way}})
        adopted = [entry["kubernetes"].get("adopt", {}).get("name") for entry in entries]
        for i, entry in enumerate(entries):  # a workload of two groups is an error of the file
            if adopted[i] is not None and adopted[i] in adopted[:i]:
                entry["kubernetes"] = {"act": entry["kubernetes"]["act"], "create": CREATE}
        self.values = parse_fleet(json.dumps({**SPEC, "replicas": entries}), "chat")
        self.fleet = objects.fleet(cluster.fleet_document())
        self.workloads = {
            name: cluster.deployment(name, replicas, {"team": "x"} if labelled else {})
            for name, (replicas, labelled) in drawn["workloads"].items()}
        self.pods = {f"p{i}": cluster.pod(f"p{i}", {"app": name}, ready=ready, ending=ending,
                                          cost=cost)
                     for i, (name, ready, ending, cost) in enumerate(drawn["pods"])}
        self.groups = {f"chat-{i}": {"kind": "ReplicaGroup",
                                     "metadata": cluster.metadata(f"chat-{i}"),
                                     "spec": {} if replicas is None else {"replicas": replicas}}
                       for i, replicas in drawn["set"].items()}
        self.hpas = [cluster.hpa(name, kind, f"hpa{i}")
                     for i, (kind, name) in enumerate(drawn["hpas"])]
        self.targets, self.work = drawn["targets"], drawn["work"]

    def seen(self):
        return Observed(Index(*map(objects.workload, self.workloads.values()),
                              *map(objects.pod, self.pods.values()),
                              *map(objects.replica_group, self.groups.values()),
                              *map(objects.autoscaler, self.hpas)), self.work)

    def steps(self):
        seen = self.seen()
        states = group_states(self.fleet, self.values, seen)
        found = reconcile(self.fleet, self.values, states, seen, self.targets)
        for state in states:
            found += group_status(state, seen.index.groups.get(state.ref),
                                  self.targets.get(state.number))
        return states, found

    def apply(self, document, manager):
        """Server-side apply. A number that no manager has any more goes back to 1."""
        name = document["metadata"]["name"]
        known = self.workloads.get(name, {"metadata": cluster.metadata(name), "spec": {}})
        before = [one["manager"] for one in known["metadata"].get("managedFields", ())
                  if "f:replicas" in one["fieldsV1"]["f:spec"]]
        managers = cluster.managed(known, document, manager)
        spec = {**known["spec"], **document["spec"]}
        if before == [manager] and "replicas" not in document["spec"]:
            spec["replicas"] = 1
        self.workloads[name] = {**known, **document, "spec": spec, "metadata": {
            **known["metadata"], **document["metadata"], "managedFields": managers}}

    def obey(self, steps):
        for step in steps:
            match step:
                case Create(document):
                    assert document["metadata"]["name"] not in self.groups
                    self.groups[document["metadata"]["name"]] = document
                case Apply(document, manager):
                    self.apply(document, manager)
                case Release(ref):
                    metadata = self.workloads[ref.name]["metadata"]
                    metadata["managedFields"] = cluster.released(self.workloads[ref.name])
                case Delete(ref):
                    del (self.groups if ref.kind == "ReplicaGroup" else self.workloads)[ref.name]
                case Scale(ref, replicas):
                    self.workloads[ref.name]["spec"]["replicas"] = replicas
                    self.workloads[ref.name]["metadata"].pop("managedFields", None)
                case Annotate(ref, key, value):
                    self.pods[ref.name]["metadata"].setdefault("annotations", {})[key] = value
                case SetStatus(ref, status):
                    self.groups[ref.name]["status"] = status


@examples(400)
@given(worlds)
def test_steps_lead_to_a_state_in_which_nothing_is_left_to_do(drawn):
    world = World(drawn)
    for _ in range(4):
        _, steps = world.steps()
        world.obey(steps)
    _, steps = world.steps()
    assert {type(step) for step in steps} <= {Apply}
    before = json.dumps(world.workloads)
    world.obey(steps)
    assert json.dumps(world.workloads) == before


@examples(400)
@given(worlds)
def test_replicas_have_one_owner(drawn):
    world = World(drawn)
    for _ in range(3):
        states, steps = world.steps()
        by_workload = {}
        for step in steps:
            if isinstance(step, Scale):
                by_workload.setdefault(step.ref, []).append(step)
        assert all(len(found) == 1 for found in by_workload.values())
        owned = {(one["spec"]["scaleTargetRef"]["kind"], one["spec"]["scaleTargetRef"]["name"])
                 for one in world.hpas}
        for state in states:
            if state.workload is None or state.workload.ref not in by_workload:
                continue
            step, = by_workload[state.workload.ref]
            assert (step.ref.kind, step.ref.name) not in owned
            if state.options.act == "scale":
                assert step.replicas == world.targets[state.number]
            else:
                assert state.options.act == "publish"
                assert ("ReplicaGroup", state.ref.name) in owned
                assert step.replicas == world.groups[state.ref.name]["spec"]["replicas"]
        world.obey(steps)


@examples(200)
@given(worlds)
def test_nothing_is_scaled_that_nobody_decided(drawn):
    world = World({**drawn, "targets": {}, "hpas": []})
    for state, before in zip(world.steps()[0], [dict(world.workloads)] * 3, strict=False):
        for step in world.steps()[1]:
            if isinstance(step, Scale) and state.workload is not None:
                assert step.ref.name not in before


@examples(200)
@given(worlds)
def test_every_pod_says_what_its_end_costs_before_a_fleet_shrinks(drawn):
    world = World(drawn)
    states, steps = world.steps()
    for state in states:
        shrinks = [step for step in steps if isinstance(step, Scale) and state.workload is not None
                   and step.ref == state.workload.ref and step.replicas < step.before]
        if not shrinks:
            continue
        costs = {step.ref.name: int(step.value) for step in steps if isinstance(step, Annotate)}
        for pod in state.pods:
            cost = costs.get(pod.name, pod.deletion_cost)
            assert pod.is_ending or cost == world.work.get(
                pod.name, max(world.work.values(), default=0) + 1)
    assert all(step.ref == Ref("Pod", "ns", step.ref.name) for step in steps
               if isinstance(step, Annotate))
