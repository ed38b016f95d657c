"""The jumping driver gives every token at the very picosecond of the plain one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runs import jump, step_by_step
from strategies import POLICIES, Case, cases, knee_step_times, linear_step_times, niyama_step_times


def assert_same(case: Case) -> int:
    trace, jumps = step_by_step(case), jump(case)
    assert jumps.recorder.token_ps == trace.token_ps
    assert jumps.recorder.first_scheduled_ps == trace.first_scheduled_ps
    assert jumps.refused == trace.refused
    assert jumps.shed == trace.shed
    jumps.scheduler.check_integrity()
    return jumps.recorder.largest_jump


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=150)
@given(data=st.data())
def test_affine_step_time(policy: str, data: st.DataObject) -> None:
    assert_same(data.draw(cases((policy,), linear_step_times())))


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=60)
@given(data=st.data())
def test_knee_step_time(policy: str, data: st.DataObject) -> None:
    assert_same(data.draw(cases((policy,), knee_step_times())))


@settings(max_examples=250)
@given(cases(step_times=niyama_step_times()))
def test_without_a_closed_form_nothing_is_jumped(case: Case) -> None:
    assert assert_same(case) <= 1
