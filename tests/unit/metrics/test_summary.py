import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.slo import ServiceClass, Slo
from penstock.metrics.attainment import Attainment
from penstock.metrics.counts import span_of
from penstock.metrics.percentiles import percentiles
from penstock.metrics.summary import Usage, summarise
from penstock.metrics.table import FINISHED, REJECTED, SHED, RequestTable

CLASSES = (ServiceClass("interactive", Slo(ttft_s=1.5)),
           ServiceClass("batch", Slo(e2e_s=10.0, percentile=90), 3))


def make_table(num=10, status=None):
    """One request a second, classes in turn; the rejected and shed have no moments."""
    arrival = np.arange(num, dtype=np.float64)
    status = np.full(num, FINISHED, np.int8) if status is None else np.array(status, np.int8)
    served = status == FINISHED
    moment = np.where(served, arrival, np.nan)
    counts, codes = np.zeros(num, np.int64), np.zeros(num, np.int32)
    return RequestTable(
        np.arange(num), codes, np.arange(num, dtype=np.int32) % 2, codes, codes, arrival,
        counts + 90, np.where(served, 10, 0), moment + 0.5, moment + 1.0, moment + 2.0, moment + 1,
        moment + 1, moment + 1, counts, codes, codes, status, served, ("m",),
        ("interactive", "batch"), ("default",)).judged({c.name: c.slo for c in CLASSES})


USAGE = Usage(np.array([5.5, 2.75]), 36.0)


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_interval_contains_the_share(met, received):
    met = min(met, received)
    attainment = Attainment(met, received)
    low, high = attainment.interval
    assert 0.0 <= low <= attainment.share <= high <= 1.0
    assert high - low > 0


def test_wilson_interval_of_a_known_case():
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263.
    assert Attainment(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(st.integers(1, 400))
def test_interval_narrows_with_more_requests(received):
    widths = [high - low for low, high in
              (Attainment(n, 2 * n).interval for n in (received, 2 * received, 4 * received))]
    assert all(after < before for before, after in pairwise(widths))


def test_an_objective_is_met_exactly_at_its_percentile():
    assert Attainment(99, 100).meets(99) is True
    assert Attainment(98, 100).meets(99) is False
    assert Attainment(999, 1000).meets(99.9) is True
    assert Attainment(0, 0).meets(99) is None


def test_nothing_received_has_no_share():
    assert Attainment(0, 0).share is None
    assert Attainment(0, 0).interval is None


def test_window_runs_to_the_last_token():
    assert span_of(make_table(10)).whole_window_s == 11.0
    assert span_of(make_table(10, [REJECTED] * 10)).whole_window_s == 9.0
    assert span_of(make_table(0)).whole_window_s == 0.0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300))
def test_percentiles_are_numpys_nearest_ranks(values):
    column = np.array([*values, np.nan])
    for name, value in vars(percentiles(column)).items():
        assert value == np.percentile(values, int(name[1:]), method="inverted_cdf")


def test_percentiles_of_nothing_are_null():
    assert vars(percentiles(np.array([np.nan]))) == dict.fromkeys(("p50", "p90", "p95", "p99"))


def test_counts_attainment_and_goodput_by_class_and_overall():
    status = [FINISHED] * 8 + [REJECTED, SHED]
    summary = summarise(make_table(10, status), CLASSES, USAGE, window_s=10.0).document()
    interactive, batch = summary["classes"].values()
    assert (interactive["received"], interactive["rejected"], interactive["shed"]) == (5, 1, 0)
    assert (batch["received"], batch["rejected"], batch["shed"]) == (5, 0, 1)
    assert interactive["attainment"] == 0.8
    assert summary["overall"]["goodput_requests_per_s"] == 0.8
    assert summary["overall"]["goodput_tokens_per_s"] == 8.0
    assert summary["overall"]["unfinished"] == 0


def test_classes_are_held_against_their_own_percentile():
    status = [FINISHED] * 18 + [REJECTED, FINISHED]
    summary = summarise(make_table(20, status), CLASSES, USAGE).document()
    assert summary["classes"]["interactive"]["meets_slo"] is False  # 9 of 10 against 99 %
    assert summary["classes"]["batch"]["meets_slo"] is True
    assert summary["overall"]["meets_slo"] is False


def test_rates_of_arrivals_are_over_the_time_of_arrivals():
    """The last token comes 2 s after the last arrival, which is no time of arrivals."""
    summary = summarise(make_table(10), CLASSES, USAGE).document()
    assert (summary["arrival_window_s"], summary["window_s"]) == (9.0, 11.0)
    assert summary["overall"]["received_requests_per_s"] == pytest.approx(10 / 9)
    assert summary["classes"]["batch"]["received_requests_per_s"] == pytest.approx(5 / 9)
    assert summary["overall"]["output_tokens_per_s"] == pytest.approx(100 / 11)
    at_once = summarise(make_table(1), CLASSES, USAGE).document()
    assert at_once["overall"]["received_requests_per_s"] is None


def test_busy_time_and_cost():
    summary = summarise(make_table(10), CLASSES, USAGE).document()  # a window of 11 s
    overall = summary["overall"]
    assert overall["busy"] == overall["utilisation"] == pytest.approx(8.25 / 22)
    assert overall["cost"]["total"] == pytest.approx(36.0 * 11 / 3600)
    assert overall["cost"]["per_million_tokens"] == pytest.approx(0.11 * 1e6 / 1000)
    assert overall["cost"]["per_finished_request"] == pytest.approx(0.011)
    for name in ("busy", "utilisation"):
        assert [replica[name] for replica in summary["replicas"]] == [0.5, 0.25]


def test_class_shares_of_cost_and_busy_time_add_up():
    status = [FINISHED] * 7 + [SHED] * 3
    summary = summarise(make_table(10, status), CLASSES, USAGE).document()
    classes, overall = summary["classes"].values(), summary["overall"]
    for pick in (lambda e: e["cost"]["total"], lambda e: e["busy"]):
        assert sum(map(pick, classes)) == pytest.approx(pick(overall))


@pytest.mark.parametrize("table", [make_table(0), make_table(3, [REJECTED] * 3)])
def test_a_run_without_service_is_valid_json(table):
    summary = summarise(table, CLASSES, Usage(np.zeros(0), 0.0)).document()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["overall"]["latency"]["ttft_s"]["p99"] is None


def test_a_class_without_requests_is_reported_but_does_not_decide():
    classes = (*CLASSES, ServiceClass("idle"))
    summary = summarise(make_table(10), classes, USAGE).document()
    assert summary["classes"]["idle"]["meets_slo"] is None
    assert summary["classes"]["idle"]["attainment"] is None
    assert summary["overall"]["meets_slo"] is True


def test_equal_runs_give_equal_bytes():
    texts = {json.dumps(summarise(make_table(10), CLASSES, USAGE).document()) for _ in range(2)}
    assert len(texts) == 1
