"""Inferno's loop: decisions equal ``/optimizeOne`` on the same observations; its gates."""

from dataclasses import replace

import numpy as np
import pytest

from penstock.core.slo import ServiceClass, Slo
from penstock.perf.queueing.parameters import IterationTimes
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Gauges, Observation, SeenGroup, SeenReplica, Totals
from penstock.published.autoscalers.inferno import inferno
from penstock.published.inferno.emulated_load import Phase, emulated_loads
from penstock.published.inferno.operations import optimize_one
from penstock.published.inferno.tuner.model import predicted
from penstock.published.inferno.tuner.tuner import Tuner
from penstock.published.inferno.tuner.values import OperatingPoint
from penstock.published.inferno.values import Load

TRUTH = (8.0, 0.033, 0.000333)
CLASSES = {"chat": ServiceClass("chat", Slo(ttft_s=0.5, itl_s=0.03)),
           "code": ServiceClass("code", Slo(ttft_s=0.2, itl_s=0.02))}
GROUPS = (GroupFacts("m", 1, 40, 2, 3.0, 60.0, 10_000, frozenset({"chat"})),
          GroupFacts("n", 0, 6, 1, 5.0, 60.0, 10_000, frozenset({"chat", "code"})))
CONTEXT = ScalerContext(GROUPS, CLASSES)
NOMINAL = (Load(600.0, 512, 256), Load(90.0, 256, 512))
EMPTY = Totals(0, 0, 0, (), (), 0.0, 0.0)


class Fleet:
    """Groups under emulated load whose latencies are those of Inferno's own model."""

    def __init__(self, groups=GROUPS, nominal=NOMINAL, phases=(), seed=1):
        rng = np.random.default_rng(seed)
        self.loads = [emulated_loads(each, rng, phases=phases) for each in nominal]
        self.totals = [EMPTY] * len(groups)
        self.targets = [facts.start for facts in groups]

    def minute(self):
        """Three steps of the walk, served; return the deltas as the loop should see them."""
        return [self._served(number) for number in range(len(self.totals))]

    def _served(self, number):
        before = now = self.totals[number]
        for load in (next(self.loads[number]) for _ in range(3)):
            num = round(load.arrival_per_min / 3.0)
            if not self.targets[number] or not num:
                continue
            point = OperatingPoint(load.arrival_per_min / self.targets[number], 256, 0,
                                   load.input_tokens, load.output_tokens, 1.0, 1.0)
            ttft_ms, itl_ms = predicted([point], np.array([TRUTH]))[0, 0].tolist()
            gaps = num * (load.output_tokens - 1)
            now = Totals(now.num_finished + num, now.prompt_tokens + num * load.input_tokens,
                         now.output_tokens + num * load.output_tokens,
                         (sum(now.ttft) + num,), (sum(now.tpot) + gaps,),
                         now.ttft_sum_s + num * ttft_ms / 1000.0,
                         now.tpot_sum_s + gaps * itl_ms / 1000.0)
        self.totals[number] = now
        return before, now

    def seen(self, now_s):
        return Observation(now_s, tuple(group(target, totals) for target, totals in zip(
            self.targets, self.totals, strict=True)))


def group(target, totals):
    return SeenGroup(target, tuple(SeenReplica(each, "ready", 0.0, Gauges(1, 0, 0.1), 0.0)
                                   for each in range(target)), totals)


def collected(before, now):
    """Rate per minute, prompt and output tokens, TTFT and ITL in ms of a minute."""
    num = now.num_finished - before.num_finished
    if not num:
        return 0.0, 0, 0, 0.0, 0.0
    return (60.0 * num / 60.0, (now.prompt_tokens - before.prompt_tokens) // num,
            (now.output_tokens - before.output_tokens) // num,
            1000.0 * (now.ttft_sum_s - before.ttft_sum_s) / (sum(now.ttft) - sum(before.ttft)),
            1000.0 * (now.tpot_sum_s - before.tpot_sum_s) / (sum(now.tpot) - sum(before.tpot)))


def bundle(loads, targets, parameters):
    """The body of /optimizeOne, written out."""
    names = [f"group-{number}" for number in range(len(GROUPS))]
    slos = [(30.0, 500.0), (20.0, 200.0)]
    return {"system": {
        "acceleratorData": {"accelerators": [
            {"name": name, "type": name, "multiplicity": 1, "cost": 100.0 * facts.cost_per_hour}
            for name, facts in zip(names, GROUPS, strict=True)]},
        "capacityData": {"count": [{"type": name, "count": facts.ceiling}
                                   for name, facts in zip(names, GROUPS, strict=True)]},
        "modelData": {"models": [
            {"name": facts.model, "acc": name, "accCount": 1, "maxBatchSize": 256,
             "perfParms": {"alpha": alpha, "beta": beta, "gamma": gamma}}
            for name, facts, (alpha, beta, gamma) in zip(names, GROUPS, parameters, strict=True)]},
        "serviceClassData": {"serviceClasses": [
            {"name": name, "priority": 1, "modelTargets": [
                {"model": facts.model, "slo-itl": itl, "slo-ttft": ttft}]}
            for name, facts, (itl, ttft) in zip(names, GROUPS, slos, strict=True)]},
        "serverData": {"servers": [
            {"name": name, "class": name, "model": facts.model, "keepAccelerator": True,
             "minNumReplicas": facts.floor, "maxBatchSize": 256,
             "currentAlloc": {"accelerator": name, "numReplicas": target, "maxBatch": 256,
                              "cost": 100.0 * facts.cost_per_hour * target,
                              "load": {"arrivalRate": load[0], "avgInTokens": load[1],
                                       "avgOutTokens": load[2]}}}
            for name, facts, target, load in zip(names, GROUPS, targets, loads, strict=True)]},
        "optimizerData": {"optimizer": {"saturationPolicy": "PriorityExhaustive"}}}}


