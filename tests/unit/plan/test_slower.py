"""Replicas with step times off their model."""

import pytest

from penstock.core.step import StepFeatures
from penstock.fleet.replica_factory import step_time
from penstock.plan.slower import probability_of, sigmas_of, slower, unmeasured
from support.small_plans import cards, fleet

STEP = StepFeatures(256, 2.0**15, 16, 2**14)


def group_of(**sections):
    found = fleet(replicas=[{"count": 1, **sections.pop("group", {})}], **sections)
    return found.replicas[0]


def test_sigmas_and_probabilities_are_those_of_a_normal_distribution() -> None:
    assert sigmas_of(0.5) == 0.0
    assert sigmas_of(0.95) == pytest.approx(1.645, abs=1e-3)
    assert probability_of(sigmas_of(0.8)) == pytest.approx(0.8)


def test_steps_are_as_slow_as_the_interval_says() -> None:
    group = group_of()
    usual = step_time(group).predict(STEP)
    slow, = slower([group], 1.96)
    fast, = slower([group], -1.96)
    assert step_time(slow).seconds(*STEP) == pytest.approx(usual.high_s)
    assert step_time(fast).seconds(*STEP) == pytest.approx(usual.low_s)
    middle, = slower([group], 1.0)
    assert step_time(middle).seconds(*STEP) == pytest.approx(
        usual.total_s * (usual.high_s / usual.total_s) ** (1 / 1.96))


def test_a_factor_of_the_file_stays() -> None:
    group = group_of(group={"step_time": {"kind": "roofline", "factor": 2.0}})
    plain = group_of()
    slow, = slower([group], 1.0)
    expected, = slower([plain], 1.0)
    assert step_time(slow).seconds(*STEP) == pytest.approx(
        2.0 * step_time(expected).seconds(*STEP))


def test_expected_step_times_leave_the_groups_alone() -> None:
    group = group_of()
    assert slower([group], 0.0) == (group,)


def test_an_accelerator_that_nobody_measured_says_so() -> None:
    stock = {"engine": {"name": "vllm"}}
    measured = group_of(**stock)
    assert unmeasured(measured) == ()
    unknown = group_of(accelerators=cards(l4=None), **stock)
    assert unmeasured(unknown) == ("accelerator",)
    ends = [step_time(group).predict(STEP) for group in (measured, unknown)]
    assert ends[1].high_s / ends[1].total_s > ends[0].high_s / ends[0].total_s
