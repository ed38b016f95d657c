"""Kubernetes' HPA: recommendations, stabilisation and rates of change."""

import pytest

from penstock.policy.scale.protocol import GroupFacts
from penstock.published.autoscalers.hpa import (
    DOWN,
    UP,
    Behaviour,
    Policy,
    Rules,
)
from penstock.published.autoscalers.pod_metrics import desired_replicas

FACTS = GroupFacts("m", 1, 100, 1, 1.0, 60.0, 1000)


@pytest.mark.parametrize(("values", "num_unready", "current", "desired"), [
    ([200.0], 0, 1, 2),  # the documentation's: 200m of 100m doubles
    ([50.0, 50.0], 0, 2, 1),  # 50m of 100m halves
    ([105.0] * 4, 0, 4, 4),  # within the tolerance of 10 %
    ([90.1] * 4, 0, 4, 4),
    ([112.0] * 4, 0, 4, 5),  # ceil(4.48)
    ([300.0, 300.0], 2, 4, 6),  # unready pods count as 0: 600 over 4 pods is 1.5
    ([150.0, 150.0], 1, 3, 3),  # 300 over 3 pods is 1.0
    ([20.0, None], 0, 2, 2),  # a missing pod counts as the target: 120 over 2 is 0.6, ceil(1.2)
    ([20.0, 20.0, 20.0, None], 0, 4, 2),  # 160 over 4 is 0.4, ceil(1.6)
    ([250.0, None], 0, 2, 3),  # a missing pod counts as 0: 250 over 2 is 1.25
    ([150.0, None], 0, 2, 2),  # 150 over 2 is 0.75: the direction would turn
    ([None, None], 0, 2, 2),
])
def test_recommendations(values, num_unready, current, desired):
    assert desired_replicas(values, num_unready, current, 100.0) == desired


def test_up_at_once_by_four_pods_or_double():
    assert Behaviour().limited(0.0, 2, 50, FACTS) == 6  # 4 pods are more than 100 %
    assert Behaviour().limited(0.0, 10, 50, FACTS) == 20


def test_the_rate_counts_what_was_added_within_the_period():
    behaviour = Behaviour(Rules(0.0, (Policy("Pods", 4.0, 60.0),)))
    assert behaviour.limited(0.0, 2, 50, FACTS) == 6
    assert behaviour.limited(15.0, 6, 50, FACTS) == 6
    assert behaviour.limited(60.0, 6, 50, FACTS) == 10


def test_down_waits_for_the_highest_recommendation_of_five_minutes():
    behaviour = Behaviour()
    behaviour.limited(0.0, 10, 10, FACTS)
    assert behaviour.limited(15.0, 10, 3, FACTS) == 10
    assert behaviour.limited(285.0, 10, 2, FACTS) == 10
    assert behaviour.limited(300.0, 10, 2, FACTS) == 3
    assert behaviour.limited(600.0, 3, 2, FACTS) == 2


def test_a_controller_that_has_just_begun_does_not_shrink():
    behaviour = Behaviour()
    assert behaviour.limited(0.0, 5, 1, FACTS) == 5
    assert behaviour.limited(299.0, 5, 1, FACTS) == 5
    assert behaviour.limited(300.0, 5, 1, FACTS) == 1


def test_up_waits_for_the_lowest_recommendation_of_its_window():
    behaviour = Behaviour(Rules(30.0, UP.policies), DOWN)
    behaviour.limited(0.0, 4, 4, FACTS)
    assert behaviour.limited(15.0, 4, 8, FACTS) == 4
    assert behaviour.limited(30.0, 4, 9, FACTS) == 8


@pytest.mark.parametrize(("select", "found"), [("Max", 5), ("Min", 9), ("Disabled", 10)])
def test_down_policies(select, found):
    rules = Rules(0.0, (Policy("Percent", 50.0, 60.0), Policy("Pods", 1.0, 60.0)), select)
    assert Behaviour(UP, rules).limited(0.0, 10, 1, FACTS) == found


def test_bounds_hold_even_against_the_rates():
    facts = GroupFacts("m", 3, 8, 3, 1.0, 60.0, 1000)
    assert Behaviour().limited(0.0, 1, 0, facts) == 3
    assert Behaviour().limited(0.0, 20, 20, facts) == 8
