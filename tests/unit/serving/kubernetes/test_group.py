"""A group on a cluster, as the scaling loop sees it."""

from collections import Counter

from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.group import ClusterGroup
from penstock.serving.kubernetes.reconcile import GroupState
from penstock.serving.scaling.observed import DOWN_S
from support import cluster_objects as cluster


class World:
    def __init__(self):
        self.now_s, self.orders = 0.0, []
        self.group = ClusterGroup("m", lambda: self.now_s, lambda: self.orders.append(self.now_s))

    def follow(self, *pods, replicas=1):
        values = cluster.values_of()
        self.group.follow(GroupState(
            0, values.replicas[0].kubernetes, objects.Ref("ReplicaGroup", "ns", "chat-0"),
            objects.workload(cluster.deployment(replicas=replicas)), tuple(map(objects.pod, pods))))

    def states(self):
        return Counter(one.state for one in self.group.replicas())


def test_the_target_is_the_workload_s_until_something_is_ordered():
    world = World()
    world.follow(cluster.pod("a"), replicas=3)
    assert (world.group.target, world.group.inherited) == (3, 3)
    world.group.order(5)
    assert (world.group.target, world.orders) == (5, [0.0])
    world.group.order(5)
    assert world.orders == [0.0]


def test_pods_are_replicas_and_ordered_ones_without_a_pod_wait():
    world = World()
    world.follow(cluster.pod("a"), cluster.pod("b", ready=False), cluster.pod("c", ending=True),
                 cluster.pod("d", ready=False, placed=False), replicas=3)
    world.group.order(5)
    assert world.states() == {"ready": 1, "starting": 1, "draining": 1, "waiting": 3}


def test_a_pod_keeps_its_number_and_no_other_gets_it():
    world = World()
    world.follow(cluster.pod("a"), cluster.pod("b"))
    first = {one.number for one in world.group.replicas()}
    world.follow(cluster.pod("b"), cluster.pod("c"))
    numbers = {world.group.number(name) for name in "bc"}
    assert world.group.number("b") in first
    assert world.group.number("c") not in first
    assert set(world.group.names) == numbers


def test_a_ready_pod_that_is_not_scraped_may_serve_for_a_while():
    world = World()
    world.follow(cluster.pod("a"), cluster.pod("b"), cluster.pod("c", ready=False))
    world.group.see(["a"], [])
    assert list(world.group.down_s) == ["b"]
    assert world.group.may_hide()
    world.now_s = DOWN_S
    world.group.see(["a"], [])
    assert not world.group.may_hide()
    world.group.see(["a", "b"], [])
    assert not world.group.down_s
