"""Laws of a change of groups: what serves goes on to serve, and accelerators always suffice."""

import json
import random

from hypothesis import example, given
from hypothesis import strategies as st

from penstock.fleet.load import parse_fleet
from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.actions import Annotate, Apply, Create, Delete, Release, Scale
from penstock.serving.kubernetes.index import Index
from penstock.serving.kubernetes.reconcile import Observed, group_states, reconcile
from penstock.serving.kubernetes.retire import Switch, retired
from support import cluster_objects as cluster
from support.scaled_examples import examples

kinds = st.tuples(st.sampled_from(["h100-80gb", "l40s"]), st.sampled_from([1, 2]),
                  st.integers(1, 4))
plans = st.lists(kinds, min_size=1, max_size=2, unique_by=lambda kind: kind[:2])
spare = st.fixed_dictionaries({name: st.one_of(st.none(), st.integers(0, 6))
                               for name in ("h100-80gb", "l40s")})
RUNS = 400


def pools_of(drawn, spare):
    """As many accelerators as the largest plan needs, and spare ones."""
    return {name: None if more is None else more + max(2, *(
        sum(tensor * count for its, tensor, count in plan if its == name) for plan in drawn))
        for name, more in spare.items()}


class World:
    """A namespace whose machines are those of the file, and whose pods start and end as they
    like. ``plans`` are the groups of one file after another."""

    def __init__(self, plans, pools, seed):
        self.rng, self.pools = random.Random(seed), pools
        self.fleet = objects.fleet(cluster.fleet_document())
        self.files = [self._file(plan) for plan in plans]
        self.workloads, self.groups, self.pods = {}, {}, {}
        self.changed = []

    def _file(self, plan):
        spec = {"name": "chat", "models": [{"name": "llama-3.1-8b"}], "accelerators": [
                    {"name": name, **({} if count is None else {"count": count})}
                    for name, count in self.pools.items()],
                "service_classes": [{"name": "chat"}], "engine": {"name": "vllm"},
                "traffic": [{"lengths": {"prompt": {"fixed": 9}, "output": {"fixed": 9}},
                             "rate_per_s": 1}],
                "kubernetes": [{"create": {"image": "i:1", "model": "m"}}],
                "replicas": [{"accelerator": name, "parallelism": {"tensor": tensor},
                              "count": count} for name, tensor, count in plan]}
        return parse_fleet(json.dumps(spec), "chat")

    def index(self):
        pods = [cluster.pod(name, labels, ready=state == "ready", ending=state == "ending",
                            placed=state != "waiting")
                for name, (_, labels, state) in self.pods.items()]
        return Index(*map(objects.workload, self.workloads.values()), *map(objects.pod, pods),
                     *map(objects.replica_group, self.groups.values()))

    def steps(self, values):
        seen = Observed(self.index())
        states = group_states(self.fleet, values, seen)
        gone = retired(self.fleet, values, states, seen.index)
        targets = {number: group.count for number, group in enumerate(values.replicas)}
        switch = Switch(values, states, gone, targets)
        return [*reconcile(self.fleet, values, states, seen, switch.allowed()),
                *switch.steps(seen.index, {})]

    def obey(self, steps):
        for step in steps:
            match step:
                case Create(document):
                    self.groups[document["metadata"]["name"]] = document
                case Apply(document, manager):
                    self._apply(document, manager)
                case Scale(ref, replicas):
                    self.changed.append(step)
                    self.workloads[ref.name]["spec"]["replicas"] = replicas
                case Release(ref):
                    metadata = self.workloads[ref.name]["metadata"]
                    metadata["managedFields"] = cluster.released(self.workloads[ref.name])
                case Delete(ref):
                    assert all(owner != ref.name for owner, _, _ in self.pods.values())
                    del (self.groups if ref.kind == "ReplicaGroup" else self.workloads)[ref.name]
                case Annotate():
                    pass

    def _apply(self, document, manager):
        name = document["metadata"]["name"]
        known = self.workloads.get(name, {"metadata": cluster.metadata(name), "spec": {}})
        self.workloads[name] = {
            **known, **document, "spec": {**known["spec"], **document["spec"]},
            "metadata": {**known["metadata"], **document["metadata"],
                         "managedFields": cluster.managed(known, document, manager)}}

    def width(self, owner):
        limits = self.workloads[owner]["spec"]["template"]["spec"]["containers"][0]["resources"]
        return int(limits["limits"]["nvidia.com/gpu"])

    def held(self, accelerator):
        """Accelerators of pods that are on a machine, or must find one."""
        return sum(self.width(owner) for owner, _, _ in self.pods.values()
                   if self.workloads[owner]["metadata"]["labels"][
                       "penstock.dev/accelerator"] == accelerator)

    def play(self, whole=False):
        """Let pods go a step further: all of them, or those that chance takes."""
        for owner, one in self.workloads.items():
            mine = [name for name, (its, _, state) in self.pods.items()
                    if its == owner and state != "ending"]
            for name in mine[one["spec"]["replicas"]:]:
                self.pods[name] = (*self.pods[name][:2], "ending")
            for _ in range(one["spec"]["replicas"] - len(mine)):
                self.pods[f"p{self.rng.random()}"] = (
                    owner, one["spec"]["selector"]["matchLabels"], "starting")
        for name, (owner, labels, state) in [*self.pods.items()]:
            if not whole and self.rng.random() < 0.5:
                continue
            if state == "ending":
                del self.pods[name]
            elif state == "starting":
                self.pods[name] = (owner, labels, "ready")

    def ready(self):
        return sum(1 for _, _, state in self.pods.values() if state == "ready")

    def serving(self):
        """Accelerators of the replicas that serve."""
        return sum(self.width(owner) for owner, _, state in self.pods.values() if state == "ready")

    def settle(self, values):
        for _ in range(RUNS):
            steps = self.steps(values)
            self.obey(steps)
            self.play(whole=True)
            if {type(step) for step in steps} <= {Apply} and len(steps) == len(
                    self.workloads) == len(values.replicas) and all(
                    state == "ready" for _, _, state in self.pods.values()):
                return


