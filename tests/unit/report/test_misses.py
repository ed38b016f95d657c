from dataclasses import replace

import numpy as np
from rich.console import Console

from penstock.metrics.run_summary import RunSummary
from penstock.report.model.misses import missed_tables
from penstock.report.terminal.blocks import drawn
from penstock.report.terminal.run import run_blocks


def printed(blocks):
    console = Console(width=160, record=True, file=None)
    with console.capture() as captured:
        console.print(*drawn(blocks))
    return captured.get()


def test_causes_add_up_to_the_misses_of_the_summary(run):
    summary = RunSummary.read(run.summary)
    causes, worst = missed_tables(summary, run.table)
    for row, entry in zip(causes.rows, summary.classes.values(), strict=True):
        total, *counts = [int(cell.text.replace(",", "")) for cell in row[1:]]
        assert total == sum(counts) == entry.received - entry.met
    assert len(worst.rows) == 9  # a third of 15 are unserved, the rest are all others
    assert "model" not in [column.title for column in worst.columns]


def test_the_worst_say_why(run):
    _, worst = missed_tables(RunSummary.read(run.summary), run.table)
    whys = [row[-1].text for row in worst.rows]
    assert whys[:5] == ["rejected at admission"] * 5
    assert all("late" in why or "target" in why for why in whys[5:])


def test_a_mean_itl_is_missed_by_its_tpot(run):
    name, slo = "interactive", {"ttft_s": None, "itl_s": 0.02, "itl": "mean", "percentile": 90.0}
    summary = {**run.summary, "classes": {**run.summary["classes"], name: {
        **run.summary["classes"][name], "slo": {**run.summary["classes"][name]["slo"], **slo}}}}
    late = run.table.tpot_s > 0.02
    table = replace(run.table, num_late_tokens=np.where(late, run.table.output_tokens - 1, 0),
                    met_slo=~late)
    _, worst = missed_tables(RunSummary.read(summary), table, most=1000)
    whys = [row[-1].text for row in worst.rows if row[1].text == name]
    assert any(why.startswith("TPOT ") and why.endswith("(target 20 ms)") for why in whys)


def test_a_run_that_met_everything_has_no_such_table(run):
    met = replace(run.table, met_slo=np.ones(len(run.table), np.bool_))
    assert missed_tables(RunSummary.read(run.summary), met) is None


def test_requests_of_the_warm_up_do_not_count(run):
    fleet = {**run.summary["fleet"], "run": {"warmup_s": 1e9}}
    assert missed_tables(RunSummary.read(run.summary | {"fleet": fleet}), run.table) is None


def test_the_terminal_lists_five_where_a_class_misses(run):
    summary = RunSummary.read(run.summary)
    assert summary.overall.meets_slo is False
    text = printed(run_blocks(summary, run.table))
    assert "Worst requests" in text
    assert text.count("rejected at admission") == 1
    assert "Worst requests" not in printed(run_blocks(summary))
    met = replace(summary, overall=replace(summary.overall, meets_slo=True))
    assert "Worst requests" not in printed(run_blocks(met, run.table))
