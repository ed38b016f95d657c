from dataclasses import replace

import numpy as np
import pytest

from penstock.core.slo import ServiceClass, Slo
from penstock.metrics.run_summary import Fewest, Sizing, Trial
from penstock.metrics.summary import Usage, summarise
from penstock.metrics.table import RequestTable
from penstock.metrics.transfer_summary import Transfers
from penstock.report.model import wording


@pytest.mark.parametrize(("value", "text"), [
    (0.0, "0 ms"), (0.00035, "0.35 ms"), (0.0123, "12.3 ms"), (0.35, "350 ms"), (0.9999, "1 s"),
    (6.214, "6.21 s"), (612.4, "612 s"), (1422.0, "1,422 s"), (100.0, "100 s"),
    (None, wording.ABSENT)])
def test_seconds(value, text):
    assert wording.seconds(value) == text


def test_a_missed_objective_never_reads_as_kept():
    assert wording.percent(0.98999) == "98.99 %"
    assert wording.percent(0.99) == "99.00 %"
    assert wording.percent(0.999999) == "99.99 %"
    assert wording.percent(1.0) == "100.00 %"
    assert wording.percent(None) == wording.ABSENT


@pytest.mark.parametrize(("value", "text"), [
    (16.4, "$16.40"), (1234.5, "$1,234.50"), (0.712, "$0.712"), (0.0013, "$0.00130"),
    (0.0, "$0.00"), (-0.5, "-$0.500"), (None, wording.ABSENT)])
def test_money(value, text):
    assert wording.money(value) == text


def slo(**targets):
    return Slo(**targets)


def test_objective_names_every_target():
    assert (wording.objective(slo(ttft_s=6.0, itl_s=0.05, e2e_s=60.0))
            == "TTFT ≤ 6 s, ITL ≤ 50 ms paced, e2e ≤ 60 s for 99 % of requests")
    assert wording.objective(slo(itl_s=0.05, percentile=95)) \
        == "ITL ≤ 50 ms paced for 95 % of requests"
    assert wording.objective(slo(ttft_s=3.0, itl_s=0.1, itl="mean", percentile=90)) \
        == "TTFT ≤ 3 s, TPOT ≤ 100 ms for 90 % of requests"
    assert "no targets" in wording.objective(slo())
    assert wording.objective(slo(task_s=600.0, percentile=90)) \
        == "session ≤ 600 s for 90 % of sessions"
    assert wording.objective(slo(ttft_s=3.0, task_s=600.0, percentile=90)) \
        == "TTFT ≤ 3 s for 90 % of requests, session ≤ 600 s for 90 % of sessions"


@pytest.mark.parametrize(("percentile", "latency", "targets", "over"), [
    ("p99", "ttft_s", {"ttft_s": 1.0}, True),
    ("p99", "ttft_s", {"ttft_s": 2.0}, False),
    ("p99", "ttft_s", {"ttft_s": 1.0, "percentile": 95}, None),
    ("p95", "ttft_s", {"ttft_s": 1.0, "percentile": 95}, True),
    ("p50", "tpot_s", {"itl_s": 1.0}, None),
    ("p50", "itl_p99_s", {"itl_s": 1.0}, None),
    ("p50", "itl_p99_s", {"itl_s": 1.0, "itl": "strict"}, True),
    ("p50", "itl_p99_s", {"itl_s": 1.0, "itl": "strict", "percentile": 90}, None),
    ("p90", "tpot_s", {"itl_s": 1.0, "itl": "mean", "percentile": 90}, True),
    ("p99", "tpot_s", {"itl_s": 1.0, "itl": "mean", "percentile": 90}, None),
    ("p50", "itl_p99_s", {"itl_s": 1.0, "itl": "mean"}, None)])
def test_only_binding_targets_judge(percentile, latency, targets, over):
    assert wording.is_over(percentile, 1.5, slo(**targets), latency) is over


def no_requests():
    columns = [np.zeros(0, np.int64)] * 18
    return RequestTable(*columns, np.zeros(0, np.bool_), (), (), ())


def summary(verdicts, **extra):
    """A run of nothing but verdicts."""
    found = summarise(no_requests(), [ServiceClass(name) for name in verdicts],
                      Usage(np.zeros(0), 0.0))
    classes = {name: replace(entry, meets_slo=verdicts[name])
               for name, entry in found.classes.items()}
    return replace(found, classes=classes, **{
        "fleet": {"replicas": [{"model": "m", "accelerator": "a", "count": 3}]}, **extra})


