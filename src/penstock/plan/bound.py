"""The rate that one replica could compute if no request had a deadline."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from penstock.core.errors import InputError
from penstock.core.step import StepFeatures
from penstock.fleet.replica_factory import step_time
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.terms import units
from penstock.workload.workload import Workload

Seconds = np.ndarray[tuple[int], np.dtype[np.float64]]

MAX_STEP_TOKENS = 65_536
_NOTICEABLE = 0.01  # more KV cache that raises the rate by less does not bind

Resource = Literal["memory bandwidth", "compute", "link", "step overhead", "step time"]
"""A replica's resources. ``step time`` stands for all, where the accelerator's peaks are unknown.
"""


@dataclass(frozen=True, slots=True)
class ThroughputBound:
    """The rate that saturates one replica, and the steps that reach it.

    ``busiest`` is the resource that such a step keeps busy the longest. ``kv_limited`` says that
    the KV cache holds no larger batch, and ``kv_gain`` by which share the largest batch would raise
    the rate.
    """

    rate_per_s: float
    step_tokens: int
    decode_seqs: float
    kv_limited: bool
    busiest: Resource = "step time"
    kv_gain: float = 0.0

    @property
    def binds(self) -> Resource | Literal["KV cache"]:
        """The limit that a higher rate would have to move."""
        return "KV cache" if self.kv_gain > _NOTICEABLE else self.busiest


def throughput_bound(fleet: Fleet, group: ReplicaGroup, workload: Workload) -> ThroughputBound:
    """Requests per second that one replica of ``group`` computes with deadlines ignored.

    In a saturated steady state a request takes P prompt and O - 1 decode tokens through steps of T
    tokens each, so it accounts for (P + O - 1) / T steps, and a step carries T * (O - 1) /
    (P + O - 1) decodes. A request costs its steps' fixed part, its own attention work and the
    context its decodes read; T grows until the decodes' contexts fill the KV cache. Raises
    InputError for a step-time model that is not affine in work and context, for one that takes no
    time, and for prefix caching, because the formula does not know the work that caching saves.
    """
    if fleet.engine_of(group).prefix_caching and len(workload.hash_values):
        raise InputError("the throughput bound does not cover prefix caching")
    if group.speculation is not None:
        raise InputError("the throughput bound does not cover speculative decoding")
    model = step_time(group)
    slopes = model.slopes
    if slopes is None:
        raise InputError("the throughput bound needs a step time that is affine in context")
    prompt = workload.prompt_tokens.astype(np.float64)
    decodes = np.maximum(workload.output_tokens - 1, 0).astype(np.float64)
    tokens, decode_tokens = float((prompt + decodes).mean()), float(decodes.mean())
    context = float((decodes * (prompt + (decodes + 1) / 2)).mean())
    own_s = slopes.work_s * float((prompt * prompt / 2).mean()) + slopes.context_s * context
    capacity = kv_tokens(fleet, group)

    def at(step_tokens: int) -> ThroughputBound:
        seqs = step_tokens * decode_tokens / tokens
        cost_s = tokens / step_tokens * _base_s(model, step_tokens, seqs) + own_s
        if cost_s <= 0.0:
            raise InputError("the throughput bound needs a step time above 0")
        return ThroughputBound(1.0 / cost_s, step_tokens, seqs, kv_limited=False)

    def finished(best: ThroughputBound, *, kv_limited: bool) -> ThroughputBound:
        steps = tokens / best.step_tokens  # of a request
        decode_seqs = round(best.decode_seqs)
        features = StepFeatures(max(0, best.step_tokens - decode_seqs),
                                float((prompt * prompt / 2).mean()) / steps, decode_seqs,
                                round(context / steps))
        gain = at(MAX_STEP_TOKENS).rate_per_s / best.rate_per_s - 1.0 if kv_limited else 0.0
        return replace(best, kv_limited=kv_limited, kv_gain=max(0.0, gain),
                       busiest=_busiest(group, model, features))

    best: ThroughputBound | None = None
    for step_tokens in _step_sizes():
        found = at(step_tokens)
        held = found.decode_seqs * context / decode_tokens if decode_tokens else 0.0
        if held > capacity and best is not None:
            return finished(best, kv_limited=True)
        if best is None or found.rate_per_s > best.rate_per_s:
            best = found
    assert best is not None, "there are step sizes"
    return finished(best, kv_limited=False)


@dataclass(frozen=True, slots=True)
class WorkRates:
    """Seconds that requests take of one replica in the steps of a throughput bound: for each token,
    for each unit of attention work and for each token of context."""

    token_s: float
    work_s: float
    context_s: float

    def seconds(self, workload: Workload) -> Seconds:
        """Return the seconds that each request takes, shape (requests,)."""
        prompt = workload.prompt_tokens.astype(np.float64)
        decodes = np.maximum(workload.output_tokens - 1, 0).astype(np.float64)
        found: Seconds = ((prompt + decodes) * self.token_s + self.work_s * prompt * prompt / 2
                          + self.context_s * decodes * (prompt + (decodes + 1) / 2))
        return found


def work_rates(fleet: Fleet, group: ReplicaGroup, workload: Workload) -> WorkRates:
    """Return what requests take of one replica of ``group`` in the steps of the throughput bound.
    The mean of the seconds is the inverse of the bound's rate. Raises InputError as
    ``throughput_bound`` does."""
    bound = throughput_bound(fleet, group, workload)
    model = step_time(group)
    slopes = model.slopes
    assert slopes is not None, "there is a bound"
    return WorkRates(_base_s(model, bound.step_tokens, bound.decode_seqs) / bound.step_tokens,
                     slopes.work_s, slopes.context_s)


def _busiest(group: ReplicaGroup, model: StepTimeModel, features: StepFeatures) -> Resource:
    """The resource that a step would keep busy the longest, each at its accelerator's peak."""
    try:
        peaks = units(group.model, group.accelerator, group.parallelism, group.precision,
                      group.kv_precision)
    except (InputError, KeyError):
        return "step time"
    weights, dense, experts, expert_flops, decodes, prompts, elementwise, link = peaks.parts(
        *(np.array([value], np.float64) for value in features))[:8, 0]
    busy_s: dict[Resource, float] = {
        "memory bandwidth": weights + experts + decodes + elementwise,
        "compute": dense + expert_flops + prompts,
        "link": link if group.accelerator.link_bytes_per_s > 0 else 0.0,
        "step overhead": model.predict(features).parts.get("overhead", 0.0)}
    return max(busy_s, key=lambda resource: busy_s[resource])


def _step_sizes() -> list[int]:
    """Step totals 1 to 2 % apart: the cost is flat near its minimum."""
    sizes = np.unique(np.geomspace(16, MAX_STEP_TOKENS, 600).astype(int))
    return [int(size) for size in sizes]


def _base_s(model: StepTimeModel, step_tokens: int, seqs: float) -> float:
    decode_seqs = round(seqs)
    return model.seconds(max(0, step_tokens - decode_seqs), 0.0, decode_seqs, 0)
