"""Decisions of the fast loop: one replica more, one less, or none, from what engines hold now.

Source: ai-dynamo/dynamo components/src/dynamo/planner/core/load_scaling.py, aggregated engines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from penstock.published.autoscalers.dynamo.rates import Engine
from penstock.published.autoscalers.lengths import Lengths

THRESHOLDS = {"throughput": (1.0, 0.6), "latency": (0.4, 0.1)}
"""Shares of the KV cache, with the prompts that wait, above and below which replicas change."""


class Worker(NamedTuple):
    """Prompt tokens that wait at one engine, and tokens in its KV cache."""

    queued_tokens: float
    kv_tokens: float


class Move(NamedTuple):
    """Change of the number of replicas, and why."""

    change: int
    reason: str


@dataclass(frozen=True, slots=True)
class LoadView:
    """Inputs of estimated latencies: the engine, the lengths, the means of a decode's context and
    of the prompt tokens of a step, the objectives, and the share of them that must be kept with one
    replica less."""

    engine: Engine
    lengths: Lengths
    decode_tokens: float
    step_prefill_tokens: float
    ttft_s: float
    itl_s: float
    sensitivity: float

    def estimated_itl_s(self, kv_tokens: float) -> float:
        """Return the time of a step with a further decode."""
        return self.engine.plane.seconds(self.step_prefill_tokens, kv_tokens + self.decode_tokens)


def by_thresholds(workers: Sequence[Worker], kv_total_tokens: int, target: str) -> Move:
    """Add where any engine is above its threshold, remove where all are below theirs."""
    above, below = THRESHOLDS[target]
    used = [(one.kv_tokens + one.queued_tokens) / kv_total_tokens for one in workers]
    if any(share > above for share in used):
        return Move(1, "scale up")
    if len(workers) > 1 and all(share < below for share in used):
        return Move(-1, "scale down")
    return Move(0, "no change")


def by_objectives(workers: Sequence[Worker], view: LoadView) -> Move:
    """Add where all engines miss one objective, remove where one less would keep both."""
    ttft = [view.engine.ttft_s(one.queued_tokens, view.lengths, one.kv_tokens) for one in workers]
    itl = [view.estimated_itl_s(one.kv_tokens) for one in workers]
    if all(one > view.ttft_s for one in ttft) or all(one > view.itl_s for one in itl):
        return Move(1, "scale up")
    if len(workers) < 2:
        return Move(0, "no change")
    more = len(workers) / (len(workers) - 1)
    if all(_prefill_fits(one, more, view) and _decode_fits(one, more, view) for one in workers):
        return Move(-1, "scale down")
    return Move(0, "scale down refused: consolidation")


def _prefill_fits(worker: Worker, more: float, view: LoadView) -> bool:
    """Whether the wait of a prompt stays in its part of the objective where an engine gets so many
    times the load. The prompt's own time does not change with the number of engines."""
    kv_tokens = int(worker.kv_tokens * more)
    own_s = view.engine.ttft_s(0.0, view.lengths, kv_tokens)
    queued_s = view.engine.ttft_s(int(worker.queued_tokens * more), view.lengths,
                                  kv_tokens) - own_s
    return queued_s < (view.ttft_s - own_s) * view.sensitivity


def _decode_fits(worker: Worker, more: float, view: LoadView) -> bool:
    """Whether cache and step time have room for so many times the load."""
    kv_tokens = int((worker.kv_tokens + worker.queued_tokens) * more)
    return kv_tokens < view.engine.kv_total_tokens and (
        view.estimated_itl_s(kv_tokens) < view.itl_s * view.sensitivity)
