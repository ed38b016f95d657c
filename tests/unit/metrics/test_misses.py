from dataclasses import replace

import numpy as np
import pytest

from penstock.core.slo import Slo
from penstock.metrics.misses import CAUSES, MET, late_token_shares, missed_targets, misses
from penstock.metrics.table import FINISHED, SHED, RequestTable


def table(rows):
    """Rows of (status, ttft, e2e, tokens, late tokens), all arriving at 0."""
    status, ttft, e2e, tokens, late = (np.array(column) for column in zip(*rows, strict=True))
    num, none = len(rows), np.full(len(rows), np.nan)
    zero = np.zeros(num, np.int32)
    return RequestTable(
        np.arange(num), zero, zero, zero, zero, np.zeros(num), zero + 10, tokens,
        np.zeros(num), ttft.astype(float), e2e.astype(float), none, none, none, late, zero, zero,
        status.astype(np.int8), np.zeros(num, np.bool_), ("m",), ("c",), ("t",))


ROWS = [(FINISHED, 1.0, 9.0, 200, 2), (FINISHED, 3.0, 9.0, 200, 3), (FINISHED, 3.0, 30.0, 1, 0),
        (SHED, np.nan, np.nan, 0, 0)]


def test_each_target_counts_the_requests_that_missed_it():
    slo = Slo(ttft_s=2.0, itl_s=0.05, e2e_s=20.0)
    assert missed_targets(table(ROWS), slo) == {"unserved": 1, "ttft_s": 2, "itl_s": 1, "e2e_s": 1}
    assert missed_targets(table(ROWS), Slo(e2e_s=20.0)) == {"unserved": 1, "e2e_s": 1}


def test_shares_of_late_tokens_are_of_what_was_judged():
    shares = late_token_shares(table(ROWS), Slo(itl_s=0.05))
    assert shares == pytest.approx([0.01, 0.015, 0.0])
    strict = late_token_shares(table(ROWS), Slo(itl_s=0.05, itl="strict"))
    assert strict[:2] == pytest.approx([2 / 199, 3 / 199])
    assert np.isnan(strict[2])
    assert np.isnan(late_token_shares(table(ROWS), Slo(ttft_s=1.0))).all()


@pytest.mark.parametrize("percentile", [90.0, 95.0, 99.0])
def test_a_pace_is_kept_exactly_when_the_share_is_within_the_allowance(percentile):
    slo = Slo(itl_s=0.05, percentile=percentile)
    rows = [(FINISHED, 1.0, 9.0, tokens, late) for tokens in (1, 7, 99, 100, 101, 250)
            for late in range(min(tokens, 30) + 1)]
    kept = late_token_shares(table(rows), slo) <= 1 - percentile / 100 + 1e-9
    assert int((~kept).sum()) == missed_targets(table(rows), slo)["itl_s"]


def causes(slo, rows, **columns):
    found = misses(replace(table(rows), **columns).judged({"c": slo}), {"c": slo})
    return [None if place == MET else CAUSES[place] for place in found.cause], found


def test_a_mean_itl_is_late_by_the_mean_gap():
    slo = Slo(itl_s=0.05, itl="mean", percentile=90.0)
    named, found = causes(slo, [(FINISHED, 1.0, 9.0, 101, 100)], itl_mean_s=np.array([0.08]),
                          itl_p99_s=np.array([2.0]))
    assert named == ["decode"]
    assert found.times_target == pytest.approx([1.6])
    assert late_token_shares(table([(FINISHED, 1.0, 9.0, 101, 100)]), slo) == [1.0]


@pytest.mark.parametrize(("scheduled_s", "cause"), [
    (0.0, "prefill"), (2.5, "queueing"), (np.nan, "first token")])
def test_a_late_first_token_is_the_longer_stage_before_it(scheduled_s, cause):
    named, found = causes(Slo(ttft_s=2.0, itl_s=0.05), [(FINISHED, 3.0, 9.0, 200, 50)],
                          first_scheduled_s=np.array([scheduled_s]))
    assert named == [cause]
    assert found.times_target == pytest.approx([1.5])


@pytest.mark.parametrize(("row", "cause"), [
    ((FINISHED, 12.0, 30.0, 9, 0), "decode"), ((FINISHED, 25.0, 30.0, 9, 0), "prefill"),
    ((FINISHED, 1.0, 19.0, 9, 0), None), ((SHED, 1.0, np.nan, 9, 0), "shed")])
def test_a_late_end_is_the_longest_stage(row, cause):
    assert causes(Slo(e2e_s=20.0), [row])[0] == [cause]


def test_a_preempted_request_that_did_not_mostly_wait_was_preempted():
    slo, row = Slo(ttft_s=2.0, itl_s=0.05), (FINISHED, 1.0, 30.0, 100, 40)
    assert causes(slo, [row])[0] == ["decode"]
    preempted = {"num_preemptions": np.array([2], np.int32)}
    assert causes(slo, [row], **preempted)[0] == ["preemption"]
    waited = (FINISHED, 9.0, 30.0, 100, 40)
    assert causes(slo, [waited], first_scheduled_s=np.array([8.0]), **preempted)[0] == ["queueing"]


def test_the_worst_are_a_few_unserved_and_then_the_latest():
    rows = [(FINISHED, 1.0, 9.0, 9, 0), *[(SHED, np.nan, np.nan, 0, 0)] * 5,
            *[(FINISHED, float(ttft), 30.0, 9, 0) for ttft in (3, 9, 6)]]
    _, found = causes(Slo(ttft_s=2.0), rows)
    assert found.worst(6).tolist() == [1, 2, 7, 8, 6]
    assert found.worst(3).tolist() == [1, 7, 8]


def test_every_miss_has_a_cause_and_no_other_request_has_one():
    slo = Slo(ttft_s=2.0, itl_s=0.05, e2e_s=20.0)
    judged = table(ROWS * 3).judged({"c": slo})
    found = misses(judged, {"c": slo})
    assert ((found.cause == MET) == judged.met_slo).all()
    assert ((found.times_target >= 1) == ~judged.met_slo).all()
