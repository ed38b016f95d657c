"""llm-d's Workload Variant Autoscaler with its second analysis: saturation in tokens.

Source: llm-d/llm-d-workload-variant-autoscaler internal/engines/analyzers/saturation_v2/analyzer.go
for capacity and demand, internal/engines/saturation/engine_v2.go for thresholds,
internal/engines/pipeline/cost_aware_optimizer.go for variants.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf
from statistics import median
from typing import Any

from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation, SeenDemand
from penstock.published.autoscalers.laws import LawScaler, Wanted
from penstock.published.autoscalers.lengths import Lengths, RecentLengths
from penstock.published.autoscalers.signals import of_model
from penstock.published.autoscalers.wva import Analysis, Peak, Variant, wva

NUM_AVERAGED = 10
BUCKETS_TOKENS = (100.0, 500.0)
"""Upper bounds of mean output lengths that share a history of compute bounds."""


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Used share of the KV cache and waiting requests of a saturated replica, and the utilisations
    above which replicas are added and below which they are removed. The times are of the HPA and
    of a model without requests, in seconds."""

    kv_threshold: float = 0.8
    queue_threshold: float = 5.0
    scale_up_threshold: float = 0.85
    scale_down_boundary: float = 0.7
    window_s: float = 240.0
    tolerance: float = 0.1
    retention_s: float = 600.0


def derived_tokens(facts: GroupFacts, lengths: Lengths) -> int:
    """Return the tokens that the steps of a replica keep in use, from the arguments of its engine;
    0 where they or the lengths are unknown."""
    prompt, output = lengths.prompt_tokens, lengths.output_tokens
    if facts.step_tokens is None or output <= 0.0:
        return 0
    most = inf if facts.max_num_seqs is None else facts.max_num_seqs
    return int(min(facts.step_tokens * output / (prompt + output), most) * (prompt + output / 2.0))


class _Capacity:
    """Tokens that one replica of a variant holds: the smaller of its memory's and its steps'."""

    def __init__(self, facts: GroupFacts, settings: TokenSettings) -> None:
        self._facts = facts
        self._settings = settings
        self._memory = int(facts.kv_total_tokens * settings.kv_threshold)
        self._observed: dict[int, deque[int]] = {}
        self._last = 0.0

    def of_variant(self, peaks: Sequence[Peak], lengths: Lengths) -> float:
        """Return the median over replicas, without any what was found last or what the engine's
        arguments say."""
        if peaks:
            self._last = float(int(median([self._of_replica(peak, lengths) for peak in peaks])))
        if self._last > 0.0:
            return self._last
        return float(min(self._memory, derived_tokens(self._facts, lengths)
                         or self._facts.step_tokens or self._memory))

    def in_use(self, peak: Peak) -> int:
        """Return the tokens of a replica's KV cache that are in use."""
        return int(peak.kv_used_share * self._facts.kv_total_tokens)

    def _of_replica(self, peak: Peak, lengths: Lengths) -> int:
        return min(self._memory, self._steps(peak, lengths))

    def _steps(self, peak: Peak, lengths: Lengths) -> int:
        """Return the tokens in use once requests queue: observed, averaged, derived, or no
        bound."""
        bucket = sum(lengths.output_tokens >= bound for bound in BUCKETS_TOKENS)
        tokens = self.in_use(peak)
        if peak.num_waiting >= int(self._settings.queue_threshold) and tokens > 0:
            self._observed.setdefault(bucket, deque(maxlen=NUM_AVERAGED)).append(tokens)
            return tokens
        observed = self._observed.get(bucket)
        if observed:
            return int(sum(observed) / len(observed))
        return derived_tokens(self._facts, lengths) or self._memory


def held_demand(demand: Sequence[SeenDemand], lengths: Lengths) -> float:
    """Return the tokens that requests at the gateway will need."""
    count = sum(one.num_held for one in demand)
    prompts = max(float(sum(one.held_tokens for one in demand)), count * lengths.prompt_tokens)
    return prompts * (1.0 - lengths.hit_share) + count * lengths.output_tokens


