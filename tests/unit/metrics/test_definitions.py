from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.slo import Slo
from penstock.metrics import definitions as d


def column(*values):
    return np.array(values, dtype=np.float64)


def test_latencies_are_differences_of_moments():
    arrival, scheduled, first, last = column(1.0), column(1.5), column(3.0), column(7.0)
    assert d.ttft_s(arrival, first) == [2.0]
    assert d.queue_s(arrival, scheduled) == [0.5]
    assert d.e2e_s(arrival, last) == [6.0]
    assert d.tpot_s(first, last, np.array([5])) == [1.0]


def test_tpot_needs_two_tokens():
    tpot = d.tpot_s(column(1, 1, 1), column(1, 1, 2), np.array([0, 1, 2]))
    assert np.isnan(tpot[:2]).all()
    assert tpot[2] == 1.0


def test_moments_that_never_came_give_nan():
    assert np.isnan(d.ttft_s(column(1.0), column(np.nan))).all()


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=420), st.integers(1, 1000))
def test_p99_keeps_a_bound_exactly_when_one_per_cent_of_gaps_exceed_it(gaps, bound):
    values = column(*gaps)
    exceeding = int((values > bound).sum())
    assert (d.itl_p99_s(values) <= bound) == (exceeding <= floor(len(gaps) / 100))


@given(st.lists(st.floats(0, 10), min_size=1, max_size=250))
def test_p99_is_numpys_nearest_rank(gaps):
    values = column(*gaps)
    assert d.itl_p99_s(values) == np.percentile(values, 99, method="inverted_cdf")


def test_p99_of_no_gap_is_undefined():
    assert np.isnan(d.itl_p99_s(np.empty((3, 0)))).all()


def test_early_tokens_bank_slack_for_later_ones():
    # Due at 2.0, 2.1, 2.2: the gap of 1.1 s is far above the pace, yet nothing is late.
    late = d.late_by_pace(column(1.0, 1.05, 2.15)[None, :], column(2.0), column(0.1))
    assert not late.any()


def test_a_token_is_late_strictly_after_it_is_due():
    times = column(2.0, 2.1 + 1e-12, 2.2 + 1e-6)[None, :]
    assert d.late_by_pace(times, column(2.0), column(0.1)).tolist() == [[False, False, True]]


def test_strict_pace_judges_every_gap():
    gaps = column(0.1, 0.1 + 1e-12, 0.11, 0.05)[None, :]
    assert d.late_by_gap(gaps, column(0.1)).tolist() == [[False, False, True, False]]


def test_a_mean_above_the_target_makes_all_gaps_late():
    gaps = np.array([[0.1, 0.3, 0.05], [0.1, 0.15, 0.06]])
    assert d.late_by_mean(gaps, column(0.1, 0.104)).sum(axis=1).tolist() == [3, 0]
    assert d.late_by_mean(gaps[:, :0], column(0.1, 0.1)).shape == (2, 0)


def test_pace_starts_at_the_first_token_without_a_ttft_target():
    slo = Slo(itl_s=0.1)
    assert d.first_due_s(slo, column(5.0), column(9.0)) == [9.0]
    assert d.first_due_s(Slo(ttft_s=2.0), column(5.0), column(9.0)) == [7.0]


def test_no_target_is_always_kept_but_nan_never_keeps_one():
    values = column(1.0, np.nan)
    assert d.within(values, None).tolist() == [True, True]
    assert d.within(values, 1.0).tolist() == [True, False]


@pytest.mark.parametrize(("slo", "tokens", "late", "kept"), [
    (Slo(itl_s=0.1), 100, 1, True),
    (Slo(itl_s=0.1), 100, 2, False),
    (Slo(itl_s=0.1), 99, 1, False),
    (Slo(itl_s=0.1, itl="strict"), 100, 1, False),  # 99 gaps allow none
    (Slo(itl_s=0.1, itl="strict"), 101, 1, True),
    (Slo(itl_s=0.1, percentile=95), 100, 5, True),
    (Slo(itl_s=0.1, itl="mean", percentile=1), 101, 1, False),  # forgives requests, not gaps
    (Slo(ttft_s=1.0), 10, 10, True),
])
def test_how_many_tokens_may_be_late(slo, tokens, late, kept):
    assert d.keeps_pace(slo, np.array([tokens]), np.array([late])).tolist() == [kept]


def test_a_request_that_did_not_finish_misses_even_without_targets():
    met = d.met_slo(Slo(), np.array([True, False]), column(1, 1), column(1, 1), np.array([1, 1]),
                    np.array([0, 0]))
    assert met.tolist() == [True, False]


@pytest.mark.parametrize(("slo", "met"), [
    (Slo(ttft_s=1.0, itl_s=0.5, e2e_s=3.0), True),
    (Slo(ttft_s=0.9), False),
    (Slo(e2e_s=1.9), False),
    (Slo(ttft_s=1.0, itl_s=0.4), False),
    (Slo(itl_s=0.5, itl="strict"), True),
    (Slo(itl_s=0.4, itl="strict"), False),
    (Slo(ttft_s=1.0, itl_s=0.5, itl="mean"), True),
    (Slo(ttft_s=2.0, itl_s=0.4, itl="mean", percentile=50), False),  # its TTFT lends nothing
])
def test_one_request_is_judged_by_all_its_targets(slo, met):
    latencies = d.request_latencies(slo, 10.0, 10.5, column(11.0, 11.5, 12.0))
    assert latencies.met_slo is met
    assert latencies[:4] == (1.0, 0.5, 0.5, 2.0)
    assert latencies.itl_max_s == latencies.itl_mean_s == 0.5


def test_a_request_without_tokens_has_no_latency():
    latencies = d.request_latencies(Slo(ttft_s=1.0), 10.0, float("nan"), column(), finished=False)
    assert np.isnan(latencies[:7]).all()
    assert latencies.num_late_tokens == 0
    assert not latencies.met_slo
