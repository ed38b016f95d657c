import json
import re
from html import unescape
from math import inf, nan

import pytest

from penstock.fleet.marked_yaml import read_yaml
from penstock.metrics.run_summary import RunSummary
from penstock.report.html.plan_page import plan_page_parts, write_plan_page
from penstock.report.html.run_page import page_parts
from support.html_pages import browsed, headings_descend_by_one, outline
from support.plan_documents import DOCUMENT, plan_document, renamed, with_numbers


def without_plotly(document):
    before, _, after = plan_page_parts(document)
    return (before + after).decode()


def figures(page):
    return json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S).group(1))


def told(page):
    return " ".join(outline(page).text)


def test_elements_are_balanced_and_headings_descend_by_one():
    parsed = outline(without_plotly(plan_document()))
    assert parsed.open == []
    assert headings_descend_by_one(parsed.headings)


def test_every_figure_on_the_page_has_its_data():
    page = without_plotly(plan_document())
    assert set(outline(page).figures) == set(figures(page)) == {"candidates0", "candidates1",
                                                                "pareto"}


def test_the_page_names_no_address():
    page = without_plotly(plan_document())
    assert not re.search(r"https?:|\bsrc=|@import|url\(", page)
    assert "default-src 'none'" in page


def test_the_page_says_what_the_plan_is():
    text = told(without_plotly(plan_document()))
    for phrase in ("3 replicas for $4.25 an hour", "seed 7", "small served in full",
                   "big served 34.2 %", "huge not served", "4 of 6", "+18 %", "+150 %",
                   "99.51 % in the worst seed", "2 more h100 would serve it in full",
                   "stop 3 x h100-bf16", "one more saves", "$0.830", "Not considered: 4",
                   "model does not fit: lacks 44 GiB", "Gap of the search"):
        assert phrase in text


def test_chosen_candidates_are_ringed_and_colours_are_by_accelerator():
    data = figures(without_plotly(plan_document()))["candidates0"]["data"]
    assert [trace["name"] for trace in data] == ["l4", "h100", "in the plan"]
    assert data[0]["marker"]["color"] != data[1]["marker"]["color"]
    assert (data[2]["x"], data[2]["y"]) == ([4.0], [1.5])


def test_candidates_whose_latency_has_no_end_are_not_drawn():
    data = figures(without_plotly(plan_document()))["candidates1"]["data"]
    assert [trace["x"] for trace in data] == [[6.75], [6.75]]


def test_the_front_is_a_line_by_cost_with_the_chosen_plan_ringed():
    line, ring = figures(without_plotly(plan_document()))["pareto"]["data"]
    assert (line["x"], line["y"]) == ([4.25, 8.0], [1.9, 0.5])
    assert ring["x"] == [4.25]


def test_only_the_costliest_demands_are_drawn():
    template = DOCUMENT["candidates"][0]
    demands = [{"name": f"d{i}", "cost_per_hour": i, "replicas": {}} for i in range(20)]
    many = [template | {"demand": f"d{i}"} for i in range(20)]
    page = without_plotly({"demands": demands, "candidates": many})
    assert outline(page).figures == [f"candidates{i}" for i in range(12, 20)]
    assert "costliest demands" in page


def test_the_replicas_section_is_yaml_to_copy():
    page = without_plotly(plan_document())
    text = re.search(r"<pre tabindex=0>(.*?)</pre>", page, re.S).group(1)
    loaded = read_yaml(unescape(text), "page").data
    assert loaded == {"replicas": DOCUMENT["replicas"]}


def test_names_of_others_are_escaped():
    evil = "</script><img src=x onerror=alert(1)>"
    page = without_plotly(renamed(plan_document(), evil))
    assert "<img" not in page
    assert outline(page).open == []
    hover = figures(page)["candidates0"]["data"][0]["text"][0]
    assert "<img" not in hover
    assert "&lt;img" in hover


def test_dollar_signs_and_placeholders_in_names_stay_text():
    assert "$plotly ${x} $" in without_plotly(renamed(plan_document(), "$plotly ${x} $"))


@pytest.mark.parametrize("key", sorted(DOCUMENT))
def test_any_key_may_be_absent_or_empty(key):
    bare = {name: value for name, value in DOCUMENT.items() if name != key}
    for document in (bare, {**bare, key: None}):
        page = without_plotly(document)
        assert outline(page).open == []
        assert set(outline(page).figures) == set(figures(page))


@pytest.mark.parametrize("number", [None, inf, -inf, nan, 0.0, -1.5])
def test_numbers_that_do_not_exist_are_absent(number):
    page = without_plotly(with_numbers(plan_document(), number))
    assert outline(page).open == []
    assert not re.search(r"\b(nan|inf)\b", told(page))


def test_an_empty_document_has_a_page_too():
    page = without_plotly({})
    assert outline(page).open == []
    assert "No demand can be served" in page
    assert figures(page) == {}


def test_a_planned_run_shows_its_plan_in_place_of_the_sizing(run):
    before, _, after = page_parts(RunSummary.read(run.summary | {"plan": plan_document()}),
                                  run.table, run.series)
    page = (before + after).decode()
    for title in ("Who runs where", "Proposals simulated"):
        assert title in page
    assert "Sizing search" not in page
    assert set(outline(page).figures) == set(figures(page))


@pytest.mark.browser
def test_a_browser_draws_every_plot_without_a_console_message(tmp_path):
    write_plan_page(tmp_path / "plan.html", plan_document())
    done = browsed(tmp_path / "plan.html", tmp_path / "profile")
    assert done.stdout.count("js-plotly-plot") >= 3
    assert "CONSOLE" not in done.stderr


def test_how_long_it_took_does_not_change_the_page():
    slower = plan_document(timing={"solver_s": 99.0})
    assert without_plotly(slower) == without_plotly(plan_document())


def test_a_plan_behind_the_front_is_ringed_apart_from_its_line():
    document = plan_document()
    document["pareto"] = [point | {"chosen": False, "cost_per_hour": 4.0}
                          for point in document["pareto"][1:]]
    document["plan_point"] |= {"on_front": False}
    page = without_plotly(document)
    line, own, ring = figures(page)["pareto"]["data"]
    assert (line["x"], own["x"], ring["x"]) == ([4.0], [4.25], [4.25])
    assert "not on the front" in page


WHAT_IF = {"settings": ["a<b=1"], "cost_per_hour": 4.0, "saves_per_hour": 0.25,
           "unserved": ["big"], "replicas": [
               {"demand": "small", "variant": "l4-fp8", "before": 2, "after": 1}]}


def test_a_what_if_has_a_section():
    """It was in the terminal alone."""
    page = without_plotly(plan_document(what_if=WHAT_IF))
    assert "What if a&lt;b=1" in page
    assert "It would cost $4.00 per hour, $0.250 less; not served in full: big." in told(page)
    assert outline(page).open == []
    assert "What if" not in told(without_plotly(plan_document()))


def test_what_one_more_would_serve_is_on_the_page():
    prices = [{"resource": "cost_per_hour", "used": 9, "available": 10,
               "serves_per_s": {"1": 1.5}, "one_more_saves_per_hour": 0.0}]
    page = told(without_plotly(plan_document(shadow_prices=prices)))
    assert "cost per hour" in page
    assert "serves 1.5 /s more" in page
