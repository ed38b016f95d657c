import json
import re

import pytest

from penstock.metrics.run_summary import RunSummary
from penstock.report.html.levels_page import write_levels_page
from penstock.report.html.overlay_page import write_overlay_page
from penstock.report.model.levels import POLICY, RATE, Levels, points, points_table, slos_of
from support.html_pages import browsed, headings_descend_by_one, outline, overflow_px


def levels_of(run, labels=("",), variable=RATE, **more):
    summary = RunSummary.read(run.summary)
    at = ["a", "b"] if variable == POLICY else [4.0, 2.0]
    return Levels("Load", variable, [
        point for level in at for label in labels for point in points(level, label, [summary])],
        slos_of(summary), **more)


def figures_of(page):
    return json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S).group(1))


def test_a_curve_is_in_the_order_of_its_levels(run):
    assert [point.level for point in levels_of(run).of("batch", "")] == [2.0, 4.0]


def test_points_are_means_over_runs_that_have_a_value(run, empty_run):
    summaries = [RunSummary.read(one.summary) for one in (run, run, empty_run)]
    found = points(1.0, "", summaries)[0]
    assert found.attainment == pytest.approx(summaries[0].classes["interactive"].attainment)
    assert found.ttft_p99_s == summaries[0].classes["interactive"].latency.ttft_s.p99
    assert points(1.0, "", summaries[2:])[0].ttft_p99_s is None


@pytest.mark.parametrize(("labels", "variable", "columns"), [
    (("",), RATE, ["requests/s"]), (("a", "b"), RATE, ["requests/s", "policy"]),
    (("",), POLICY, ["policy"])])
def test_the_table_names_curves_where_there_are_several(run, labels, variable, columns):
    found = points_table(levels_of(run, labels, variable))
    assert [column.title for column in found.columns][:len(columns) + 1] == [*columns, "attainment"]
    assert len(found.rows) == 3 * 2 * len(labels)


@pytest.mark.parametrize(("labels", "variable"), [
    (("",), RATE), (("penstock", "fcfs"), RATE), (("",), POLICY)])
def test_every_plot_has_titles_on_both_axes_and_data(run, tmp_path, labels, variable):
    marks = {"capacity": 3.0} if variable == RATE else {}
    write_levels_page(tmp_path / "page.html", levels_of(run, labels, variable, marks=marks), {})
    page = (tmp_path / "page.html").read_text()
    parsed = outline(page)
    figures = figures_of(page)
    assert parsed.open == []
    assert headings_descend_by_one(parsed.headings)
    assert set(parsed.figures) == set(figures)
    assert len(figures) == (4 if labels == ("",) else 12)
    for figure in figures.values():
        assert figure["layout"]["xaxis"]["title"]["text"]
        assert figure["layout"]["yaxis"]["title"]["text"]
        assert figure["data"]


def test_runs_without_requests_have_a_page_without_plots(empty_run, tmp_path):
    write_levels_page(tmp_path / "page.html", levels_of(empty_run), {})
    assert outline((tmp_path / "page.html").read_text()).figures == []


def overlay(run, path):
    figures = {name: {"values": [0.5, 0.6]} for name in (
        "attainment", "goodput_requests_per_s", "ttft_s.p50", "ttft_s.p99", "tpot_s.p50",
        "tpot_s.p99", "e2e_s.p50", "e2e_s.p99")}
    evil = "<b>two</b>"
    document = {"runs": ["one", evil], "same_requests": [True, True], "classes": {
        name: {"num_requests": [1, 1], **figures} for name in ("interactive", "batch")}}
    summary = RunSummary.read(run.summary)
    write_overlay_page(path, {"one": summary, evil: summary}, {"one": run.table, evil: run.table},
                       document)


def test_runs_are_overlaid_in_every_plot(run, tmp_path):
    overlay(run, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    figures = figures_of(page)
    assert set(outline(page).figures) == set(figures)
    assert len(figures) == 2 * 3 + 1
    for name, figure in figures.items():
        assert len(figure["data"]) == 2 * (3 if name == "load" else 1)
    assert "<b>two" not in page


@pytest.mark.browser
def test_a_browser_draws_both_pages_on_a_phone_too(run, tmp_path):
    overlay(run, tmp_path / "overlay.html")
    write_levels_page(tmp_path / "levels.html", levels_of(run, ("penstock", "fcfs")), {})
    for name, plots in (("overlay", 7), ("levels", 12)):
        done = browsed(tmp_path / f"{name}.html", tmp_path / "profile")
        assert done.stdout.count("js-plotly-plot") >= plots
        assert "CONSOLE" not in done.stderr
        assert overflow_px(tmp_path / f"{name}.html", tmp_path / "profile", 390) <= 0
