"""Sizing within what the file allows. Small runs; the search itself is told what meets."""

from dataclasses import replace

import pytest

from penstock.experiment.summary import sizing_summary
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.metrics.record import document
from penstock.plan import sizing
from support.small_fleet import FLEET

UNSIZED = FLEET.replace("replicas: [{count: 1}]\n", "")
GROUPS = ("sizing: {max_replicas: %d, groups: [{classes: [chat], min_replicas: %d}, "
          "{classes: [batch]}]}\n")


def sized(text, **changes):
    fleet = parse_fleet(text)
    fleet = replace(fleet, service_classes=tuple(
        replace(c, slo=replace(c.slo, **changes)) for c in fleet.service_classes))
    return sizing.size_fleet(fleet, fleet_workload(fleet), 0)


@pytest.mark.parametrize("needed", range(1, 41))
def test_the_search_finds_the_fewest(needed, monkeypatch):
    fleet = parse_fleet(UNSIZED.replace("count: 4", "count: 40"))
    tried = []

    def meets(search, count):
        tried.append(count)
        return count >= needed

    monkeypatch.setattr(sizing._Search, "_meets", meets)
    found = sizing.size_fleet(fleet, fleet_workload(fleet), 0)
    assert found.fleet.replicas[0].count == needed
    assert found.missed == ()
    assert len(set(tried)) == len(tried) <= 12
    assert max(tried) <= 40


def test_no_fewer_than_the_file_says():
    found = sized(UNSIZED + GROUPS % (4, 3))
    assert [group.count for group in found.fleet.replicas] == [3, 1]
    assert min(trial.count for trial in found.trials if trial.group == 0) == 3


def test_groups_share_the_replicas_and_accelerators():
    by_file = sized(UNSIZED.replace("count: 4", "count: 64") + GROUPS % (6, 1), ttft_s=1e-6)
    assert [group.count for group in by_file.fleet.replicas] == [5, 1]
    assert by_file.missed == (0, 1)
    by_pool = sized(UNSIZED + GROUPS % (64, 1), ttft_s=1e-6)
    assert [group.count for group in by_pool.fleet.replicas] == [3, 1]


def test_a_summary_of_one_group_marks_the_choice():
    found = document(sizing_summary(sized(UNSIZED)))
    assert found["chosen"] == 1
    assert found["tried"] == [{"value": 1, "attainment": {"chat": 1.0, "batch": 1.0},
                               "meets_slo": True, "missed": {}}]
    assert "note" not in found


def test_a_summary_of_several_groups_says_each_ones_number():
    found = document(sizing_summary(sized(UNSIZED + GROUPS % (4, 2))))
    assert found["chosen"] is None
    assert found["note"].endswith("2 for chat, 1 for batch.")
    assert [row["value"] for row in found["tried"]] == [1, 2]


def test_the_summary_says_where_the_search_began():
    bound = sized(UNSIZED.replace("rate_per_s: 5", "rate_per_s: 60"))
    limit = document(sizing_summary(bound))["limits"][0]
    assert limit["reason"] == "throughput bound"
    assert limit["fewest"] == min(trial.count for trial in bound.trials) > 1
    assert (limit["fewest"] - 1) * limit["replica_rate_per_s"] < limit["rate_per_s"]
    assert limit["fewest"] * limit["replica_rate_per_s"] >= limit["rate_per_s"]
    chat, batch = document(sizing_summary(sized(UNSIZED + GROUPS % (4, 2))))["limits"]
    assert (chat["classes"], chat["fewest"], chat["reason"]) == (["chat"], 2, "stated")
    assert batch["fewest"] == 1


def test_a_trial_that_fails_says_which_targets_were_missed():
    found = sized(UNSIZED, ttft_s=1e-6)
    missed = found.trials[0].missed
    assert set(missed) == {"chat", "batch"}
    assert missed["chat"]["ttft_s"] == found.trials[0].attainment["chat"].received
    assert document(sizing_summary(found))["tried"][0]["missed"] == missed


@pytest.mark.parametrize(("rate", "replica_rate", "count"), [
    (12, 7.9, 2), (12, 6, 2), (12.001, 6, 3), (0, 6, 1), (5, None, 1), (5, 0, 1)])
def test_replicas_at_the_bound(rate, replica_rate, count):
    assert sizing.replicas_at_bound(rate, replica_rate) == count