@dataclass(frozen=True, slots=True)
class Sized:
    """A variant with the tokens that one of its replicas holds."""

    variant: Variant
    tokens: float

    @property
    def cost(self) -> float:
        """Cost of a replica."""
        return self.variant.facts.cost_per_hour


def more_replicas(sized: Sequence[Sized], required: float) -> dict[int, int]:
    """Return targets that hold so many more tokens, of the variants with the least cost for a
    token."""
    targets = {one.variant.number: one.variant.current for one in sized}
    usable = [one for one in sized if one.tokens > 0.0]
    for one in sorted(usable, key=lambda one: (one.cost / one.tokens, one.variant.number)):
        room = one.variant.facts.ceiling - one.variant.current
        added = max(0, min(ceil(required / one.tokens), room))
        targets[one.variant.number] += added
        required -= added * one.tokens
        if required <= 0.0:
            break
    return targets


def fewer_replicas(sized: Sequence[Sized], spare: float) -> dict[int, int]:
    """Return targets without so many tokens, of the dearest variants first. The cheapest keeps a
    replica where no other has any."""
    targets = {one.variant.number: one.variant.current for one in sized}
    cheapest = min(sized, key=lambda one: (one.cost, one.variant.number))
    usable = [one for one in sized if one.tokens > 0.0]
    for one in sorted(usable, key=lambda one: (-one.cost, one.tokens, one.variant.number)):
        number = one.variant.number
        others = any(count for other, count in targets.items() if other != number)
        least = max(one.variant.facts.floor, 0 if others or one is not cheapest else 1)
        removed = max(0, min(floor(spare / one.tokens), targets[number] - least))
        targets[number] -= removed
        spare -= removed * one.tokens
    return targets


class Tokens(Analysis):
    """Compares the tokens in use, and those that requests will need, with what replicas hold."""

    def __init__(self, facts: Mapping[int, GroupFacts], settings: TokenSettings) -> None:
        self._model = next(iter(facts.values())).model
        self._settings = settings
        self._capacities = {number: _Capacity(one, settings) for number, one in facts.items()}
        self._lengths = RecentLengths(tuple(facts))

    def observe(self, seen: Observation, now_s: float) -> None:
        if seen.demand is not None:
            self._lengths.add(seen, of_model(seen.demand, self._model), now_s)

    def optimized(self, variants: Sequence[Variant], desired: Mapping[int, int],
                  seen: Observation, now_s: float) -> Wanted | None:
        if seen.demand is None:
            return None
        settings, lengths = self._settings, self._lengths.mean(now_s)
        sized = [Sized(one, self._capacities[one.number].of_variant(one.peaks, lengths))
                 for one in variants]
        demand = held_demand(of_model(seen.demand, self._model), lengths) + sum(
            self._capacities[one.number].in_use(peak)
            + int(peak.num_waiting * lengths.prompt_tokens)
            for one in variants for peak in one.peaks)
        supply = sum(len(one.variant.peaks) * one.tokens for one in sized)
        anticipated = sum(one.variant.current * one.tokens for one in sized)
        required = max(0.0, demand / settings.scale_up_threshold - anticipated)
        spare = max(0.0, supply - demand / settings.scale_down_boundary)
        terms = {"demand_tokens": demand, "required_tokens": required, "spare_tokens": spare}
        if required > 0.0:
            return Wanted(more_replicas(sized, required), terms, "required tokens")
        if spare > 0.0:
            return Wanted(fewer_replicas(sized, spare), terms, "spare tokens")
        return Wanted({one.number: one.current for one in variants}, terms)


def wva_tokens(settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build the autoscaler of saturation in tokens."""
    found = TokenSettings(**settings)
    return wva(context, lambda facts: Tokens(facts, found), found.window_s, found.tolerance,
               found.retention_s, "saturation in tokens")
