"""Counters of a simulated engine that a scaler sees."""

import pytest

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.step import CONTEXT_PARTS, Drafted, StepFeatures, StepPlan
from penstock.core.units import to_ps
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.kv.prefix import PrefixKv
from penstock.policy.scale.values import E2E_BOUNDS_S, bucket
from penstock.policy.schedule.options import scheduler_options
from penstock.registry.make import build_scheduler
from penstock.sim.oracle import Oracle
from penstock.sim.recorder import ReplicaRecorder
from penstock.sim.replica import SimReplica
from penstock.sim.scaling.meter import DemandMeter, GroupMeter
from support.strategies import EVIDENCE

STEP_TIME = LinearStepTime(0.01, 0.0, 0.0, 0.0, 0.0, EVIDENCE)  # 10 ms, whatever a step computes


def request(number: int) -> Request:
    return Request(number, 0.0, 100, 20, ServiceClass("any"), "m", prefix_hashes=(1, 2, 3, 4),
                   hash_block_tokens=16)


def test_an_engine_counts_gaps_ends_and_cached_prompts() -> None:
    scheduler = build_scheduler(scheduler_options("sarathi"), STEP_TIME, PrefixKv(100, 16))
    replica = SimReplica(0, scheduler, StepClock(STEP_TIME), Oracle({0: 5, 1: 5}),
                         ReplicaRecorder(to_ps(1.0)))
    replica.meter = meter = GroupMeter(DemandMeter())
    now_ps, flying = 0, []
    for number in range(2):
        replica.arrive(request(number), now_ps)
        flying.append(replica.inflight_tokens)
        while replica.begin(now_ps):
            now_ps = replica.end_ps
            replica.finish()
            flying.append(replica.inflight_tokens)
    totals = meter.totals()
    assert flying[0] == 100
    assert set(flying[1:-1]) <= {0, 100}
    assert flying[-1] == 0
    assert (totals.prompt_tokens, totals.cached_tokens) == (200, 64)
    assert totals.tpot_sum_s == pytest.approx(8 * 0.01)  # 4 gaps each
    assert sum(totals.tpot) == 8
    assert totals.e2e[bucket(E2E_BOUNDS_S, 0.05)] == 2


def test_a_drafted_turn_counts_as_its_mean_tokens() -> None:
    meter = GroupMeter(DemandMeter())
    plan = StepPlan(0, (), (1, 2), StepFeatures(0, 0.0, 2, 50), (0,),
                    drafted=Drafted(3, 50 * CONTEXT_PARTS, 5 * CONTEXT_PARTS))
    meter.ran(plan, 4, to_ps(0.025), 0)
    totals = meter.totals()
    assert totals.output_tokens == 20  # 2.5 of each sequence in each turn
    assert sum(totals.tpot) == 20
    assert totals.tpot_sum_s == pytest.approx(20 * 0.01)


def test_a_prompt_that_goes_on_elsewhere_is_no_answer_to_the_gateway() -> None:
    """The engine has finished its part; the gateway's client has its first token."""
    demand = DemandMeter()
    meter = GroupMeter(demand)
    demand.arrived("m", "any", 100)
    whole = request(0)
    meter.finished(whole._replace(max_tokens=1, lends=True), 1, to_ps(0.1), to_ps(0.1))
    seen, = demand.seen()
    assert (meter.totals().num_finished, seen.num_finished, seen.recent) == (1, 0, ())
    meter.finished(whole, 20, to_ps(0.1), to_ps(0.3))
    seen, = demand.seen()
    assert (seen.num_finished, seen.output_tokens, seen.recent) == (1, 20, ((100, 20),))
