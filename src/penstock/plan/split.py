"""Replicas of which some compute prompts and others answers, alone or beside whole ones.

The path of the KV cache must be known: the fleet file's section ``disaggregation``.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np

from penstock.fleet.values import Fleet
from penstock.plan.check import Solve, check
from penstock.plan.choices import allowed_variants, choice_of
from penstock.plan.demands import in_part
from penstock.plan.estimate import Candidate
from penstock.plan.neighbours import within
from penstock.plan.propose import Choice, Counts, whole_fleet
from penstock.plan.sides import sides
from penstock.plan.trials import Trials
from penstock.policy.route.roles import DECODE, PREFILL

_STEPS = range(4)  # of replicas of a role beyond the fewest
_STEP_PART = 8  # the fewest replicas over those of a step, rounded up
_MOST_TRIALS = 24
_CUTS = (0.5, 0.75, 0.9)  # shares of prompts that are shorter
_NEARLY = 1.0 - 1e-9
_NOTHING: Counts = ()


class Splits:
    """Searches the cheapest replicas with roles for one demand.

    Few replicas of a role have no others to fall back on, so what holds with the plan's seeds must
    hold with others, too. ``free`` has the accelerators of the limited kinds that the demand may
    take.
    """

    def __init__(self, fleet: Fleet, choice: Choice, free: Mapping[str, int], trials: Trials,
                 solve: Solve, seed: int) -> None:
        self._fleet = replace(fleet, accelerators=tuple(
            replace(pool, count=free.get(pool.accelerator.name)) for pool in fleet.accelerators))
        self._trials = trials
        self._solve = solve
        self._seed = seed
        self._variants = allowed_variants(fleet, choice.demand)[0]
        self._held: dict[Counts, bool] = {}
        self.choice = choice

    def found(self, below_per_hour: float) -> list[Counts]:
        """Return fleets that hold and cost less than ``below_per_hour``, each cheaper than the one
        before: with roles alone, and with whole replicas for the shorter prompts."""
        found = []
        for least_tokens in (None, *self._cuts()):
            beside = _NOTHING
            if least_tokens is not None:
                if not self._pairs(least_tokens, below_per_hour, _NOTHING):
                    continue
                beside = self._short(least_tokens, below_per_hour)
                if not beside:
                    continue
            counts = self._cheapest(least_tokens, beside, below_per_hour)
            if counts:
                found.append(self._leaner(counts))
                below_per_hour = self._cost(found[-1])
        return found

    def _cuts(self) -> list[int]:
        """Return the lengths of prompts, in tokens, from which on prompts may move: that of the
        file where it states one, else quantiles and the end of the widest gap. Turns of a session
        stay together."""
        stated, sample = self._fleet.disaggregation, self.choice.demand.sample
        if not self._fleet.plan.mixed or sample.loops is not None or sample.links is not None:
            return []
        prompts = np.sort(sample.prompt_tokens)
        if stated is not None and stated.min_prompt_tokens:
            cuts = {stated.min_prompt_tokens}
        else:
            cuts = {int(prompts[int(share * len(prompts))]) for share in _CUTS}
            lengths = np.unique(prompts)
            if len(lengths) > 1:
                cuts.add(int(lengths[1 + int(np.argmax(lengths[1:] / lengths[:-1]))]))
        return sorted(cut for cut in cuts if prompts[0] < cut <= prompts[-1])

    def _short(self, below_tokens: int, below_per_hour: float) -> Counts:
        """Return the cheapest whole replicas for prompts of fewer tokens, nothing where none hold
        for less."""
        part = in_part(self.choice.demand, f"below {below_tokens} tokens",
                       lambda workload: workload.prompt_tokens < below_tokens)
        short, _ = choice_of(self._fleet, part)
        if not short.candidates:
            return _NOTHING
        checked = check(self._fleet, (short,), self._solve, seed=self._seed)
        counts = checked.counts[part.name]
        if not checked.serves(part.name) or \
                whole_fleet(short, counts).cost_per_hour >= below_per_hour:
            return _NOTHING
        self._note(*(short.candidate(variant) for variant, _ in counts))
        return counts

    def _note(self, *candidates: Candidate) -> None:
        """Take note of candidates that the choice lacks."""
        known = {one.variant.name for one in self.choice.every}
        more = {one.variant.name: one for one in candidates if one.variant.name not in known}
        self.choice = replace(self.choice, sides=(*self.choice.sides, *more.values()))

    def _cheapest(self, least_tokens: int | None, beside: Counts, below_per_hour: float) -> Counts:
        """Return the first fleet that holds, of at most 24, by cost. Kinds of which even the most
        replicas miss are not tried again."""
        pairs = self._pairs(least_tokens, below_per_hour, beside)
        self._note(*(side for prefill, decode, _ in pairs for side in (prefill, decode)))
        fleets = [tuple(sorted([*beside, (prefill.variant.name, numbers[0]),
                                (decode.variant.name, numbers[1])]))
                  for prefill, decode, numbers in pairs]
        fleets = [counts for counts in fleets if self._fits(counts)]
        tried: list[Counts] = []
        for counts in fleets:
            if any(within(counts, other) for other in tried):
                continue
            if self._holds(counts):
                return counts
            tried.append(counts)
            most = max((other for other in fleets if within(counts, other)), key=_total)
            if most != counts and not self._holds(most):
                tried.append(most)
            if len(tried) >= _MOST_TRIALS:
                break
        return _NOTHING

    def _pairs(self, least_tokens: int | None, below_per_hour: float, beside: Counts
               ) -> list[tuple[Candidate, Candidate, tuple[int, int]]]:
        """Return replicas that prefill and that decode, with their numbers, cheapest first."""
        kinds = [sides(self._fleet, self.choice.demand, self._variants, role, least_tokens)
                 for role in (PREFILL, DECODE)]
        found, spent = [], self._cost(beside)
        for prefill, decode in product(*kinds):
            if prefill.variant.group.kv_precision != decode.variant.group.kv_precision:
                continue
            for steps in product(_STEPS, _STEPS):
                numbers = (_number(prefill, steps[0]), _number(decode, steps[1]))
                cost = spent + numbers[0] * prefill.variant.cost_per_hour \
                    + numbers[1] * decode.variant.cost_per_hour
                if cost < below_per_hour * _NEARLY:
                    found.append((cost, prefill, decode, numbers))
        found.sort(key=lambda one: (one[0], sum(one[3]), one[1].variant.name,
                                    one[2].variant.name, one[3]))
        return [(prefill, decode, numbers) for _, prefill, decode, numbers in found]

    def _leaner(self, counts: Counts) -> Counts:
        """Return the counts without replicas that can be removed, the most expensive kind first.
        One of each kind stays."""
        for variant, _ in sorted(counts, reverse=True, key=lambda item:
                                 self.choice.candidate(item[0]).variant.cost_per_hour):
            while dict(counts)[variant] > max(1, self._fleet.plan.min_replicas):
                fewer = tuple((name, number - (name == variant)) for name, number in counts)
                if not self._holds(fewer):
                    break
                counts = fewer
        return counts

    def _holds(self, counts: Counts) -> bool:
        if counts not in self._held:
            self._held[counts] = (
                self._trials.sustains(self.choice, counts)
                and self._trials.judge(self.choice, counts).meets
                and self._trials.lasts(self.choice, counts))
        return self._held[counts]

    def _cost(self, counts: Counts) -> float:
        return whole_fleet(self.choice, counts).cost_per_hour

    def _fits(self, counts: Counts) -> bool:
        used: Counter[str] = Counter(dict(whole_fleet(self.choice, counts).accelerators))
        return all(pool.count is None or used[pool.accelerator.name] <= pool.count
                   for pool in self._fleet.accelerators)


def _total(counts: Counts) -> int:
    return sum(number for _, number in counts)


def _number(side: Candidate, step: int) -> int:
    """Return a number of replicas so many steps above the fewest."""
    return side.num_replicas + step * -(-side.num_replicas // _STEP_PART)
