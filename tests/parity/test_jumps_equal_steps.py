"""The jumping driver gives every token at the very picosecond of the plain one."""

import numpy as np
from hypothesis import given, settings
from runs import jump, step_by_step
from strategies import Case, cases, knee_step_times, linear_step_times


def assert_same(case: Case) -> int:
    trace, jumps = step_by_step(case), jump(case)
    assert jumps.recorder.token_ps == trace.token_ps
    assert jumps.recorder.first_scheduled_ps == trace.first_scheduled_ps
    assert jumps.refused == trace.refused
    assert jumps.shed == trace.shed
    jumps.scheduler.check_integrity()
    return jumps.recorder.largest_jump


@settings(max_examples=600)
@given(cases(step_times=linear_step_times()))
def test_affine_step_time(case: Case) -> None:
    assert_same(case)


@settings(max_examples=300)
@given(cases(step_times=knee_step_times()))
def test_knee_step_time(case: Case) -> None:
    assert_same(case)


@settings(max_examples=300)
@given(cases())
def test_any_step_time(case: Case) -> None:
    assert_same(case)
