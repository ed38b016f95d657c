"""Figures of a scaler's observations."""

from penstock.journal.scaling_view import view
from penstock.policy.scale.values import (
    Gauges,
    Observation,
    SeenDemand,
    SeenGroup,
    SeenReplica,
)

GROUPS = (
    SeenGroup(3, (SeenReplica(0, "ready", 10.0, Gauges(5, 2, 0.5), 98.0),
                  SeenReplica(1, "ready", 40.0),
                  SeenReplica(2, "starting", 80.0))),
    SeenGroup(1, (SeenReplica(3, "draining", 90.0, Gauges(1, 0, 0.1), 99.5),)))


def seen(num_arrived, at_s, num_held=3):
    return Observation(at_s, GROUPS, (SeenDemand("m", "chat", num_arrived, 0, 0, 0, num_held),
                                      SeenDemand("m", "batch", 4, 0, 0, 0, 1)))


def test_figures_are_sums_over_groups_and_the_oldest_ages():
    found = view(seen(130, 100.0), seen(100, 90.0), 100.0)
    assert found.arrivals_per_s == 3.0
    assert (found.num_held, found.num_waiting, found.num_running, found.num_unseen) == (4, 2, 6, 1)
    assert found.gauges_age_s == 2.0
    assert found.states == ({"ready": 2, "starting": 1}, {"draining": 1})
    assert found.state_ages_s == {"ready": 90.0, "starting": 20.0, "draining": 10.0}


def test_missing_metrics_are_none_and_not_zero():
    blind = Observation(100.0, (SeenGroup(1, (SeenReplica(0, "starting", 99.0),)),), None)
    found = view(blind, seen(100, 90.0), 100.0)
    assert (found.arrivals_per_s, found.num_held, found.gauges_age_s) == (None, None, None)
    assert view(seen(5, 100.0), None, 100.0).arrivals_per_s is None
    assert view(seen(5, 100.0), blind, 100.0).arrivals_per_s is None
    assert view(seen(5, 100.0), seen(4, 100.0), 100.0).arrivals_per_s is None
