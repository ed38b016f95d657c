from dataclasses import replace

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.core.slo import Slo
from penstock.engines.client.answer import Answer, TokenEvent
from penstock.experiment.compare_runs import compare_runs
from penstock.experiment.load.outcomes import Outcomes
from penstock.experiment.load.plan import LoadOptions, option_plan

PLAN = option_plan(LoadOptions(10.0, 200, prompt="10-50", output="3", slo=Slo(ttft_s=1.0)))


def run(ttft_s, failing=0, seed=0):
    """A run in which first tokens take about so long and the first requests fail."""
    rng = np.random.default_rng(seed)
    outcomes = Outcomes(PLAN.workload, {one.name: one for one in PLAN.classes}, 0.0)
    for number, due_s in enumerate(PLAN.workload.arrival_s.tolist()):
        first_s = due_s + ttft_s * float(rng.lognormal(0, 0.2))
        answer = Answer(due_s, events=[TokenEvent(first_s + k * 0.1, "x") for k in range(3)])
        if number < failing:
            answer = Answer(due_s, outcome="refused", reason="busy")
        outcomes.take(number, due_s, answer)
    return outcomes.table()


def test_a_difference_that_is_there_lies_clear_of_nought() -> None:
    found = compare_runs({"a": run(0.2), "b": run(0.3, seed=1)})
    assert found["same_requests"] == [True, True]
    ttft = found["classes"]["default"]["ttft_s.p50"]
    difference = ttft["differences"][1]
    assert difference["mean"] == pytest.approx(ttft["values"][1] - ttft["values"][0])
    assert 0.0 < difference["low"] < 0.1 < difference["high"] + 0.02
    pace = found["classes"]["default"]["tpot_s.p50"]["differences"][1]
    assert pace["mean"] == pytest.approx(0.0, abs=1e-9)


def test_a_run_does_not_differ_from_itself() -> None:
    found = compare_runs({"a": run(0.2), "b": run(0.2)})
    for figure, entry in found["classes"]["default"].items():
        if "differences" in entry:
            assert entry["differences"][1]["mean"] == 0.0, figure
            assert entry["differences"][1]["low"] == entry["differences"][1]["high"] == 0.0


def test_failures_lower_attainment_and_what_has_no_value_has_no_difference() -> None:
    found = compare_runs({"a": run(0.2), "b": run(0.2, failing=50), "c": run(0.2, failing=200)})
    figures = found["classes"]["default"]
    assert figures["attainment"]["values"] == [1.0, 0.75, 0.0]
    assert figures["attainment"]["differences"][1]["high"] < 0
    assert figures["e2e_s.p99"]["values"][2] is None
    assert figures["e2e_s.p99"]["differences"][2] is None
    assert figures["num_requests"] == [200, 200, 200]


def test_equal_input_gives_equal_intervals_and_other_requests_are_noticed() -> None:
    tables = {"a": run(0.2), "b": run(0.3).take(slice(0, 100))}
    assert compare_runs(tables, 3) == compare_runs(tables, 3)
    assert compare_runs(tables)["same_requests"] == [True, False]


def test_runs_without_a_common_class() -> None:
    other = replace(run(0.2), service_classes=("chat",))
    with pytest.raises(InputError, match="a has default; b has chat"):
        compare_runs({"a": run(0.2), "b": other})
