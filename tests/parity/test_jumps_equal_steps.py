"""The jumping driver gives every token at the very picosecond of the plain one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.schedule.options import scheduler_options
from support.scaled_examples import examples
from support.scheduler_runs import Jumps, jump, step_by_step
from support.strategies import (
    EVIDENCE,
    POLICIES,
    Case,
    cases,
    knee_step_times,
    linear_step_times,
    niyama_step_times,
)


def assert_same(case: Case) -> int:
    trace, jumps = step_by_step(case), jump(case)
    assert jumps.recorder.token_ps == trace.token_ps
    assert jumps.recorder.first_scheduled_ps == trace.first_scheduled_ps
    assert jumps.refused == trace.refused
    assert jumps.shed == trace.shed
    assert_all_ended(case, jumps)
    return jumps.recorder.largest_jump


def assert_all_ended(case: Case, jumps: Jumps) -> None:
    jumps.scheduler.check_integrity()
    assert not jumps.scheduler.has_work()
    assert jumps.scheduler.kv_used_tokens == 0
    ended = set(jumps.ended.request_id.tolist())
    everyone = {request.request_id for request in case.requests}
    assert ended | jumps.shed.keys() | jumps.refused.keys() == everyone
    for request_id, tokens in zip(jumps.ended.request_id, jumps.ended.output_tokens, strict=True):
        if request_id not in jumps.shed:
            assert tokens == case.output_tokens[request_id]


@pytest.mark.parametrize("policy", POLICIES)
@examples(150)
@given(data=st.data())
def test_affine_step_time(policy: str, data: st.DataObject) -> None:
    assert_same(data.draw(cases((policy,), linear_step_times())))


@pytest.mark.parametrize("policy", POLICIES)
@examples(60)
@given(data=st.data())
def test_knee_step_time(policy: str, data: st.DataObject) -> None:
    assert_same(data.draw(cases((policy,), knee_step_times())))


@examples(250)
@given(cases(step_times=niyama_step_times()))
def test_without_a_closed_form_nothing_is_jumped(case: Case) -> None:
    assert assert_same(case) <= 1


def test_the_growth_of_answers_may_evict_a_hash_and_so_let_a_prompt_start() -> None:
    """The second prompt lost its blocks. One hash of it covers three blocks, so its eviction for a
    block of the first answer leaves room for the second prompt's chunk."""
    requests = tuple(
        Request(number, 0.0, prompt, answer, ServiceClass("any"), hash_block_tokens=12,
                prefix_hashes=tuple(range(100 * number, 100 * number + prompt // 12)))
        for number, (prompt, answer) in enumerate(((150, 5), (64, 1))))
    case = Case(scheduler_options("sarathi", chunk_tokens=1, kv_reserve="chunk",
                                  prefill_first=True),
                LinearStepTime(0.01, 0.0, 0.0, 0.0, 0.0, EVIDENCE), 4, 50, True, requests,
                {0: 5, 1: 1})
    assert any(plan.preempted for plan in step_by_step(case).plans)
    assert assert_same(case) > 1
