"""A law: what was sent is what finished and what failed, by kind; and every row is judged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.slo import Slo
from penstock.engines.client.answer import OUTCOMES, Answer, TokenEvent
from penstock.experiment.load.outcomes import Outcomes
from penstock.experiment.load.plan import LoadOptions, option_plan
from penstock.metrics.record import document
from penstock.metrics.table import FINISHED, REJECTED, SHED, UNFINISHED

PLAN = option_plan(LoadOptions(10.0, 40, prompt="10", output="5", slo=Slo(ttft_s=1.0, e2e_s=4.0)))
CLASSES = {one.name: one for one in PLAN.classes}


def answer(sent_s, moments, outcome="finished", **fields):
    found = Answer(sent_s, ended_s=moments[-1] if moments else sent_s, outcome=outcome,
                   events=[TokenEvent(moment, "x") for moment in moments], **fields)
    found.reason = "" if outcome == "finished" else "why"
    return found


def taken(*calls):
    outcomes = Outcomes(PLAN.workload, CLASSES, 100.0)
    for number, due_s, got in calls:
        outcomes.take(number, due_s, got)
    return outcomes


def test_latencies_count_from_when_a_request_was_due() -> None:
    outcomes = taken((1, 102.0, answer(102.9, [103.0, 103.5, 105.0])),
                     (0, 101.0, answer(101.0, [101.5, 101.6])))
    table = outcomes.table()
    assert table.request_id.tolist() == [0, 1]
    assert table.arrival_s.tolist() == [1.0, 2.0]
    assert table.ttft_s.tolist() == [0.5, 1.0]
    assert table.e2e_s.tolist() == pytest.approx([0.6, 3.0])
    assert table.itl_max_s.tolist() == pytest.approx([0.1, 1.5])
    assert table.met_slo.tolist() == [True, True]
    assert outcomes.generator().lateness_s.max == pytest.approx(0.9)


@given(st.lists(st.tuples(st.sampled_from(list(OUTCOMES)), st.integers(0, 4)), min_size=1,
                max_size=60))
def test_sent_is_finished_and_failed_by_kind(ends) -> None:
    outcomes = taken(*((number, 100.0 + number, answer(
        100.0 + number, [100.0 + number + k * 0.1 for k in range(1, num + 1)], outcome))
        for number, (outcome, num) in enumerate(ends)))
    counts, table = document(outcomes.counts()), outcomes.table()
    failed = [n for kind in counts["failed"].values() for n in kind.values()]
    assert counts["sent"] == len(ends) == len(table) == counts["finished"] + sum(failed)
    assert int(table.finished.sum()) == counts["finished"]
    assert sum(one.num_requests for one in outcomes.refusals()) == sum(failed)
    for kind, num in counts["failed"].items():
        said = [tokens for outcome, tokens in ends if outcome == kind]
        assert num == {"before_first_token": said.count(0),
                       "after_first_token": len(said) - said.count(0)}
    assert not table.met_slo[~table.finished].any()


@pytest.mark.parametrize(("outcome", "num_tokens", "status"), [
    ("finished", 3, FINISHED), ("refused", 0, REJECTED), ("out_of_budget", 0, REJECTED),
    ("invalid", 0, REJECTED), ("unreachable", 0, REJECTED), ("out_of_budget", 2, SHED),
    ("cut_off", 0, UNFINISHED), ("cut_off", 2, UNFINISHED),
    ("timed_out", 0, SHED), ("timed_out", 2, SHED), ("broken", 0, SHED), ("failed", 0, SHED)])
def test_statuses(outcome, num_tokens, status) -> None:
    table = taken((0, 100.0, answer(100.0, [101.0 + k for k in range(num_tokens)], outcome))
                  ).table()
    assert table.status.tolist() == [status]
    assert table.output_tokens.tolist() == [num_tokens]
    assert np.isnan(table.e2e_s[0]) == (status != FINISHED)


def test_what_the_server_counted_stands_and_what_it_did_not_is_said() -> None:
    outcomes = taken((0, 100.0, answer(100.0, [101.0], prompt_tokens=12, output_tokens=6)),
                     (1, 100.0, answer(100.0, [101.0, 102.0], streamed=False)))
    table, said = outcomes.table(), document(outcomes.generator())
    assert table.prompt_tokens.tolist() == [12, 10]
    assert table.output_tokens.tolist() == [6, 2]
    assert (said["not_streamed"], said["without_usage"]) == (1, 1)
    assert said["prompt_tokens_off"] == {"mean": pytest.approx(0.1), "largest": pytest.approx(0.2)}


def test_nothing_sent_is_no_table() -> None:
    with pytest.raises(ValueError, match="no request"):
        taken().table()
