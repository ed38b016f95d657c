"""Block's provisioning: a replica more whenever a request is late, and never fewer.

Pre-emptive, a request takes a replica of the reserve where even the best replica is predicted to
answer too late; reactive, a late answer takes one. Block's reserve serves at once; here it starts,
and replicas that start are no candidates, as Block leaves out a replica that it cannot query.

Source: AKafakA/Block block/global_scheduler/api_server.py. Block predicts with a copy of each
engine's scheduler; here the prediction steps a mean request through what the gauges tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from penstock.core.step import StepFeatures
from penstock.policy.scale.protocol import GroupFacts, ScalerContext, StepSeconds
from penstock.policy.scale.values import (
    E2E_BOUNDS_S,
    TTFT_BOUNDS_S,
    Observation,
    SeenReplica,
    Totals,
)
from penstock.published.autoscalers.laws import HOLD, LawScaler, Wanted
from penstock.published.autoscalers.lengths import Lengths, RecentLengths
from penstock.published.autoscalers.signals import held, of_model

PERIOD_S = 1.0
"""Period here. Block decides with each request."""

STEP_TOKENS = 4096
MAX_NUM_SEQS = 48
"""Limits of a step in Block, where an engine's own are unknown."""

Signal = Literal["predicted", "serving_time", "ttft"]


@dataclass(frozen=True, slots=True)
class BlockSettings:
    """Limit of the latency in seconds, and the latency: that of the best replica for the next
    request, or that of each answer or first token. With ``counts_starting``, a replica that starts
    counts as an idle one."""

    slo_s: float = 12.0
    signal: Signal = "predicted"
    counts_starting: bool = False


def predicted_s(replica: SeenReplica, facts: GroupFacts, lengths: Lengths,
                step_s: StepSeconds) -> float | None:
    """Return the time until a further mean request is answered, None without the gauges.

    The prompts ahead are computed in full steps beside the running requests. Where all seats are
    taken, or the KV cache has no room, the requests ahead wait for others to end.
    """
    gauges, ahead = replica.gauges, replica.inflight_tokens
    if gauges is None or ahead is None:
        return None
    budget = facts.step_tokens or STEP_TOKENS
    seats = facts.max_num_seqs or MAX_NUM_SEQS
    used = gauges.kv_used_share * facts.kv_total_tokens
    prompt, output = lengths.prompt_tokens, max(1.0, lengths.output_tokens)
    queue_s, left = 0.0, ahead + prompt
    room = max(1.0, budget - gauges.num_running)
    while left > 0.0:
        chunk = min(left, room)
        queue_s += step_s(StepFeatures(int(chunk), chunk * prompt / 2.0, gauges.num_running,
                                       int(used)))
        left -= chunk
    batch = min(gauges.num_running + gauges.num_waiting + 1, seats)
    context = min(used + ahead + prompt + output / 2.0, float(facts.kv_total_tokens))
    decode_s = step_s(StepFeatures(0, 0.0, batch, int(context)))
    full = gauges.num_running >= seats or used + ahead + prompt > facts.kv_total_tokens
    if full and gauges.num_running:
        ends = (gauges.num_waiting + 1) / gauges.num_running
        queue_s = max(queue_s, ends * output * decode_s)
    return queue_s + (output - 1.0) * decode_s


def num_over(limit_s: float, bounds_s: tuple[float, ...], now: tuple[int, ...],
             then: tuple[int, ...]) -> int:
    """Return how many more of the counted latencies are surely over a limit."""
    lows = (0.0, *bounds_s)
    return sum(new - old for low, new, old in zip(lows, now, then, strict=True) if low >= limit_s)


class _Group:
    def __init__(self, number: int, context: ScalerContext, settings: BlockSettings) -> None:
        self._number = number
        self._facts = context.groups[number]
        self._step_s = context.step_s[number] if context.step_s else None
        self._settings = settings
        self._lengths = RecentLengths((number,))
        self._totals: Totals | None = None
        self._num_arrived: int | None = None

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return a replica more for each late request."""
        group = seen.groups[self._number]
        if self._settings.signal == "predicted":
            num_late, terms = self._num_arriving_late(seen, now_s)
        else:
            num_late, terms = self._num_answered_late(group.totals), {}
        if num_late is None:
            return HOLD
        return Wanted({self._number: self._facts.bounded(group.target + num_late)}, terms)

    def _num_arriving_late(self, seen: Observation, now_s: float
                           ) -> tuple[int | None, dict[str, float]]:
        """Return the requests that arrived while the best replica was predicted to be late."""
        if seen.demand is None or self._step_s is None:
            return None, {}
        group = seen.groups[self._number]
        demand = of_model(seen.demand, self._facts.model)
        self._lengths.add(seen, demand, now_s)
        arrived = sum(one.num_arrived for one in demand)
        before, self._num_arrived = self._num_arrived, arrived
        num_new = arrived - before if before is not None else 0
        if not group.num_ordered and held(seen, self._facts):
            return 1, {}
        lengths = self._lengths.mean(now_s)
        if not lengths.output_tokens or (self._settings.counts_starting
                                         and group.of("waiting", "starting")):
            return 0, {}
        found = [predicted_s(one, self._facts, lengths, self._step_s) for one in group.of("ready")]
        known = [one for one in found if one is not None]
        if not known:
            return None, {}
        terms = {f"predicted_s.{self._number}": min(known)}
        late = min(known) >= self._settings.slo_s
        return (min(num_new, 1) if self._settings.counts_starting else num_new) * late, terms

    def _num_answered_late(self, totals: Totals | None) -> int | None:
        """Return the answers or first tokens since the last decision that were late."""
        if totals is None:
            return None
        before, self._totals = self._totals, totals
        if before is None:
            return 0
        if self._settings.signal == "ttft":
            return num_over(self._settings.slo_s, TTFT_BOUNDS_S, totals.ttft, before.ttft)
        return num_over(self._settings.slo_s, E2E_BOUNDS_S, totals.e2e, before.e2e)


def block(settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build Block's provisioning."""
    found = BlockSettings(**settings)
    return LawScaler([_Group(number, context, found) for number in range(len(context.groups))],
                     PERIOD_S, f"{found.signal} latency against {found.slo_s:g} s")
