"""What reports show of a run on a live endpoint."""

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from penstock.core.slo import Slo
from penstock.engines.client.answer import Answer, TokenEvent
from penstock.experiment.load.bench import finished_run
from penstock.experiment.load.outcomes import Outcomes
from penstock.experiment.load.plan import LoadOptions, option_plan
from penstock.metrics.run_summary import Spread
from penstock.metrics.series import RunSeries
from penstock.report.html.run_page import write_page
from penstock.report.html.series import load_curves
from penstock.report.model.load import generator_notes, outcomes_table
from penstock.report.terminal.blocks import drawn
from penstock.report.terminal.run import run_blocks

LOAD = {"url": "http://here", "loop": "open", "notes": ["answers come in pieces"]}


@pytest.fixture(scope="module")
def run():
    plan = option_plan(LoadOptions(5.0, 40, prompt="10", output="4", slo=Slo(ttft_s=1.0)))
    outcomes = Outcomes(plan.workload, {one.name: one for one in plan.classes}, 0.0)
    for number, due_s in enumerate(plan.workload.arrival_s.tolist()):
        answer = Answer(due_s + 0.001, events=[TokenEvent(due_s + 0.5 + k, "x") for k in range(4)])
        if number % 10 == 0:
            answer = Answer(due_s, outcome="refused", reason="<busy>")
        elif number % 10 == 1:
            answer.end("timed_out", "slow")
        outcomes.take(number, due_s, answer)
    return finished_run(plan, outcomes, LOAD)


def text_of(summary):
    console = Console(width=130, file=StringIO())
    console.print(*drawn(run_blocks(summary)))
    return " ".join(console.file.getvalue().split())


def test_tables_say_how_requests_ended_and_how_the_load_kept(run) -> None:
    text = text_of(run.summary)
    assert "Served by http://here: default misses its objective" in text
    assert "turned away for now (429, 503) 4 0" in text
    assert "timed out 0 4" in text
    assert "Requests left 1 ms (p50)" in text
    assert "Answers come in pieces." in text
    assert "Cost" not in text, "nobody knows what the server costs"


def test_rows_and_notes(run) -> None:
    measured = run.measured
    assert [cell.text for cell in outcomes_table(measured.outcomes).rows[0]] == ["finished", "",
                                                                                 "32"]
    closed = replace(measured, load={**LOAD, "loop": "closed", "concurrency": 4})
    assert "4 requests under way at a time" in generator_notes(closed)[0]
    odd = replace(measured, generator=replace(
        measured.generator, not_streamed=3, without_usage=2,
        prompt_tokens_off=Spread(mean=0.1, largest=0.25)))
    notes = " ".join(generator_notes(odd))
    assert "3 answers came in one piece" in notes
    assert "2 answers came without a count" in notes
    assert "Prompts are +10.0 % off their planned length in the mean, 25.0 % at most" in notes


def test_the_page_escapes_what_servers_say_and_shows_queues(run, tmp_path) -> None:
    write_page(tmp_path / "page.html", run.summary, run.table, RunSeries())
    page = (tmp_path / "page.html").read_text()
    assert "Requests and the load itself" in page
    assert "<busy>" not in page
    assert "Resolved configuration" in page
    curves = load_curves(run.table, RunSeries())
    assert max(curves.waiting["default"]) > 0, "a request waits until its first token"
    assert max(curves.running["default"]) > 1
    assert np.isfinite(curves.running["default"]).all()
