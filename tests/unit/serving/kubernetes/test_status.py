"""Status of a Fleet."""

from dataclasses import replace
from datetime import UTC, datetime

from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.planned import Plan
from penstock.serving.kubernetes.planning import UNDER_WAY, Unplanned
from penstock.serving.kubernetes.reconcile import GroupState
from penstock.serving.kubernetes.status import (
    Condition,
    accepted,
    conditions,
    decision_entry,
    fleet_status,
    group_entry,
    planned,
    ready,
    scaling,
)
from support import cluster_objects as cluster

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EARLIER = "2026-11-24T10:00:00Z"


def fleet(**status):
    return objects.fleet(cluster.fleet_document(status=status))


def state(*pods, replicas=2, problem=None):
    values = cluster.values_of()
    return GroupState(0, values.replicas[0].kubernetes, objects.Ref("ReplicaGroup", "ns", "chat-0"),
                      objects.workload(cluster.deployment(replicas=replicas)),
                      tuple(map(objects.pod, pods)), problem=problem)


def test_the_time_of_a_transition_moves_with_the_status_alone():
    before = {"type": "Ready", "status": "False", "lastTransitionTime": EARLIER}
    same, = conditions(fleet(conditions=[before]), [Condition("Ready", "False", "Other", "x")], NOW)
    assert (same["lastTransitionTime"], same["reason"]) == (EARLIER, "Other")
    other, = conditions(fleet(conditions=[before]), [Condition("Ready", "True", "Good", "x")], NOW)
    assert other["lastTransitionTime"] == "2026-11-24T12:00:00Z"
    assert other["observedGeneration"] == 3


def test_a_fleet_is_ready_once_all_wanted_replicas_serve():
    two = [cluster.pod("a"), cluster.pod("b", ready=False)]
    assert ready([state(*two)], {0: 2})[1:] == ("False", "ReplicasStarting",
                                                "replicas[0]: 1 of 2 serve")
    assert ready([state(*two)], {0: 1}).status == "True"
    assert ready([state(*two)], {}).status == "False"  # the workload's own number counts
    others = replace(state(*two, replicas=1), options=replace(
        state().options, act="publish"))
    assert ready([others], {0: 5}).status == "True"  # who scales it has decided otherwise
    assert ready([state(*two)], {0: 2}, {0: 1}).message == (
        "replicas[0]: 1 of 2 serve, former groups leave room for 1")
    assert ready([], {}).reason == "NoGroups"
    wrong = ready([state(problem=("AnotherOwner", "an HPA"))], {0: 0})
    assert (wrong.status, wrong.reason) == ("False", "AnotherOwner")


def test_the_plan_is_told_with_its_bound_or_why_there_is_none():
    plan = Plan(3, [{"count": 2}, {"count": 1}], [], 12.0, 9.5)
    assert planned(plan) == ("Planned", "True", "Planned", "3 replicas for 12 an hour; no "
                             "schedule costs less than 9.5")
    assert planned(plan._replace(bound_per_hour=None)).message == "3 replicas for 12 an hour"
    assert planned(UNDER_WAY)[1:3] == ("Unknown", "Planning")
    assert planned(Unplanned("too few l4")) == (
        "Planned", "False", "NoPlan", "too few l4; the replicas stay as they are")


def test_scaling_says_who_decides():
    fixed, scaled = cluster.values_of(), cluster.values_of(
        "max_replicas: 4, " + cluster.CREATE, text=cluster.SCALED)
    assert scaling(fixed, None, decided=True).reason == "FixedReplicas"
    assert scaling(scaled, "gone", decided=True)[2:] == ("MetricsMissing", "gone")
    assert scaling(scaled, None, decided=False).status == "Unknown"
    assert scaling(scaled, None, decided=True).status == "True"


def test_a_group_costs_what_holds_machines():
    pods = [cluster.pod("a"), cluster.pod("b", ready=False), cluster.pod("c", ending=True),
            cluster.pod("d", ready=False, placed=False)]
    found = group_entry(cluster.values_of(), state(*pods), 3)
    assert found["costPerHour"] == 3 * 4
    assert (found["ready"], found["starting"], found["draining"], found["target"]) == (1, 2, 1, 3)
    assert found["workload"] == "Deployment/chat-0"


def test_the_status_of_a_file_that_is_not_valid_has_its_problem_alone():
    found = fleet_status(fleet(), None, [accepted("models: is wrong")], [], [], None, NOW)
    assert found.keys() == {"observedGeneration", "conditions"}
    assert found["conditions"][0]["message"] == "models: is wrong"


def test_the_last_decisions_are_kept_with_their_terms():
    one = {"at_s": NOW.timestamp(), "before": (1,), "targets": (2,), "reason": "more",
           "terms": {"need": 1.23456789}, "attainment": None}
    assert decision_entry(one) == {"at": "2026-11-24T12:00:00Z", "before": [1], "targets": [2],
                                   "reason": "more", "terms": {"need": 1.234568}}
    found = fleet_status(fleet(), cluster.values_of(), [], [], [one] * 30, 0.99, NOW)
    assert len(found["decisions"]) == 10
    assert found["attainment"] == 0.99
