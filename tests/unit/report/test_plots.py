import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.metrics.run_summary import RunSummary
from penstock.report.html.plots import (
    MAX_CDF_POINTS,
    all_figures,
    cdf_figure,
    cdf_points,
    log_seconds_axis,
)


@given(st.lists(st.floats(0.001, 1e3), max_size=900), st.integers(0, 50))
def test_cdf_points_are_few_true_and_keep_the_ends(values, missing):
    known = np.sort(np.array(values))
    received = len(values) + missing
    x, y = cdf_points(np.array([*values, *[np.nan] * missing]), received)
    assert len(x) <= MAX_CDF_POINTS
    assert (np.diff(y) > 0).all()
    for value, share in zip(x, y, strict=True):
        assert np.count_nonzero(known <= value) >= share * received - 1e-9
        assert np.count_nonzero(known < value) <= share * received
    if values:
        assert x[-1] == known[-1]
        assert y[-1] == len(values) / received


def slos(run):
    return {name: entry.slo for name, entry in RunSummary.read(run.summary).classes.items()}


def test_each_target_has_a_line_and_a_mark(run):
    figure = cdf_figure(run.table, slos(run), "ttft_s")
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [1.5, 2.0]
    marks = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    assert [(mark["x"], mark["y"]) for mark in marks] == [([1.5], [0.99]), ([2.0], [0.99])]


def test_a_pace_is_marked_only_where_p99_decides_it(run):
    figure = cdf_figure(run.table, slos(run), "itl_p99_s")
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [0.05, 0.02]
    marks = [trace["name"] for trace in figure["data"] if trace["mode"] == "markers"]
    assert marks == ["strict objective"]


def test_refused_requests_keep_a_curve_below_one(run):
    interactive = run.table.of_class("interactive")
    curve = cdf_figure(run.table, slos(run), "ttft_s")["data"][0]
    served = int((~np.isnan(interactive.ttft_s)).sum())
    assert served < len(interactive)
    assert curve["y"][-1] == pytest.approx(served / len(interactive), rel=1e-5)


def test_figures_are_json_and_the_panels_share_one_clock(run):
    figures = all_figures(RunSummary.read(run.summary), run.table, run.series)
    assert set(figures) == {"ttft", "itl", "e2e", "load", "steps", "step_cost", "sizing"}
    assert orjson.loads(orjson.dumps(figures, option=orjson.OPT_SERIALIZE_NUMPY))
    assert len({tuple(trace["x"]) for trace in figures["load"]["data"]}) == 1


def test_sizing_is_in_order_whatever_was_tried_first(run):
    sizing = all_figures(RunSummary.read(run.summary), run.table, run.series)["sizing"]
    assert sizing["data"][0]["x"] == [1, 2]
    assert sizing["data"][0]["y"] == [0.5, 0.99]
    assert sizing["data"][1]["y"] == [None, None]  # a class that the search did not report


def test_figures_without_data_are_left_out(empty_run):
    figures = all_figures(RunSummary.read(empty_run.summary), empty_run.table, empty_run.series)
    assert set(figures) == {"ttft", "itl", "e2e", "load"}


@given(st.floats(0.001, 100.0), st.floats(1.0, 1e4))
def test_an_axis_of_seconds_covers_what_it_shows_with_two_ticks_at_least(low, spread):
    axis = log_seconds_axis([low, low * spread])
    start, end = (10**exponent for exponent in axis["range"])
    assert start < low <= low * spread < end
    assert sum(start <= tick <= end for tick in axis["tickvals"]) >= 2
