import json
import re
from dataclasses import replace

import numpy as np
import pytest

from penstock.metrics.run_summary import RunSummary
from penstock.report.html.run_page import page_parts, write_page
from penstock.report.html.series import load_curves
from penstock.report.model.models import models_split
from support.html_pages import browsed, headings_descend_by_one, outline, overflow_px


def without_plotly(run, **changes):
    before, _, after = page_parts(RunSummary.read(run.summary | changes), run.table, run.series)
    return (before + after).decode()


def test_elements_are_balanced_and_headings_descend_by_one(run):
    parsed = outline(without_plotly(run))
    assert parsed.open == []
    assert headings_descend_by_one(parsed.headings)


def test_every_figure_on_the_page_has_its_data(run):
    page = without_plotly(run)
    data = re.search(r'id="figures">(.*?)</script>', page, re.S).group(1)
    assert set(outline(page).figures) == set(json.loads(data))


def test_the_page_names_no_address(run):
    page = without_plotly(run)
    assert not re.search(r"https?:|\bsrc=|@import|url\(", page)
    assert "default-src 'none'" in page


def test_the_page_says_what_the_run_was(run):
    text = " ".join(outline(without_plotly(run)).text)
    for phrase in ("Sized to 2 replicas of llama-3-8b on a100-80gb", "seed 7", "version 0.1.0",
                   "cannot start in time", "Resolved configuration", "95 % CI", "$8.20"):
        assert phrase in text


def test_names_of_others_are_escaped(run):
    evil = "</script><img src=x onerror=alert(1)>"
    classes = {evil: run.summary["classes"]["batch"]}
    replicas = [{"model": evil, "accelerator": evil, "count": 1}]
    page = without_plotly(
        run, name=evil, classes=classes, fleet={"replicas": replicas},
        refusals=[{"reason": evil, "service_class": evil, "num_requests": 1}],
        sizing={"tried": [{"value": 1, "attainment": {evil: 1.0}, "meets_slo": True}],
                "note": evil})
    assert "<img" not in page
    assert outline(page).open == []


def test_dollar_signs_and_placeholders_in_names_stay_text(run):
    assert "$plotly ${x} $" in without_plotly(run, name="$plotly ${x} $")


def test_an_empty_run_has_a_page_too(empty_run):
    page = without_plotly(empty_run)
    assert outline(page).open == []
    assert "no requests were received" in page


def test_optional_sections_are_left_out(run):
    bare = {key: run.summary[key] for key in ("window_s", "overall", "classes", "replicas")}
    before, _, after = page_parts(RunSummary.read(bare), run.table, run.series)
    text = (before + after).decode()
    for title in ("Sizing search", "Rejected and shed", "Resolved configuration"):
        assert title not in text


@pytest.mark.browser
@pytest.mark.parametrize("library", [".", "..", None])
def test_a_browser_draws_every_plot_without_a_console_message(run, tmp_path, library):
    folder = tmp_path / "runs"
    write_page(folder / "report.html", RunSummary.read(run.summary), run.table, run.series,
               library)
    done = browsed(folder / "report.html", tmp_path / "profile")
    assert done.stdout.count("js-plotly-plot") >= 7
    assert "CONSOLE" not in done.stderr


@pytest.mark.browser
def test_a_page_without_its_library_says_so(run, tmp_path):
    write_page(tmp_path / "report.html", RunSummary.read(run.summary), run.table, run.series)
    (tmp_path / "plotly.min.js").unlink()
    done = browsed(tmp_path / "report.html", tmp_path / "profile")
    assert "This plot needs plotly.min.js" in done.stdout
    assert "Service classes" in done.stdout


@pytest.mark.browser
def test_no_page_is_wider_than_a_phone(run, tmp_path):
    write_page(tmp_path / "report.html", RunSummary.read(run.summary), run.table, run.series)
    assert overflow_px(tmp_path / "report.html", tmp_path / "profile", 390) <= 0


def test_links_at_the_top_lead_to_every_section(run):
    page = without_plotly(run)
    ids = re.findall(r'<section id="([^"]+)">', page)
    assert ids[:3] == [
        f"section-{name}" for name in ("service-classes", "latency-distributions",
                                       "requests-that-missed")]
    assert len(set(ids)) == len(ids) == page.count("<section")
    nav = page[page.index("<nav"):page.index("</nav>")]
    assert re.findall(r'href="#([^"]+)"', nav) == ids


def test_models_of_a_fleet_are_split_by_the_replica_that_served(run):
    fleet = {"replicas": [{"model": "small", "count": 1}, {"model": "large", "count": 1}]}
    routed = replace(run.table, replica=(run.table.request_id % 2).astype(np.int32))
    found = models_split(RunSummary.read(run.summary | {"fleet": fleet}), routed)
    assert [row[0].text for row in found.rows] == ["large", "small"]
    assert [row[3].text for row in found.rows] == ["750", "750"]
    assert models_split(RunSummary.read(run.summary), run.table) is None


def test_a_page_of_a_sample_says_so_and_scales_its_numbers(run):
    summary = RunSummary.read(run.summary)
    whole = b"".join(page_parts(summary, run.table, run.series)[::2]).decode()
    assert "one of every" not in whole
    sample = replace(run.table.take(slice(0, None, 3)), stands_for=3)
    page = b"".join(page_parts(summary, sample, run.series)[::2]).decode()
    assert page.count("From one of every 3 requests") >= 2
    all_, third = (load_curves(table, run.series) for table in (run.table, sample))
    for name in summary.classes:
        assert third.arrivals_per_s[name].sum() == pytest.approx(
            all_.arrivals_per_s[name].sum(), rel=0.15)
