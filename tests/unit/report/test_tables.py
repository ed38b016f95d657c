import subprocess
import sys

import pytest

from penstock.metrics.run_summary import RunSummary
from penstock.report.model.run import classes_table
from penstock.report.terminal.blocks import drawn
from penstock.report.terminal.run import run_blocks


def printed(summary, width=160):
    from rich.console import Console

    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(*drawn(run_blocks(RunSummary.read(summary))))
    return capture.get()


def test_the_terminal_says_what_the_page_says(run):
    text = printed(run.summary)
    for phrase in ("Sized to 2 replicas of llama-3-8b", "attainment", "Service classes", "Latency",
                   "Cost", "Sizing search", "2 chosen", "cannot start in time", "✗ misses"):
        assert phrase in text


def test_sessions_have_a_table_where_there_are_any(run):
    tasks = {"began": 40, "finished": 38, "met": 36, "attainment": 0.9, "attainment_low": 0.77,
             "attainment_high": 0.96, "requests": 400, "time_mean_s": 250.0,
             "time_s": {"p50": 200.0, "p90": 400.0, "p95": 500.0, "p99": 1000.0},
             "interactivity_tokens_per_s": 42.5}
    name, entry = next(iter(run.summary["classes"].items()))
    changed = {**entry, "tasks": tasks, "slo": {**entry["slo"], "task_s": 600.0},
               "meets_slo": False}
    text = printed(run.summary | {"classes": run.summary["classes"] | {name: changed},
                                  "overall": run.summary["overall"] | {"tasks": tasks}})
    for phrase in ("Sessions", "90.00 %", "42.5 tokens/s", "250 s", "sessions 4"):
        assert phrase in text
    assert "Sessions" not in printed(run.summary)


def test_values_above_a_binding_target_are_marked(run):
    text = printed(run.summary)
    assert "▲" in text  # the strict class has a 20 ms pace that no request keeps


@pytest.mark.parametrize(("key", "title"), [("sizing", "Sizing search"),
                                            ("refusals", "Rejected and shed")])
def test_optional_tables_are_left_out(run, key, title):
    shorter = {name: value for name, value in run.summary.items() if name != key}
    assert title in printed(run.summary)
    assert title not in printed(shorter)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_what_matters_stands_at_every_width_and_nothing_is_cut(run, width):
    text = printed(run.summary, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for word in ("verdict", "attainment", "target", "p99", "✗ misses", "missed by"):
        assert word in text


def test_a_paced_class_gets_its_late_tokens_and_a_footnote(run):
    text = printed(run.summary)
    assert text.count("late tokens   ") == 1
    assert "ITL paced: token n is due at" in text
    strict = {name: entry for name, entry in run.summary["classes"].items()
              if name != "interactive"}
    assert "ITL paced" not in printed(run.summary | {"classes": strict})


def test_a_summary_of_an_earlier_version_has_tables_too(run):
    classes = {name: {key: value for key, value in entry.items()
                      if key not in ("missed", "late_token_share")}
               for name, entry in run.summary["classes"].items()}
    assert "Service classes" in printed(run.summary | {"classes": classes})


def test_sizing_says_what_failed_and_why_no_fewer_were_tried(run):
    sizing = {"variable": "num_replicas", "chosen": 3, "tried": [
        {"value": 3, "attainment": {"interactive": 1.0}, "meets_slo": True, "missed": {}},
        {"value": 2, "attainment": {"interactive": 0.5}, "meets_slo": False,
         "missed": {"interactive": {"unserved": 0, "ttft_s": 700, "itl_s": 12}}}],
        "limits": [{"classes": None, "fewest": 2, "reason": "throughput bound",
                    "rate_per_s": 12.0, "replica_rate_per_s": 7.9}]}
    text = printed(run.summary | {"sizing": sizing})
    assert "interactive: TTFT 700, ITL 12" in text
    assert ("1 replica was not tried: below the throughput bound; 1 replica cannot carry "
            "12 requests/s, at most 7.9/s.") in text


def test_brackets_in_names_are_no_markup(run):
    classes = {"[red]odd": run.summary["classes"]["batch"]}
    assert "[red]odd" in printed(run.summary | {"classes": classes})


def test_one_row_per_class_and_one_overall(run):
    assert len(classes_table(RunSummary.read(run.summary)).rows) == len(run.summary["classes"]) + 1


def test_an_empty_run_has_tables_too(empty_run):
    assert "no requests were received" in printed(empty_run.summary)


def test_rich_is_not_imported_until_a_table_is_made():
    code = "import sys; import penstock.report.terminal.run; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