def is_stuck(world, drawn, pools):
    """Whether the only replica that serves would have to end before another one can start."""
    return world.ready() == 1 and sum(counts(world)) == 1 and any(
        count is not None and count - world.held(name) < max(
            tensor for its, tensor, _ in (*drawn[-1], (name, 0, 0)) if its == name)
        for name, count in pools.items())


def counts(world):
    return sorted(one["spec"]["replicas"] for one in world.workloads.values())


@examples(150)
@given(st.lists(plans, min_size=2, max_size=3), spare, st.integers(0, 10**6))
@example([[("l40s", 2, 1)], [("l40s", 1, 2)]], {"h100-80gb": 0, "l40s": 0}, 1)  # no way out
@example([[("l40s", 1, 4)], [("l40s", 2, 2)]], {"h100-80gb": 0, "l40s": 0}, 1)
def test_a_switch_never_leaves_traffic_without_replicas_nor_takes_more_than_there_is(
        drawn, spare, seed):
    pools = pools_of(drawn, spare)
    world = World(drawn, pools, seed)
    world.settle(world.files[0])
    least = world.ready()
    assert least == sum(count for _, _, count in drawn[0])
    for values in world.files[1:]:
        for _ in range(world.rng.randint(0, 60)):  # the file changes again at any time
            world.obey(world.steps(values))
            world.play()
            assert world.ready() >= 1
            for name, count in pools.items():
                assert count is None or world.held(name) <= count
    world.settle(world.files[-1])
    if is_stuck(world, drawn, pools):
        return
    assert counts(world) == sorted(count for _, _, count in drawn[-1])
    assert world.ready() == sum(counts(world))
    assert set(world.groups) == set(world.workloads)
    steps = world.steps(world.files[-1])
    assert {type(step) for step in steps} <= {Apply}


@examples(100)
@given(plans, plans, st.integers(0, 10**6))
def test_where_there_is_room_the_former_replicas_stay_until_all_others_serve(first, then, seed):
    world = World([first, then], {"h100-80gb": None, "l40s": None}, seed)
    world.settle(world.files[0])
    former = {name: one["spec"]["replicas"] for name, one in world.workloads.items()}
    kept = {f"chat-{group.kubernetes.name}": group.count for group in world.files[1].replicas}
    for _ in range(80):
        states = group_states(world.fleet, world.files[1], Observed(world.index()))
        whole = all(state.ready >= world.files[1].replicas[state.number].count
                    for state in states)
        before = len(world.changed)
        world.obey(world.steps(world.files[1]))
        for step in world.changed[before:]:
            if step.replicas < step.before:
                name = step.ref.name
                assert (step.replicas, step.before) == (kept.get(name, 0), former[name])
                assert whole
        world.play()


@examples(150)
@given(plans, plans, spare, st.integers(0, 10**6))
@example([("l40s", 1, 4)], [("l40s", 2, 2)], {"h100-80gb": 0, "l40s": 0}, 1)
@example([("l40s", 2, 4)], [("l40s", 1, 8)], {"h100-80gb": 0, "l40s": 0}, 2)
@example([("l40s", 1, 4)], [("l40s", 1, 1), ("h100-80gb", 1, 1)], {"h100-80gb": 0, "l40s": 0}, 3)
@example([("l40s", 1, 4)], [("l40s", 1, 1), ("l40s", 2, 1)], {"h100-80gb": 0, "l40s": 0}, 4)
def test_former_replicas_give_way_one_step_at_a_time(first, then, spare, seed):
    world = World([first, then], pools_of((first, then), spare), seed)
    world.settle(world.files[0])
    begun = world.serving()
    for _ in range(60):
        states = group_states(world.fleet, world.files[1], Observed(world.index()))
        if all(state.ready >= world.files[1].replicas[state.number].count for state in states):
            return
        world.obey(world.steps(world.files[1]))
        world.play()
        assert world.serving() >= begun - 2  # the widest replica


@examples(100)
@given(plans, plans, spare, st.integers(0, 10**6))
def test_a_number_has_one_step_at_a_time(first, then, spare, seed):
    world = World([first, then], pools_of((first, then), spare), seed)
    world.settle(world.files[0])
    for _ in range(40):
        steps = world.steps(world.files[1])
        changed = [step.ref for step in steps if isinstance(step, Scale | Delete)]
        assert len(changed) == len(set(changed))
        world.obey(steps)
        world.play()
