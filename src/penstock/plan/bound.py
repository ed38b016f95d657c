"""The rate that one replica could compute if no request had a deadline."""

from dataclasses import dataclass

import numpy as np

from penstock.core.errors import InputError
from penstock.fleet.replica_factory import step_time
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.workload.workload import Workload

MAX_STEP_TOKENS = 65_536


@dataclass(frozen=True, slots=True)
class ThroughputBound:
    """The rate that saturates one replica, and the steps that reach it."""

    rate_per_s: float
    step_tokens: int
    decode_seqs: float
    kv_limited: bool


def throughput_bound(fleet: Fleet, group: ReplicaGroup, workload: Workload) -> ThroughputBound:
    """Requests per second that one replica of ``group`` computes with deadlines ignored.

    In a saturated steady state a request takes P prompt and O - 1 decode tokens through steps of T
    tokens each, so it accounts for (P + O - 1) / T steps, and a step carries T * (O - 1) /
    (P + O - 1) decodes. A request costs its steps' fixed part, its own attention work and the
    context its decodes read; T grows until the decodes' contexts fill the KV cache. Raises
    InputError for a step-time model that is not affine in work and context, for one that takes no
    time, and for prefix caching, because the formula does not know the work that caching saves.
    """
    if fleet.engine.prefix_caching and len(workload.hash_values):
        raise InputError("the throughput bound does not cover prefix caching")
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
    best = ThroughputBound(0.0, 0, 0.0, kv_limited=False)
    for step_tokens in _step_sizes():
        seqs = step_tokens * decode_tokens / tokens
        held = seqs * context / decode_tokens if decode_tokens else 0.0
        if held > capacity and best.rate_per_s > 0.0:
            return ThroughputBound(best.rate_per_s, best.step_tokens, best.decode_seqs,
                                   kv_limited=True)
        cost_s = tokens / step_tokens * _base_s(model, step_tokens, seqs) + own_s
        if cost_s <= 0.0:
            raise InputError("the throughput bound needs a step time above 0")
        if 1.0 / cost_s > best.rate_per_s:
            best = ThroughputBound(1.0 / cost_s, step_tokens, seqs, kv_limited=False)
    return best


def _step_sizes() -> list[int]:
    """Step totals 1 to 2 % apart: the cost is flat near its minimum."""
    sizes = np.unique(np.geomspace(16, MAX_STEP_TOKENS, 600).astype(int))
    return [int(size) for size in sizes]


def _base_s(model: StepTimeModel, step_tokens: int, seqs: float) -> float:
    decode_seqs = round(seqs)
    return model.seconds(max(0, step_tokens - decode_seqs), 0.0, decode_seqs, 0)
