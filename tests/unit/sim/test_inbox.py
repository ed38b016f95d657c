"""Intake of stock engines: when their schedulers see a request."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.intake import Intake
from penstock.core.units import to_ps
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.metrics.table import UNFINISHED
from penstock.sim.inbox import Inbox
from penstock.sim.simulation import SimulationResult, simulate
from support.scaled_examples import unit_examples
from support.small_fleet import FLEET
from unit.sim.test_cluster import (
    LeastLoaded,
    ReplicaSpec,
    SimReplica,
    cluster_of,
    replica,
    request,
)

INTAKES = st.builds(Intake, st.sampled_from([0.0, 0.002]), st.sampled_from([0.0, 1e-5]),
                    st.sampled_from([1, 4, 30]), st.booleans())


def first_tokens(intake: Intake, arrivals: list[float], tokens: int = 5) -> list[float]:
    """Return when each request has its first token, on a replica whose steps take 10 ms."""
    from penstock.sim.upcoming import InOrder

    one = replica(0, dict.fromkeys(range(len(arrivals)), tokens))
    served = SimReplica(0, one.scheduler, one._clock, one._oracle, one.recorder, None, intake)
    cluster_of([served], LeastLoaded(), [ReplicaSpec("m")]).run(
        InOrder([request(number, at) for number, at in enumerate(arrivals)]))
    ended = served.recorder.flush()
    return ended.first_token_s[np.argsort(ended.request_id)].tolist()


def test_a_request_waits_for_the_next_step() -> None:
    assert first_tokens(Intake(), [0.0, 0.013]) == pytest.approx([0.01, 0.03])


def test_an_engine_that_plans_ahead_takes_a_request_a_step_later() -> None:
    assert first_tokens(Intake(plans_ahead=True), [0.0, 0.013]) == pytest.approx([0.01, 0.04])


def test_an_idle_engine_takes_a_request_at_once() -> None:
    ahead = Intake(every_steps=30, plans_ahead=True)
    assert first_tokens(ahead, [0.0, 3.0]) == pytest.approx([0.01, 3.01])


def test_requests_are_read_after_so_many_steps_of_decodes() -> None:
    # The prompt's step ends at 10 ms; then every fourth step of decodes lets requests in.
    every = Intake(every_steps=4)
    assert first_tokens(every, [0.0, 0.013], 40) == pytest.approx([0.01, 0.06])


def test_the_front_end_takes_one_request_after_another() -> None:
    slow = Intake(request_s=0.003)
    found = first_tokens(slow, [0.0, 0.0, 0.0])
    assert found == pytest.approx([0.013, 0.023, 0.023])
    inbox = Inbox(Intake(0.003, 1e-4))
    inbox.add(request(0, 0.0), 0)
    inbox.add(request(1, 0.0), 0)
    assert inbox.prompt_tokens == 40
    assert [one.request_id for one in inbox.read(to_ps(0.005))] == [0]
    assert inbox.ready_ps == to_ps(0.010)
    assert (len(inbox), inbox.prompt_tokens) == (1, 20)


def simulated(intake: Intake, schedule: str, rate: float, seed: int) -> SimulationResult:
    fleet = parse_fleet(FLEET.replace("schedule: penstock", f"schedule: {schedule}")
                        .replace("rate_per_s: 5", f"rate_per_s: {rate}"))
    fleet = replace(fleet, replicas=tuple(replace(group, intake=intake)
                                          for group in fleet.replicas))
    return simulate(fleet, fleet_workload(fleet, seed), seed=seed, log_steps=True)


@unit_examples(15)
@given(INTAKES, st.sampled_from(["sarathi", "fcfs", "orca", "penstock"]),
       st.sampled_from([1.0, 20.0]), st.integers(0, 99))
def test_no_request_is_lost_or_seen_too_early(intake: Intake, schedule: str, rate: float,
                                              seed: int) -> None:
    table = simulated(intake, schedule, rate, seed).table
    assert (table.status != UNFINISHED).all()
    done = table.take(table.finished)
    least_s = intake.request_s + intake.token_s * done.prompt_tokens
    assert (done.first_scheduled_s - done.arrival_s >= least_s - 1e-9).all()


@unit_examples(5)
@given(INTAKES, st.sampled_from(["sarathi", "orca"]), st.integers(0, 99))
def test_jumps_over_equal_steps_change_nothing(intake: Intake, schedule: str, seed: int) -> None:
    from penstock.perf.step_time.clock import StepClock

    jumped = simulated(intake, schedule, 8.0, seed)
    with pytest.MonkeyPatch.context() as patch:
        never = property(lambda _clock: False, lambda _clock, _value: None)
        patch.setattr(StepClock, "affine", never, raising=False)
        stepped = simulated(intake, schedule, 8.0, seed)
    assert jumped.num_steps == stepped.num_steps
    assert jumped.table.first_token_s == pytest.approx(stepped.table.first_token_s, rel=1e-6)
    assert jumped.table.last_token_s == pytest.approx(stepped.table.last_token_s, rel=1e-6)
