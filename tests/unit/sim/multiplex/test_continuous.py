"""Continuous batching beneath multiplexing: the same as the replica simulation where one model has
a device to itself, and residents that take turns where several share it."""

from collections.abc import Sequence
from math import inf

import numpy as np
import pytest
from hypothesis import given

from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.simple import Sequential, first_come
from penstock.policy.multiplex.values import Batch, BatchTime, HostedModel, Queued
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.options import PRESETS
from penstock.sim.multiplex.continuous import EngineSpec, Residents
from penstock.sim.multiplex.driver import MultiplexSimulation
from penstock.sim.multiplex.machine import Took
from penstock.sim.multiplex.record import MultiplexRun
from support.adapter_cases import ROOMS, adapted, store_of
from support.multiplexing_cases import multiplexing
from support.scaled_examples import unit_examples
from support.scheduler_runs import driven
from support.strategies import EVIDENCE, Case, cases

ANY = ServiceClass("any")
# A step of 10 ms and 1 ms for every sequence: a belief of n requests of 10 tokens is a line.
STEP = LinearStepTime(0.01, 0.0, 0.0, 0.001, 0.0, EVIDENCE)


class FixedLoads:
    """Loads that take a fixed time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def load(self, device: int, model: int, now_s: float) -> Took:
        return Took(self._seconds)

    def prefetch(self, model: int, now_s: float) -> Took:
        return Took(0.0)

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        raise AssertionError("batches are not static")


def served(arrivals: Sequence[tuple[float, int]], *, num_models: int = 1, slots: int = 1,
           policy: Multiplexer | None = None, output_tokens: int = 10, load_s: float = 0.0,
           max_batch: int = 8, turn_steps: int = 1, slack_s: float = inf,
           until_s: float = inf) -> tuple[MultiplexRun, Residents]:
    """Requests of a token of prompt on one device."""
    models = [HostedModel(f"m{one}", 10, BatchTime(0.1, 0.01), max_batch=max_batch)
              for one in range(num_models)]
    requests = [Request(number, at_s, 1, output_tokens, ANY)
                for number, (at_s, _) in enumerate(arrivals)]
    specs = [EngineSpec(STEP, 1600, PRESETS["sarathi"]) for _ in models]
    residents = Residents(specs, requests, [output_tokens] * len(requests), turn_steps=turn_steps)
    device = Device(0, 10 * slots, models, continuous=True)
    queued = [Queued(number, model, at_s, at_s + slack_s)
              for number, (at_s, model) in enumerate(arrivals)]
    run = MultiplexSimulation(policy or Sequential(models, first_come), [device],
                              FixedLoads(load_s),
                              [residents]).run(queued, until_s)
    residents.check_integrity()
    return run, residents


@unit_examples(150)
@given(cases())
def test_one_model_with_a_device_to_itself_does_what_a_replica_does(case: Case) -> None:
    does_what_a_replica_does(case, None)


@unit_examples(150)
@given(adapted(cases()), ROOMS)
def test_so_does_one_with_adapters(case: Case, room: tuple[int, int]) -> None:
    does_what_a_replica_does(case, store_of(room))


def does_what_a_replica_does(case: Case, adapters: AdapterStore | None) -> None:
    alone, refused = driven(case, adapters=None if adapters is None else adapters.emptied())
    model = HostedModel("m", 1, BatchTime(1.0, 0.0), max_batch=1000)
    spec = EngineSpec(case.step_time, case.total_blocks * case.block_tokens, case.options,
                      case.block_tokens, case.prefix_caching, adapters=adapters)
    residents = Residents([spec], case.requests, case.output_tokens)
    queued = [Queued(request.request_id, 0, request.arrival_s) for request in case.requests]
    run = MultiplexSimulation(Sequential([model], first_come),
                              [Device(0, 1, [model], continuous=True)],
                              FixedLoads(0.0), [residents]).run(queued)
    residents.check_integrity()
    mine = residents.answers()[0]
    for column, same in zip(mine, alone.recorder.flush(), strict=True):
        np.testing.assert_array_equal(column, same)
    reasons = {place: run.reasons[reason] for place, reason in enumerate(run.reason) if reason >= 0}
    assert reasons == {**{one.request_id: why for one, why, _ in alone.shed}, **refused}
    answered = ~np.isin(mine.request_id, list(reasons))
    assert np.array_equal(run.end_s[mine.request_id[answered]], mine.last_token_s[answered])
    assert run.num_waiting == 0


def test_requests_join_what_runs() -> None:
    run, _ = served([(0.0, 0), (0.05, 0)])
    # Alone 11 ms a step, together 12: the second is there from the end of the fifth step on.
    assert run.begin_s.tolist() == [0.0, 0.05]
    assert run.end_s[0] < run.end_s[1] < 2 * run.end_s[0]
    assert not run.batches


def test_no_more_join_than_the_model_runs_at_once() -> None:
    run, _ = served([(0.0, 0)] * 5, max_batch=2)
    assert len(set(run.end_s.tolist())) == 3
    assert run.begin_s.tolist()[2:4] == [run.end_s[0]] * 2


def test_residents_take_turns_step_by_step() -> None:
    alone, _ = served([(0.0, 0)], num_models=2, slots=2)
    both, residents = served([(0.0, 0), (0.0, 1)], num_models=2, slots=2)
    took_s = alone.end_s[0]
    assert both.end_s.tolist() == pytest.approx([2 * took_s, 2 * took_s], abs=0.012)
    assert residents.busy_s(0) == residents.busy_s(1) == pytest.approx(took_s)


def test_longer_turns_change_ends_by_no_more_than_a_turn() -> None:
    arrivals = [(0.0, 0), (0.0, 1), (0.02, 0), (0.07, 1)]
    single, _ = served(arrivals, num_models=2, slots=2, output_tokens=40)
    longer, _ = served(arrivals, num_models=2, slots=2, output_tokens=40, turn_steps=4)
    assert np.abs(single.end_s - longer.end_s).max() <= 2 * 4 * 0.012 + 1e-9


def test_a_resident_that_works_alone_gives_way_at_the_next_step() -> None:
    run, residents = served([(0.0, 0), (0.5, 1)], num_models=2, slots=2, output_tokens=100)
    first_s = {model: ended.first_token_s[0] for model, ended in residents.answers().items()}
    # Model 1 loads in no time at 0.5 s, and waits for the step that runs then.
    assert 0.5 < first_s[1] < 0.5 + 0.011 + 0.011 + 0.001
    assert run.served.all()


def test_loads_go_on_beside_compute() -> None:
    run, _ = served([(0.0, 0), (2.0, 0), (2.0, 1), (2.1, 0)], num_models=2, slots=2, load_s=1.0)
    assert [(load.model, load.begin_s) for load in run.loads] == [(0, 0.0), (1, 2.0)]
    assert run.begin_s[3] == 2.1  # while the other model is loaded
    assert run.begin_s[2] == 3.0


def test_a_resident_runs_out_before_it_is_dropped() -> None:
    arrivals = [(0.0, 0), (1.05, 1), *[(1.1 + place / 100, 0) for place in range(40)]]
    run, _ = served(arrivals, num_models=2, load_s=1.0, output_tokens=20)
    # Model 1's turn came first, so whoever came after it for model 0 has to wait for its return.
    assert [load.model for load in run.loads] == [0, 1, 0]
    assert run.loads[1].begin_s == run.end_s[0] > 1.05
    assert (run.begin_s[2:] >= run.end_s[1]).all()
    assert run.served.all()


def test_whoever_the_scheduler_refuses_is_told_why() -> None:
    models = [HostedModel("m", 1, BatchTime(1.0, 0.0))]
    requests = [Request(0, 0.0, 500, 10, ANY), Request(1, 0.0, 5, 10, ANY)]
    residents = Residents([EngineSpec(STEP, 160, PRESETS["sarathi"])], requests, [10, 10])
    run = MultiplexSimulation(Sequential(models, first_come),
                              [Device(0, 1, models, continuous=True)],
                              FixedLoads(0.0), [residents]).run(
        [Queued(0, 0, 0.0), Queued(1, 0, 0.0)])
    assert run.served.tolist() == [False, True]
    assert "exceed the KV cache" in run.reasons[run.reason[0]]


def test_what_runs_when_the_clock_is_stopped_stays_unfinished() -> None:
    run, residents = served([(0.0, 0)], until_s=0.05)
    assert not run.served.any()
    assert residents.answers()[0].output_tokens.tolist() == [4]


def test_values_that_make_no_sense_are_named() -> None:
    with pytest.raises(InputError, match="room for a block"):
        EngineSpec(STEP, 8)
    with pytest.raises(InputError, match="turn_steps is 0"):
        Residents([], [], [], turn_steps=0)
    model = HostedModel("m", 1, BatchTime(1.0, 0.0))
    with pytest.raises(InputError, match="expected one for each continuous device"):
        MultiplexSimulation(Sequential([model], first_come),
                            [Device(0, 1, [model], continuous=True)],
                            FixedLoads(0.0))


@pytest.mark.parametrize("name", ["penstock", "longest-queue", "edf", "round-robin", "first-come"])
def test_every_policy_serves_three_models_on_one_slot(name: str) -> None:
    models = [HostedModel(f"m{one}", 10, BatchTime(0.1, 0.01), max_batch=8) for one in range(3)]
    arrivals = [(0.05 * place, place * place % 3) for place in range(200)]
    run, _ = served(arrivals, num_models=3, load_s=0.5, slack_s=60.0,
                    policy=multiplexing(name, models, LoadTable([0.5] * 3)))
    assert run.served.all(), name
    assert run.num_waiting == 0