@pytest.mark.parametrize(("verdicts", "outcome"), [
    ({"a": True, "b": True}, "every class meets its objective"),
    ({"a": True}, "a meets its objective"),
    ({"a": False, "b": True}, "a misses its objective"),
    ({"a": False, "b": False}, "every class misses its objective"),
    ({"a": False, "b": False, "c": True}, "a and b miss their objectives"),
    ({"a": None}, "no requests were received")])
def test_headline_says_the_verdict(verdicts, outcome):
    assert wording.headline(summary(verdicts)) == f"Served by 3 replicas of m on a: {outcome}."


def test_headline_of_a_sized_fleet_with_two_groups():
    two = summary({"a": True}, sizing=Sizing(tried=()))
    two.fleet["replicas"].append({"model": "n", "count": 1})
    assert wording.headline(two).startswith("Sized to 3 replicas of m on a and 1 replica of n:")


def test_headline_names_whom_a_group_serves():
    found = summary({"a": True})
    found.fleet["replicas"][0]["service_classes"] = ["a", "b"]
    assert "3 replicas of m on a (a, b): " in wording.headline(found)


def test_one_replica_is_singular():
    assert [wording.replicas(n) for n in (1, 2, 1200)] == ["1 replica", "2 replicas",
                                                           "1,200 replicas"]


@pytest.mark.parametrize(("share", "text"), [(0.0, "0 %"), (0.01, "1 %"), (0.01001, "1.01 %"),
                                             (1.0, "100 %"), (None, wording.ABSENT)])
def test_late_shares_never_read_as_kept(share, text):
    assert wording.late_share(share) == text


def limit(**changes):
    return Fewest(**{"classes": None, "fewest": 4, "reason": "throughput bound",
                     "rate_per_s": 20.0, "replica_rate_per_s": 6.0, **changes})


def test_why_no_fewer_replicas_were_tried():
    assert wording.sizing_limits(Sizing(tried=())) == []
    assert wording.sizing_limits(Sizing(tried=(), limits=(limit(fewest=1),))) == []
    bound, stated = wording.sizing_limits(Sizing(tried=(), limits=(
        limit(classes=("chat", "jobs")), limit(reason="stated", fewest=2))))
    assert bound == ("Up to 3 replicas were not tried: below the throughput bound; 3 replicas "
                     "cannot carry 20 requests/s of chat and jobs, at most 18/s.")
    assert stated == "1 replica was not tried: the fleet file asks for at least 2."


def test_what_was_missed_comes_most_first_and_without_noughts():
    assert wording.missed_by({"unserved": 1, "ttft_s": 30, "itl_s": 0}) == "TTFT 30, not served 1"
    assert wording.missed_by({"itl_s": 2}, slo(itl_s=0.1, itl="mean")) == "TPOT 2"
    assert wording.trial_missed(Trial(value=1, attainment={}, meets_slo=True)) == ""


def test_a_planned_fleet_of_many_groups_is_counted():
    groups = [{"model": "m", "accelerator": name, "count": 2} for name in "abcd"]
    found = summary({}, fleet={"replicas": groups}, plan={"holds": True})
    assert wording.headline(found).startswith("Planned as 8 replicas in 4 groups:")
    three = summary({}, fleet={"replicas": groups[:3]})
    assert wording.fleet_phrase(three).count(" and ") == 2


@pytest.mark.parametrize(("number", "size", "said"), [
    (1, 16_384_000.0, "; 1 prompt moved to the replicas that decoded them, 0.0164 GB, in "),
    (1200, 3.2e12, "; 1,200 prompts moved to the replicas that decoded them, 3,200 GB, in ")])
def test_few_bytes_that_moved_are_not_none(number, size, said):
    moved = Transfers(num_transfers=number, num_bytes=size, held_tokens=0, mean_s=0.1,
                      longest_s=0.2)
    assert said in wording.arrivals(summary({}, transfers=moved))


def test_one_request_is_one_request():
    found = summary({})
    for received, said in ((1, "1 request over"), (2, "2 requests over")):
        several = replace(found, overall=replace(found.overall, received=received),
                          arrival_window_s=None)
        assert wording.arrivals(several).startswith(said)
