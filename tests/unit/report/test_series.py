import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.metrics.bins import bin_edges
from penstock.metrics.series import ReplicaSeries, RunSeries
from penstock.report.html.series import MAX_BINS, load_curves, longest_wait_window


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e6), st.integers(1, 400))
def test_bins_cover_the_span_and_are_few(start_s, span_s, max_bins):
    edges = bin_edges(start_s, start_s + span_s, max_bins)
    assert 2 <= len(edges) <= max_bins + 1
    assert edges[0] == start_s
    assert edges[-1] >= start_s + span_s - 1e-6 * max(span_s, 1.0)


def test_every_arrival_is_counted_once(run):
    curves = load_curves(run.table, run.series)
    width = curves.time_s[1] - curves.time_s[0]
    assert len(curves.time_s) <= MAX_BINS
    arrivals = sum(values.sum() for values in curves.arrivals_per_s.values()) * width
    assert arrivals == pytest.approx(len(run.table))


def test_waiting_and_running_follow_the_moments(run):
    table = run.table.take(slice(0, 1))  # arrives, waits, runs, ends
    curves = load_curves(table, RunSeries())
    name = table.service_classes[int(table.class_index[0])]
    begun, ended = float(table.first_scheduled_s[0]), float(table.last_token_s[0])
    middle = curves.time_s
    np.testing.assert_array_equal(curves.waiting[name], middle < begun)
    np.testing.assert_array_equal(curves.running[name], (middle >= begun) & (middle < ended))


def test_load_is_never_negative(run):
    curves = load_curves(run.table, run.series)
    for by_class in (curves.waiting, curves.running):
        assert all((values >= 0).all() for values in by_class.values())
    assert ((curves.kv_use >= 0) & (curves.kv_use <= 1)).all()
    assert curves.kv_use.max() > 0


def test_a_replica_without_requests_uses_no_memory(run):
    idle = ReplicaSeries(9, *(np.array([50.0]), np.array([1.0])), *[np.array([5])] * 4, 100)
    assert not load_curves(run.table, RunSeries((idle,))).kv_use.any()


def test_an_empty_run_has_curves_of_nothing(empty_run):
    curves = load_curves(empty_run.table, empty_run.series)
    assert not curves.kv_use.any()
    assert not any(values.any() for values in curves.arrivals_per_s.values())


@pytest.mark.parametrize(("peak", "expected"), [
    (0, slice(0, 100)), (500, slice(450, 550)), (999, slice(900, 1000))])
def test_the_window_lies_around_the_longest_queue(peak, expected):
    waiting = np.zeros(1000, np.int64)
    waiting[peak] = 7
    zero = np.zeros(1000, np.int64)
    replica = ReplicaSeries(0, np.arange(1000.0), np.ones(1000), zero, zero, waiting, zero, 1)
    assert longest_wait_window(replica, 100) == expected
