"""Laws of speculative decoding: all tokens come, in as many turns as drafts allow; jumps equal
steps; no decision knows which drafts will be accepted."""

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.units import PS_PER_S, to_ps
from penstock.metrics.definitions import request_latencies
from support.drafted_runs import (
    DraftedCase,
    drafted_cases,
    drafted_jump,
    drafted_step_by_step,
    other_truth,
)
from support.strategies import acceptances_of_drafts
from support.worlds import fails


@given(drafted_cases())
def test_every_answer_comes_whole_in_as_many_turns_as_drafts_allow(of: DraftedCase) -> None:
    trace, scheduler = drafted_step_by_step(of)
    outputs, preempted = of.case.output_tokens, {
        request_id for plan in trace.plans for request_id in plan.preempted}
    for request in of.case.requests:
        number = request.request_id
        if number in trace.refused or number in trace.shed:
            continue
        assert len(trace.token_ps[number]) == outputs[number]
        assert trace.token_ps[number] == sorted(trace.token_ps[number])
        assert trace.token_ps[number][0] > to_ps(request.arrival_s)
        turns = trace.num_turns.get(number, 0)
        assert turns <= outputs[number] - 1
        if number not in preempted:  # computing a prompt again gives a token, too
            assert turns >= ceil((outputs[number] - 1) / (of.deepest + 1))
    assert not scheduler.has_work()
    assert not trace.num_wasted_tokens


@given(drafted_cases())
def test_jumps_equal_steps(of: DraftedCase) -> None:
    trace, _ = drafted_step_by_step(of)
    run = drafted_jump(of)
    assert run.refused == trace.refused
    assert run.shed == trace.shed
    for place, number in enumerate(run.ended.request_id.tolist()):
        times_ps = trace.token_ps.get(number, [])
        assert run.ended.output_tokens[place] == len(times_ps)
        if not times_ps:
            continue
        request = of.case.requests[number]
        told = request_latencies(request.service_class.slo, request.arrival_s, request.arrival_s,
                                 np.array(times_ps) / PS_PER_S)
        assert run.ended.num_late_tokens[place] == told.num_late_tokens
        assert to_ps(run.ended.first_token_s[place]) == times_ps[0]
        if number not in run.shed:
            assert to_ps(run.ended.last_token_s[place]) == times_ps[-1]
        if len(times_ps) > 1:
            mean_s = (times_ps[-1] - times_ps[0]) / PS_PER_S / (len(times_ps) - 1)
            assert np.isclose(run.ended.itl_mean_s[place], mean_s, rtol=1e-9, atol=1e-12)
            assert np.isclose(run.ended.itl_max_s[place], told.itl_max_s, rtol=1e-9, atol=1e-12)
            assert np.isclose(run.ended.itl_p99_s[place], told.itl_p99_s, rtol=1e-9, atol=1e-12)
    assert run.num_steps == sum(bool(plan.chunks or plan.groups) for plan in trace.plans)


@given(drafted_cases())
def test_runs_repeat(of: DraftedCase) -> None:
    assert drafted_jump(of).journal == drafted_jump(of).journal


@given(drafted_cases(), st.tuples(acceptances_of_drafts(), acceptances_of_drafts()),
       st.integers(0, 9))
def test_no_decision_knows_which_drafts_will_be_accepted(
        of: DraftedCase, accepted: Any, seed: int) -> None:
    """The engine shows a scheduler only which answers have ended. Until the first end that differs,
    all plans are the same, step by step."""
    assert_blind(of, other_truth(of, accepted, seed))


def test_a_scheduler_that_knows_the_acceptance_is_caught() -> None:
    @given(drafted_cases(), st.tuples(acceptances_of_drafts(), acceptances_of_drafts()))
    def law(of: DraftedCase, accepted: Any) -> None:
        assert_blind(replace(of, believed=of.accepted),
                     replace(other_truth(of, accepted, 1), believed=accepted))

    assert fails(law)


def assert_blind(mine: DraftedCase, theirs: DraftedCase) -> None:
    """Assert that all plans are the same until an answer ends in one world, not in the other."""
    (one, _), (other, _) = drafted_step_by_step(mine), drafted_step_by_step(theirs)
    ends = [{number: times[-1] for number, times in trace.token_ps.items()
             if len(times) == mine.case.output_tokens[number]} for trace in (one, other)]
    differ = [min(ends[0].get(number, 1 << 62), ends[1].get(number, 1 << 62))
              for number in mine.case.output_tokens if ends[0].get(number) != ends[1].get(number)]
    first_ps = min(differ, default=1 << 62)
    assert _until(one, first_ps) == _until(other, first_ps)


def _until(trace: Any, moment_ps: int) -> list[Any]:
    """Plans of steps that were planned before a moment: those after the last step to end before
    it, and that one."""
    found = []
    for plan, planned_ps in zip(trace.plans, trace.planned_ps, strict=True):
        if planned_ps >= moment_ps:
            break
        found.append(plan)
    return found


@given(drafted_cases())
def test_a_journal_replays(of: DraftedCase) -> None:
    from penstock.journal.replay import replay

    records = [orjson.loads(line) for line in drafted_jump(of).journal.splitlines()]
    report = replay(records[1:], of.scheduler())
    assert report.mismatch is None
