import subprocess
import sys
from math import inf, nan

import pytest

from penstock.metrics.run_summary import RunSummary
from penstock.report.terminal.blocks import drawn
from penstock.report.terminal.plan import plan_blocks, short_plan_blocks
from penstock.report.terminal.run import run_blocks
from support.plan_documents import DOCUMENT, candidate, plan_document, renamed, with_numbers


def printed(document, width=160, blocks=plan_blocks):
    from rich.console import Console

    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(*drawn(blocks(document)))
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
    assert "accelerators 5   headroom +18 %   gap of the search 0.24 %" in text
    assert "3 demands, 4 candidates; 2 proposals simulated, 1 held." in text


def test_who_runs_where_adds_up():
    text = printed(plan_document())
    assert row(text, "small").split()[1:] == ["✓", "in", "full", "$2.00", "$0.100", "600", "W",
                                              "+18", "%", "62", "%", "8", "/s"]
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
    assert printed(document, blocks=short_plan_blocks)


def test_brackets_in_names_are_no_markup():
    assert "[red]odd" in printed(renamed(plan_document(), "[red]odd"))


def test_an_empty_document_has_a_headline():
    assert "No demand can be served" in printed({})


def test_the_short_form_tells_the_last_trials():
    trials = [{"round": i, "demand": "small", "replicas": {"a": i}, "share": 1.0, "meets": i == 19,
               "attainment": {"chat": i / 20}} for i in range(20)]
    text = printed(plan_document(trials=trials), blocks=short_plan_blocks)
    assert "8 earlier trials are not shown." in text
    assert "19 x a" in text
    assert "7 x a" not in text.replace("17 x a", "")
    assert "Cheapest candidates" not in text
    assert "share" not in text.partition("Proposals simulated")[2]


def test_the_short_form_says_why_a_demand_is_not_served():
    text = printed(plan_document(), blocks=short_plan_blocks)
    assert "2 more h100 would serve it in full" in text
    assert "model does not fit" in text
    served = printed(plan_document(unserved=[]), blocks=short_plan_blocks)
    assert "Not considered" not in served


def test_no_table_calls_accelerators_cards():
    assert "card" not in printed(plan_document()).lower()


def test_a_share_of_the_traffic_is_told_where_not_all_of_it_entered():
    assert "34.2 %" in row(printed(plan_document(), blocks=short_plan_blocks), "1       big")


def test_arrivals_beyond_the_throughput_bound_are_not_called_used(run):
    overall = run.summary["overall"] | {"throughput_bound_per_s": 8.0, "bound_share": 1.47}
    text = " ".join(printed(RunSummary.read(run.summary | {"overall": overall}),
                            blocks=run_blocks).split())
    assert "arrivals against the throughput bound 147 %" in text
    assert "bound used" not in text


def test_a_planned_run_shows_its_plan_in_place_of_the_sizing(run):
    text = printed(RunSummary.read(run.summary | {"plan": plan_document()}), blocks=run_blocks)
    assert "Planned as 2 replicas of llama-3-8b" in text
    assert "Who runs where" in text
    assert "Proposals simulated" in text
    assert "Sizing search" not in text


def test_rich_is_not_imported_until_a_table_is_made():
    code = "import sys; import penstock.report.terminal.plan; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_front_tells_plans_by_what_they_have_else():
    text = printed(plan_document())
    assert row(text, "this plan").split()[2:] == ["$4.25", "1.9", "s", "1.3", "kW"]
    assert row(text, "small: 1 x h100-bf16").split()[4:] == ["$8.00", "500", "ms", "1.4", "kW"]
    assert "big: 1 x h100" not in text  # as in this plan
    assert "not on the front" not in text


def behind(**changes):
    """The document of a plan that another one beats by the model."""
    document = plan_document()
    document["pareto"] = [point | {"chosen": False, "cost_per_hour": 4.0}
                          for point in document["pareto"][1:]]
    document["plan_point"] |= {"on_front": False}
    return document | changes


def test_a_plan_behind_the_front_stands_below_it():
    text = printed(behind())
    assert text.index("small: 1 x h100-bf16") < text.index("this plan ")
    assert "This plan is not on the front: by the model, another costs no more" in " ".join(
        text.split())


def test_what_is_worth_nothing_has_no_table():
    worthless = [{"resource": "l4", "one_more_saves_per_hour": 0.0, "dual_per_hour": 0.0}]
    assert "What more of it" not in printed(plan_document(shadow_prices=worthless))
    assert "Some may be idle" in " ".join(printed(plan_document()).split())


def test_a_paced_itl_is_said_to_have_no_target_of_its_own():
    assert "A paced ITL has no target here" in printed(plan_document())


def test_what_simulation_did_not_correct_is_marked():
    text = printed(plan_document())
    assert "~3 /s" in row(text, "9 x l4-tp4-bf16")
    assert " 2.5 /s" in row(text, "4 x l4-tp2-fp8")
    assert "~: by the model alone" in text
    alike = [entry | {"corrected": True} for entry in DOCUMENT["candidates"]]
    assert "~" not in printed(plan_document(candidates=alike))


def test_both_itls_are_said_to_be_the_same_quantity():
    text = " ".join(printed(plan_document()).split())
    assert "gap that 99 % of a request's gaps do not exceed, predicted and simulated alike" in text