def test_decisions_equal_optimize_one_on_the_same_observations():
    scaler, fleet = inferno({}, CONTEXT), Fleet(phases=(Phase(600.0), Phase(600.0, 4.0)))
    tuners = [Tuner() for _ in GROUPS]
    scaler.decide(fleet.seen(0.0), 0.0)
    changed = set()
    for cycle in range(1, 31):
        loads = [collected(*one) for one in fleet.minute()]
        for tuner, load, target in zip(tuners, loads, fleet.targets, strict=True):
            if load[0] and target:
                tuner.tune([OperatingPoint(load[0] / target, 256, 0, *load[1:])])
        decision = scaler.decide(fleet.seen(60.0 * cycle), 60.0 * cycle)
        expected = tuple(fleet.targets)
        if cycle >= 9:  # five observations and five updates of each tuner
            answer = optimize_one(bundle(loads, fleet.targets,
                                         [tuner.learned.state for tuner in tuners]))
            assert answer.status == 200
            expected = tuple(answer.document["allocations"][f"group-{each}"]["numReplicas"]
                             for each in range(2))
            changed.add(expected)
        assert decision.targets == expected
        fleet.targets = list(expected)
    assert len(changed) > 4  # the load grows fourfold and wanders
    assert max(one for one, _ in changed) > 4


def test_parameters_near_the_truth_are_learned():
    scaler, fleet = inferno({"tuner": "sliding-window"}, CONTEXT), Fleet()
    scaler.decide(fleet.seen(0.0), 0.0)
    for cycle in range(1, 13):
        fleet.minute()
        decision = scaler.decide(fleet.seen(60.0 * cycle), 60.0 * cycle)
        fleet.targets = list(decision.targets)
    # Means over three operating points are not the mean one's, so the fit is near, not exact.
    assert decision.terms["alpha_ms.0"] == pytest.approx(TRUTH[0], rel=0.3)


def run(scaler, fleet, num_cycles):
    decisions = [scaler.decide(fleet.seen(0.0), 0.0)]
    for cycle in range(1, num_cycles + 1):
        fleet.minute()
        decisions.append(scaler.decide(fleet.seen(60.0 * cycle), 60.0 * cycle))
        fleet.targets = list(decisions[-1].targets)
    return decisions


def test_the_warm_up_gate_holds_the_first_targets_and_has_an_end():
    held = run(inferno({}, CONTEXT), Fleet(), 8)
    assert all(one.targets == (2, 1) for one in held)
    assert "tuner warms up; group 0: collecting observations, 1 of 5" in held[1].reason
    once = run(inferno({"warm_up_cycles": 3}, CONTEXT), Fleet(), 3)
    assert once[2].reason.startswith("tuner warms up")
    assert once[3].reason.startswith("least cost")
    assert once[3].terms["alpha_ms.0"] == 5.0  # the static parameters


def test_a_silent_tuner_is_only_mentioned():
    scaler = inferno({"warm_up_cycles": 1}, CONTEXT)
    decision = run(scaler, Fleet(), 1)[-1]
    assert decision.reason.startswith("least cost")
    assert "group 1: collecting observations" in decision.reason


def test_without_completions_a_group_goes_to_its_floor():
    fleet = Fleet()
    scaler = inferno({"tuner": "none"}, CONTEXT)
    scaler.decide(fleet.seen(0.0), 0.0)
    assert scaler.decide(fleet.seen(60.0), 60.0).targets == (1, 0)


def test_missing_metrics_change_nothing():
    fleet = Fleet()
    scaler = inferno({"tuner": "none"}, CONTEXT)
    for totals in (None, replace(EMPTY, ttft_sum_s=None)):
        fleet.totals[0] = totals
        decision = scaler.decide(fleet.seen(60.0), 60.0)
        assert decision.targets == (2, 1)
        assert decision.reason.startswith("no minute of metrics")


@pytest.mark.parametrize("partial", [False, True])
def test_targets_out_of_reach_end_the_cycle_or_leave_the_group_without_replicas(partial):
    slow = {"tuner": "none", "partial": partial, "alpha_ms": 25.0, "beta_ms": 0.033,
            "gamma_ms": 0.000333}
    decision = run(inferno(slow, CONTEXT), Fleet(), 1)[-1]
    assert decision.reason == "no feasible allocation for servers: [group-1]"
    if partial:
        assert decision.targets[0] > 2
        assert decision.targets[1] == 0
    else:
        assert decision.targets == (2, 1)


def test_more_than_the_ceiling_is_cut_to_it():
    scaler = inferno({"tuner": "none", "alpha_ms": 8.0, "beta_ms": 0.033, "gamma_ms": 0.000333},
                     CONTEXT)
    fleet = Fleet(nominal=(Load(240.0, 512, 256), Load(9000.0, 256, 512)))
    assert run(scaler, fleet, 1)[-1].targets[1] == 6


def test_static_times_are_the_settings():
    scaler = inferno({"alpha_ms": 1.0, "max_batch": 8, "max_queue": 4}, CONTEXT)
    assert scaler._times[0] == IterationTimes(1.0, 0.05, 5e-5)
    assert (scaler._engine.max_batch, scaler._engine.max_queue) == (8, 4)
