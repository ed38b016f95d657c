"""The log of all steps explains every latency."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import step_time
from penstock.fleet.sources import fleet_workload
from penstock.sim.simulation import simulate
from support.scaled_examples import unit_examples
from support.small_fleet import FLEET

SCHEDULES = st.sampled_from(["sarathi", "fcfs", "orca", "penstock"])


def logged(schedule: str, rate: float, seed: int):
    fleet = parse_fleet(FLEET.replace("schedule: penstock", f"schedule: {schedule}")
                        .replace("rate_per_s: 5", f"rate_per_s: {rate}")
                        .replace("prompt: {fixed: 400}", "prompt: {fixed: 1900}"))
    result = simulate(fleet, fleet_workload(fleet, seed), seed=seed, log_steps=True)
    return result, step_time(fleet.replicas[0])


@unit_examples(12)
@given(SCHEDULES, st.sampled_from([1.0, 6.0, 40.0]), st.integers(0, 99))
def test_durations_follow_from_the_features(schedule: str, rate: float, seed: int) -> None:
    result, model = logged(schedule, rate, seed)
    rows = result.steps[0]
    start_s, end_s, num_steps = rows[:, 0], rows[:, 1], rows[:, 2]
    seconds = np.array([model.seconds(*row) for row in rows[:, 3:]])
    assert end_s - start_s == pytest.approx(num_steps * seconds, rel=1e-4)
    assert (start_s[1:] >= end_s[:-1] - 1e-9).all()
    assert num_steps.sum() == result.num_steps
    assert (end_s - start_s).sum() == pytest.approx(result.busy_s[0], rel=1e-9)


@unit_examples(8)
@given(SCHEDULES, st.sampled_from([1.0, 6.0]), st.integers(0, 99))
def test_all_prompt_tokens_are_logged(schedule: str, rate: float, seed: int) -> None:
    result, _ = logged(schedule, rate, seed)
    rows, table = result.steps[0], result.table
    if not table.num_preemptions.any():
        assert (rows[:, 2] * rows[:, 3]).sum() == table.prompt_tokens.sum()
        assert (rows[:, 2] * rows[:, 5]).sum() == (table.output_tokens - 1).sum()


def test_nothing_is_logged_unless_asked_for() -> None:
    fleet = parse_fleet(FLEET)
    assert simulate(fleet, fleet_workload(fleet)).steps == ()
