import subprocess
import sys
from math import inf, nan

import pytest

from penstock.report.plan_tables import plan_tables, short_plan_tables
from penstock.report.tables import run_tables
from plan_documents import DOCUMENT, candidate, plan_document, renamed, with_numbers


def printed(document, width=160, tables=plan_tables):
    from rich.console import Console

    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(*tables(document))
    return capture.get()


def row(text, start):
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_every_part_of_the_plan_is_told():
    text = printed(plan_document())
    for title in ("Who runs where", "Not served in full", "Service classes in simulation",
                  "Predicted against simulated", "Pareto front", "What more of it would be worth",
                  "Changes from what runs now", "Cheapest candidates", "Not considered"):
        assert title in text
    assert "2 more h100 would serve it in full" in text
    assert "cards 5   headroom +18 %   optimality gap 0.24 %" in text
    assert "3 demands, 4 candidates; 2 proposals simulated, 1 held." in text


def test_who_runs_where_adds_up():
    text = printed(plan_document())
    assert row(text, "small").split()[1:] == ["✓", "in", "full", "$2.00", "$0.100", "600", "W",
                                              "+18", "%", "8", "/s"]
    assert row(text, "2 x l4-tp2-fp8").split()[3:] == ["4", "of", "6", "$2.00", "600", "W"]
    assert row(text, "all").split()[1:] == ["5", "$4.25", "$0.150", "1.3", "kW"]


def test_the_models_errors_are_shown_against_the_simulation():
    text = printed(plan_document())
    assert "TTFT p99      2 s         1 s     ▲ 2.5 s   +150 %" in text
    assert "▲ ∞" in text
    assert "without end" in text


def test_candidates_of_the_plan_are_shown_even_when_they_are_dear():
    cheap = [candidate("small", f"a{i}", "l4", 0.1, 1, 1.0) for i in range(9)]
    text = printed(plan_document(candidates=cheap + DOCUMENT["candidates"]))
    assert "a4" in text
    assert "a5" not in text
    assert "4 x l4-tp2-fp8" in text
    assert "5 more" in text


def test_many_demands_have_fewer_candidates_each():
    demands = [{"name": f"d{i}", "replicas": {}} for i in range(30)]
    many = [candidate(f"d{i}", f"v{j}", "l4", 1.0 + j, 1, 1.0) for i in range(30)
            for j in range(5)]
    text = printed({"demands": demands, "candidates": many})
    assert text.count("1 x v0") == 30
    assert "1 x v1" not in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_what_matters_stands_at_every_width_and_nothing_is_cut(width):
    text = printed(plan_document(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for phrase in ("✓ in full", "✗ 34.2 %", "✗ not served", "+18 %", "off by", "bound by",
                   "chat TTFT", "start 2 x l4-tp2-fp8"):
        assert phrase in text


@pytest.mark.parametrize("key", ["replicas", "optimum", "cards", "demands", "changes",
                                 "candidates", "not_considered", "trials", "explanations",
                                 "shadow_prices", "pareto", "unserved", "cost_per_hour"])
def test_any_key_may_be_absent_or_empty(key):
    bare = {name: value for name, value in DOCUMENT.items() if name != key}
    assert printed(bare)
    assert printed({**bare, key: None})


@pytest.mark.parametrize("number", [None, inf, -inf, nan, 0.0, -1.5])
def test_numbers_that_do_not_exist_are_absent(number):
    document = with_numbers(plan_document(), number)
    text = printed(document)
    assert "inf" not in text.replace("objective", "")
    assert "nan" not in text
    assert printed(document, tables=short_plan_tables)


def test_brackets_in_names_are_no_markup():
    assert "[red]odd" in printed(renamed(plan_document(), "[red]odd"))


def test_an_empty_document_has_a_headline():
    assert "No demand can be served" in printed({})


def test_the_short_form_tells_the_last_trials():
    trials = [{"round": i, "demand": "small", "replicas": {"a": i}, "share": 1.0, "meets": i == 19,
               "attainment": {"chat": i / 20}} for i in range(20)]
    text = printed(plan_document(trials=trials), tables=short_plan_tables)
    assert "8 earlier trials are not shown." in text
    assert "19 x a" in text
    assert "7 x a" not in text.replace("17 x a", "")
    assert "Cheapest candidates" not in text
    assert "share" not in text


def test_a_share_of_the_traffic_is_told_where_not_all_of_it_entered():
    assert "34.2 %" in row(printed(plan_document(), tables=short_plan_tables), "1       big")


def test_a_planned_run_shows_its_plan_in_place_of_the_sizing(run):
    text = printed(run.summary | {"plan": plan_document()}, tables=run_tables)
    assert "Planned as 2 replicas of llama-3-8b" in text
    assert "Who runs where" in text
    assert "Proposals simulated" in text
    assert "Sizing search" not in text


def test_rich_is_not_imported_until_a_table_is_made():
    code = "import sys; import penstock.report.plan_tables; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
