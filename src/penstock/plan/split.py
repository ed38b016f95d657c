"""Replicas of which some compute prompts and others answers, where they beat whole ones.

The path of the KV cache must be known: the fleet file's section ``disaggregation``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, inf

import numpy as np

from penstock.core.slo import ServiceClass
from penstock.fleet.replica_factory import step_time
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.plan.demands import Demand
from penstock.plan.estimate import Candidate
from penstock.plan.judge import Verdict, judge
from penstock.plan.propose import Choice
from penstock.policy.route.roles import DECODE, PREFILL
from penstock.workload.workload import Workload

_MORE = range(4)  # replicas of a role beyond the least
_KINDS = 3  # of each role that are tried, the cheapest
_MOST_TRIALS = 24
_CHEAPER = 1.0 - 1e-9

AGAIN = 1000
"""Distance from the plan's seeds to those with which its finds are tried again."""


@dataclass(frozen=True, slots=True)
class Side:
    """Replicas of one role. ``least`` is the fewest that could compute the demand's tokens."""

    candidate: Candidate
    role: str
    least: int

    @property
    def cost_per_hour(self) -> float:
        """Cost of the fewest replicas."""
        return self.least * self.candidate.variant.cost_per_hour

    def group(self, count: int, classes: tuple[str, ...] | None) -> ReplicaGroup:
        """Return so many replicas of the role."""
        return replace(self.candidate.variant.group, count=count, role=self.role,
                       service_classes=classes)


@dataclass(frozen=True, slots=True)
class Split:
    """Replicas with roles that meet every objective of a demand in simulation."""

    groups: tuple[ReplicaGroup, ...]
    cost_per_hour: float
    power_w: float
    verdict: Verdict
    num_trials: int

    @property
    def accelerators(self) -> Mapping[str, int]:
        """Number of accelerators of each kind."""
        return _accelerators(self.groups)


def best_split(fleet: Fleet, choice: Choice, below_per_hour: float, free: Mapping[str, int],
               seed: int, again: Demand) -> Split | None:
    """Return the cheapest replicas with roles that hold and cost less than ``below_per_hour``,
    among those that are tried; None where there are none. ``free`` has the accelerators of the
    limited kinds. ``again`` is the demand with other seeds: few replicas of a role have no others
    to fall back on, so that what holds with the plan's seeds must hold with these, too.

    Each role begins with as many replicas as its tokens take at the largest batch within the time
    between tokens. Up to three more of each are tried, by cost, at most 24 fleets in all.
    """
    demand, tried = choice.demand, 0
    failed: list[tuple[str, str, int, int]] = []
    for cost, prefill, decode, counts in _fleets(fleet, choice, below_per_hour):
        names = prefill.candidate.variant.name, decode.candidate.variant.name
        groups = tuple(side.group(count, demand.class_names)
                       for side, count in zip((prefill, decode), counts, strict=True))
        if not _fits(groups, free) or any(
                names == one[:2] and counts[0] <= one[2] and counts[1] <= one[3]
                for one in failed):
            continue
        tried += 1
        verdict = judge(fleet, demand, groups, seed=seed, whole=False)
        if verdict.meets and judge(fleet, again, groups, seed=seed + AGAIN, whole=False).meets:
            power_w = sum(count * side.candidate.variant.power_w
                          for side, count in zip((prefill, decode), counts, strict=True))
            return Split(groups, cost, power_w, verdict, tried)
        failed.append((*names, *counts))
        if tried == _MOST_TRIALS:
            return None
    return None


def _fleets(fleet: Fleet, choice: Choice, below_per_hour: float
            ) -> list[tuple[float, Side, Side, tuple[int, int]]]:
    """Return the fleets to try, cheapest first."""
    sides = {role: _sides(fleet, choice, role) for role in (PREFILL, DECODE)}
    found = []
    for prefill, decode in product(sides[PREFILL], sides[DECODE]):
        one, other = prefill.candidate.variant, decode.candidate.variant
        if one.group.kv_precision != other.group.kv_precision:
            continue
        for more in product(_MORE, _MORE):
            counts = prefill.least + more[0], decode.least + more[1]
            cost = counts[0] * one.cost_per_hour + counts[1] * other.cost_per_hour
            if cost < below_per_hour * _CHEAPER:
                found.append((cost, prefill, decode, counts))
    return sorted(found, key=lambda entry: (
        entry[0], sum(entry[3]), entry[1].candidate.variant.name,
        entry[2].candidate.variant.name, entry[3]))


def _fits(groups: Sequence[ReplicaGroup], free: Mapping[str, int]) -> bool:
    return all(count <= free.get(name, count) for name, count in _accelerators(groups).items())


def _accelerators(groups: Sequence[ReplicaGroup]) -> Mapping[str, int]:
    used: Counter[str] = Counter()
    for group in groups:
        used[group.accelerator.name] += group.num_accelerators
    return used


def _sides(fleet: Fleet, choice: Choice, role: str) -> list[Side]:
    """Return the cheapest kinds of replicas for a role."""
    found = []
    for candidate in (*choice.candidates, *choice.dominated):
        per_s = _tokens_per_s(fleet, choice.demand, candidate, role)
        if per_s > 0.0:
            tokens = _tokens(choice.demand.sample, role) * choice.demand.rate_per_s
            found.append(Side(candidate, role, max(1, ceil(tokens / per_s - 1e-9))))
    return sorted(found, key=lambda side: (side.cost_per_hour, side.candidate.variant.name)
                  )[:_KINDS]


def _tokens(workload: Workload, role: str) -> float:
    """Return the tokens of a mean request that replicas of a role compute."""
    column = workload.prompt_tokens if role == PREFILL else workload.output_tokens
    return float(np.mean(column))


def _tokens_per_s(fleet: Fleet, demand: Demand, candidate: Candidate, role: str) -> float:
    """Return the most tokens per second that one replica computes of a role; 0 where no batch is
    within the time between tokens."""
    group, model = candidate.variant.group, step_time(candidate.variant.group)
    options = fleet.schedule_of(group)
    prompt = _tokens(demand.sample, PREFILL)
    if role == PREFILL:
        step = max(1, options.chunk_tokens)
        return step / model.seconds(step, step * prompt / 2.0, 0, 0)
    context = prompt + _tokens(demand.sample, DECODE) / 2.0
    room = int(candidate.variant.kv_tokens / (prompt + _tokens(demand.sample, DECODE)))
    return max(_batches(model, demand.classes, min(options.max_num_seqs, room), context),
               default=0.0)


def _batches(model: StepTimeModel, classes: Sequence[ServiceClass], most: int,
             context_tokens: float) -> Iterator[float]:
    """Yield the tokens per second of decode batches within the time between tokens."""
    limit_s = min((c.slo.itl_s for c in classes if c.slo.itl_s is not None), default=inf)
    batch = 1
    while batch <= most:
        seconds = model.seconds(0, 0.0, batch, round(batch * context_tokens))
        if seconds > limit_s:
            return
        yield batch / seconds
        batch = batch + max(1, batch // 8)
