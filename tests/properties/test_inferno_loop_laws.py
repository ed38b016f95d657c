"""Laws of Inferno's loop and of the calibration beside it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.slo import ServiceClass, Slo
from penstock.perf.calibration.fit import fit
from penstock.perf.calibration.values import CalibrationSettings
from penstock.perf.queueing.parameters import IterationTimes
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Gauges, Observation, SeenGroup, SeenReplica, Totals
from penstock.published.autoscalers.inferno import inferno
from penstock.published.inferno.loop.emulated import (
    MAX_BATCH,
    MAX_QUEUE,
    MOST_REPLICAS,
    EmulatedServer,
    body,
)
from penstock.published.inferno.operations import optimize_one
from penstock.published.inferno.values import Load
from support.scaled_examples import examples
from support.served_points import PRIOR, lone_latencies, served

EMPTY = Totals(0, 0, 0, (0,), (0,), 0.0, 0.0)
states = st.tuples(st.floats(1.0, 30.0), st.floats(0.001, 0.2), st.floats(1e-6, 1e-3))


@st.composite
def servers(draw, name):
    slo = Slo(ttft_s=draw(st.floats(0.05, 5.0)), itl_s=draw(st.floats(0.01, 0.2)))
    return EmulatedServer(name, Load(), draw(states), slo, draw(st.floats(1.0, 500.0)),
                          draw(st.integers(1, 20)))


@st.composite
def minutes(draw):
    """Counters of a minute of one group."""
    num = draw(st.integers(0, 2_000))
    prompts, answers = draw(st.integers(1, 4_000)), draw(st.integers(2, 2_000))
    gaps = num * (answers - 1)
    return Totals(num, num * prompts, num * answers, (num,), (gaps,),
                  num * draw(st.floats(0.01, 2.0)), gaps * draw(st.floats(0.005, 0.1)))


def seen(now_s, targets, totals):
    return Observation(now_s, tuple(SeenGroup(target, tuple(
        SeenReplica(each, "ready", 0.0, Gauges(1, 0, 0.1), 0.0) for each in range(target)), one)
        for target, one in zip(targets, totals, strict=True)))


@examples(25)
@given(servers("a"), servers("b"), minutes(), minutes(), states)
def test_a_decision_is_the_answer_of_optimize_one(first, second, one, other, state):
    """Without a tuner, the static parameters hold."""
    both, targets = (first, second), (first.start, second.start)
    context = ScalerContext(tuple(
        GroupFacts(each.model, 1, MOST_REPLICAS, each.start, each.cents_per_hour / 100.0, 60.0,
                   1_000_000, frozenset({each.model})) for each in both),
        {each.model: ServiceClass(each.model, each.slo) for each in both})
    alpha, beta, gamma = state
    loop = inferno({"tuner": "none", "max_batch": MAX_BATCH, "max_queue": MAX_QUEUE,
                    "alpha_ms": alpha, "beta_ms": beta, "gamma_ms": gamma}, context)
    loop.decide(seen(0.0, targets, (EMPTY, EMPTY)), 0.0)
    decided = loop.decide(seen(60.0, targets, (one, other)), 60.0)
    loads = [(float(each.num_finished), each.prompt_tokens // max(each.num_finished, 1),
              each.output_tokens // max(each.num_finished, 1)) for each in (one, other)]
    answer = optimize_one(body(both, loads, targets, [state, state]))
    if answer.status == 200:
        expected = tuple(answer.document["allocations"][each.model]["numReplicas"]
                         for each in both)
        assert decided.targets == expected
        assert decided.reason.startswith("least cost")
    else:
        assert decided.targets == targets
        assert not decided.reason.startswith("least cost")


LOADS = ((60, 256, 512), (180, 1024, 256), (120, 512, 1024), (30, 4096, 64))


def fitted(truth, factors):
    points = [served(load, truth, lone_latencies, one)
              for load, one in zip(LOADS * 2, factors, strict=True)]
    return points, fit(points, PRIOR, lone_latencies, CalibrationSettings())


@examples(20)
@given(states)
def test_exact_latencies_at_four_loads_are_explained(state):
    truth = IterationTimes(*state)
    points, found = fitted(truth, [(1.0, 1.0)] * 8)
    assert np.allclose(lone_latencies(points, [found.times]), lone_latencies(points, [truth]),
                       rtol=0.05)
    assert found.noise == 1.0


def test_true_parameters_lie_within_their_intervals_most_of_the_time():
    rng = np.random.default_rng(0)
    num_inside = np.zeros(3)
    for _ in range(40):
        truth = IterationTimes(*np.exp(rng.uniform(np.log((2.0, 0.005, 1e-5)),
                                                   np.log((20.0, 0.1, 5e-4)))).tolist())
        _, known = fitted(truth, np.exp(rng.normal(0.0, (0.1, 0.05), (8, 2))).tolist())
        num_inside += [low <= value <= high for low, value, high in zip(*(
            (one.alpha_ms, one.beta_ms, one.gamma_ms)
            for one in (known.low, truth, known.high)), strict=True)]
    assert (num_inside / 40 >= 0.85).all()
