"""Inferno's loop under its emulated load, beside ``/optimizeOne`` asked directly.

Servers, targets, ramps and the walk of loads are those of the documented runs with queue-analysis
as the server: llm-inferno/control-loop ``manifests/qa`` and ``experiments/run9`` to ``run11``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.core.slo import ServiceClass, Slo
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Gauges, Observation, SeenGroup, SeenReplica, Totals
from penstock.published.autoscalers.inferno import PERIOD_S, WINDOW_S, inferno
from penstock.published.inferno.emulated_load import (
    STEP_S,
    Phase,
    Walk,
    emulated_loads,
)
from penstock.published.inferno.loop.cycles import State
from penstock.published.inferno.operations import optimize_one
from penstock.published.inferno.tuner.model import predicted
from penstock.published.inferno.tuner.tuner import Tuner
from penstock.published.inferno.tuner.values import OperatingPoint
from penstock.published.inferno.values import Load

MAX_BATCH, MAX_QUEUE = 128, 128
PHASES = (Phase(360.0), Phase(300.0, 5.0), Phase(300.0), Phase(300.0, 0.2), Phase(0.0))
WALK = Walk(theta=0.8, alpha=0.1, skew=0.05)
NUM_CYCLES = 45


@dataclass(frozen=True, slots=True)
class EmulatedServer:
    """A managed deployment: nominal load, true parameters of its replicas, targets in s, cents per
    hour of a replica, and replicas at first."""

    model: str
    nominal: Load
    truth: State
    slo: Slo
    cents_per_hour: float
    start: int


SERVERS = (
    EmulatedServer("granite_8b", Load(60.0, 2048, 1024), (8.0, 0.016, 0.0005),
                   Slo(ttft_s=0.2, itl_s=0.03), 75.0, 4),
    EmulatedServer("llama_13b", Load(30.0, 768, 768), (12.0, 0.024, 0.00075),
                   Slo(ttft_s=1.0, itl_s=0.06), 75.0, 2))
MOST_REPLICAS = 64


@dataclass(frozen=True, slots=True)
class EmulatedCycle:
    """Numbers of replicas of one cycle: by the loop, and by ``/optimizeOne`` (None while the
    tuner's warm-up holds the loop back). ``loads`` are requests per minute."""

    number: int
    loads: tuple[float, ...]
    decided: tuple[int, ...]
    expected: tuple[int, ...] | None


class EmulatedFleet:
    """Servers under emulated load whose latencies are those of Inferno's own analysis."""

    def __init__(self, servers: Sequence[EmulatedServer], rng: np.random.Generator) -> None:
        self._servers = servers
        self._loads = [emulated_loads(one.nominal, rng, WALK, PHASES) for one in servers]
        self.totals = [Totals(0, 0, 0, (), (), 0.0, 0.0)] * len(servers)
        self.targets = [one.start for one in servers]

    def serve(self) -> None:
        """Serve a control period: a few steps of the walk."""
        for number in range(len(self.totals)):
            for _ in range(round(PERIOD_S / STEP_S)):
                self._serve(number, next(self._loads[number]))

    def _serve(self, number: int, load: Load) -> None:
        num, target, before = round(load.arrival_per_min * STEP_S / 60.0), self.targets[number], \
            self.totals[number]
        if not num or not target:
            return
        point = OperatingPoint(load.arrival_per_min / target, MAX_BATCH, MAX_QUEUE,
                               load.input_tokens, load.output_tokens, 1.0, 1.0)
        ttft_ms, itl_ms = predicted([point], np.array([self._servers[number].truth]))[0, 0].tolist()
        gaps = num * (load.output_tokens - 1)
        self.totals[number] = Totals(
            before.num_finished + num, before.prompt_tokens + num * load.input_tokens,
            before.output_tokens + num * load.output_tokens, (sum(before.ttft) + num,),
            (sum(before.tpot) + gaps,), (before.ttft_sum_s or 0.0) + num * ttft_ms / 1000.0,
            (before.tpot_sum_s or 0.0) + gaps * itl_ms / 1000.0)

    def seen(self, now_s: float) -> Observation:
        """Return what the loop observes."""
        return Observation(now_s, tuple(SeenGroup(target, tuple(
            SeenReplica(each, "ready", 0.0, Gauges(1, 0, 0.1), 0.0) for each in range(target)),
            totals) for target, totals in zip(self.targets, self.totals, strict=True)))


def emulated_run(rng: np.random.Generator, servers: Sequence[EmulatedServer] = SERVERS,
                 num_cycles: int = NUM_CYCLES) -> Iterator[EmulatedCycle]:
    """Run the loop as a scale policy, and beside it the tuners and ``/optimizeOne`` on the counters
    themselves. The decision of the loop is what both get to serve next."""
    fleet, tuners = EmulatedFleet(servers, rng), [Tuner() for _ in servers]
    loop = inferno({"max_batch": MAX_BATCH, "max_queue": MAX_QUEUE}, _context(servers))
    loop.decide(fleet.seen(0.0), 0.0)
    for number in range(1, num_cycles + 1):
        before = list(fleet.totals)
        fleet.serve()
        means = [_means(*pair) for pair in zip(before, fleet.totals, strict=True)]
        decided = loop.decide(fleet.seen(PERIOD_S * number), PERIOD_S * number).targets
        for tuner, mean, target in zip(tuners, means, fleet.targets, strict=True):
            if mean[0] > 0.0 and target:
                tuner.tune([OperatingPoint(mean[0] / target, MAX_BATCH, MAX_QUEUE, *mean[1:])])
        expected = None if any(one.warming_up or one.learned is None for one in tuners) else \
            _direct(servers, means, fleet.targets, [one.learned.state for one in tuners
                                                   if one.learned is not None])
        yield EmulatedCycle(number, tuple(mean[0] for mean in means), decided, expected)
        fleet.targets = list(decided)


def _context(servers: Sequence[EmulatedServer]) -> ScalerContext:
    return ScalerContext(
        tuple(GroupFacts(one.model, 1, MOST_REPLICAS, one.start, one.cents_per_hour / 100.0, 60.0,
                         1_000_000, frozenset({one.model})) for one in servers),
        {one.model: ServiceClass(one.model, one.slo) for one in servers})


def _means(before: Totals, now: Totals) -> tuple[float, int, int, float, float]:
    """Return requests per minute, prompt and output tokens, TTFT and ITL in ms of a window."""
    num = now.num_finished - before.num_finished
    if not num:
        return 0.0, 0, 0, 0.0, 0.0
    ttft_s = (now.ttft_sum_s or 0.0) - (before.ttft_sum_s or 0.0)
    itl_s = (now.tpot_sum_s or 0.0) - (before.tpot_sum_s or 0.0)
    return (60.0 * num / WINDOW_S, (now.prompt_tokens - before.prompt_tokens) // num,
            (now.output_tokens - before.output_tokens) // num,
            1000.0 * ttft_s / (sum(now.ttft) - sum(before.ttft)),
            1000.0 * itl_s / (sum(now.tpot) - sum(before.tpot)))


def _direct(servers: Sequence[EmulatedServer], means: Sequence[tuple[float, ...]],
            targets: Sequence[int], states: Sequence[tuple[float, ...]]) -> tuple[int, ...] | None:
    """Return the replicas that ``/optimizeOne`` answers, None where it answers with an error."""
    answer = optimize_one(body(servers, [mean[:3] for mean in means], targets, states))
    if answer.status != 200:
        return None
    found = answer.document["allocations"]
    return tuple(found[one.model]["numReplicas"] for one in servers)


def body(servers: Sequence[EmulatedServer], loads: Sequence[Sequence[float]],
         targets: Sequence[int], states: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return the body of ``/optimizeOne``, written out. ``loads`` are requests per minute, prompt
    and output tokens."""
    names = [one.model for one in servers]
    return {"system": {
        "acceleratorData": {"accelerators": [
            {"name": one.model, "type": one.model, "multiplicity": 1, "cost": one.cents_per_hour}
            for one in servers]},
        "capacityData": {"count": [{"type": name, "count": MOST_REPLICAS} for name in names]},
        "modelData": {"models": [
            {"name": name, "acc": name, "accCount": 1, "maxBatchSize": MAX_BATCH,
             "perfParms": dict(zip(("alpha", "beta", "gamma"), state, strict=True))}
            for name, state in zip(names, states, strict=True)]},
        "serviceClassData": {"serviceClasses": [
            {"name": one.model, "priority": 1, "modelTargets": [
                {"model": one.model, "slo-ttft": 1000.0 * (one.slo.ttft_s or 0.0),
                 "slo-itl": 1000.0 * (one.slo.itl_s or 0.0)}]} for one in servers]},
        "serverData": {"servers": [
            {"name": one.model, "class": one.model, "model": one.model, "keepAccelerator": True,
             "minNumReplicas": 1, "maxBatchSize": MAX_BATCH, "maxQueueSize": MAX_QUEUE,
             "currentAlloc": {"accelerator": one.model, "numReplicas": target,
                              "maxBatch": MAX_BATCH, "cost": one.cents_per_hour * target,
                              "load": dict(zip(("arrivalRate", "avgInTokens", "avgOutTokens"),
                                               load, strict=True))}}
            for one, load, target in zip(servers, loads, targets, strict=True)]},
        "optimizerData": {"optimizer": {"saturationPolicy": "PriorityExhaustive"}}}}
